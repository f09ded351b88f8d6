package database

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/password"
)

// config is the record of a database.
type config struct {
	Plugin           string          `json:"plugin_name"`
	URL              string          `json:"connection_url"`
	Username         string          `json:"username"`
	Password         string          `json:"password"`
	Next             string          `json:"next"` // of a rotation that is not promoted; see rotate.go
	AllowedRoles     engine.Strings  `json:"allowed_roles"`
	Verify           bool            `json:"verify_connection"`
	PasswordPolicy   string          `json:"password_policy"`
	UsernameTemplate string          `json:"username_template"`
	Rotation         Statements      `json:"rotation"`
	MaxOpen          int             `json:"max_open_connections"`
	MaxIdle          int             `json:"max_idle_connections"`
	MaxLifetime      engine.Duration `json:"max_connection_lifetime"`
	Plain            bool            `json:"plain"`
	TLSAuthority     string          `json:"tls_ca"`
	TLSCertificate   string          `json:"tls_certificate"`
	TLSKey           string          `json:"private_key"`
	Resets           int             `json:"resets"` // with each of them, pools are opened anew
}

// passwords are those that the database may know the user by.
func (c *config) passwords() []string {
	if c.Next == "" {
		return []string{c.Password}
	}
	return []string{c.Password, c.Next}
}

func (c *config) settings(password string) Settings {
	return Settings{URL: c.URL, Username: c.Username, Password: redact.New([]byte(password)), Plain: c.Plain,
		Authority: c.TLSAuthority, Certificate: c.TLSCertificate, Key: redact.New([]byte(c.TLSKey)),
		MaxOpen: c.MaxOpen, MaxIdle: c.MaxIdle, MaxLifetime: time.Duration(c.MaxLifetime)}
}

func configPath(name string) engine.Path { return engine.Path{"config", name} }

// retiredPath is where a config is kept that was deleted and whose users may live.
func retiredPath(name string) engine.Path { return engine.Path{"retired", name} }

// configAt reads a record; nil: there is none.
func configAt(tx engine.Tx, at engine.Path) (*config, error) {
	c := &config{}
	found, err := engine.GetJSON(tx, at, c)
	if err != nil || !found {
		return nil, err
	}
	return c, nil
}

// configNamed reads the config that a request names; nil: there is none.
func configNamed(c *engine.Call, name string) (*config, error) {
	if err := checkName("config", name); err != nil {
		return nil, err
	}
	return configAt(c, configPath(name))
}

// existingConfig is the config that a request needs.
func existingConfig(c *engine.Call, name string) (*config, error) {
	found, err := configNamed(c, name)
	if err == nil && found == nil {
		err = &engine.InvalidError{Why: "no config of that name: write config/NAME first"}
	}
	return found, err
}

type configName struct {
	Name string `path:"name" doc:"name of the config"`
}

// writeConfigRequest says what shall change; nil: nothing.
type writeConfigRequest struct {
	configName
	Plugin           *engine.Text     `json:"plugin_name" doc:"kind of the database, such as postgresql-database-plugin"`
	URL              *engine.Text     `json:"connection_url" doc:"where it is, with {{username}} and {{password}} in their places"`
	Username         *engine.Text     `json:"username" doc:"whom to log in as"`
	Password         *engine.Text     `json:"password" doc:"password of that user; never shown"`
	AllowedRoles     *engine.Strings  `json:"allowed_roles" doc:"roles that may use it; * for all"`
	Verify           *engine.Bool     `json:"verify_connection" doc:"whether to log in before this is written; true unless said otherwise"`
	PasswordPolicy   *engine.Text     `json:"password_policy" doc:"password policy of users and of rotations; empty: 20 letters and digits"`
	UsernameTemplate *engine.Text     `json:"username_template" doc:"template of user names; empty: the usual one"`
	Rotation         *Statements      `json:"root_rotation_statements" doc:"statements of rotate-root; empty: the usual ones"`
	MaxOpen          *engine.Int      `json:"max_open_connections" doc:"connections of a node at once; 4 unless said otherwise"`
	MaxIdle          *engine.Int      `json:"max_idle_connections" doc:"connections of a node that are kept unused; 0: as many as may be open"`
	MaxLifetime      *engine.Duration `json:"max_connection_lifetime" doc:"time after which a connection is not used again; 0: without limit"`
	Authentication   *engine.Text     `json:"password_authentication" doc:"scram-sha-256, which shows the database no password of a user, or password"`
	TLSAuthority     *engine.Text     `json:"tls_ca" doc:"authority, in PEM, that must have signed the certificate of the database"`
	TLSCertificate   *engine.Text     `json:"tls_certificate" doc:"certificate, in PEM, to log in with"`
	TLSKey           *engine.Text     `json:"private_key" doc:"key of that certificate, in PEM; never shown"`
}

func (q *writeConfigRequest) apply(c *config) error {
	for to, from := range map[*string]*engine.Text{&c.Plugin: q.Plugin, &c.URL: q.URL, &c.Username: q.Username,
		&c.PasswordPolicy: q.PasswordPolicy, &c.UsernameTemplate: q.UsernameTemplate,
		&c.TLSAuthority: q.TLSAuthority, &c.TLSCertificate: q.TLSCertificate, &c.TLSKey: q.TLSKey} {
		if from != nil {
			*to = string(*from)
		}
	}
	if q.Password != nil {
		c.Password, c.Next = string(*q.Password), ""
	}
	if q.AllowedRoles != nil {
		c.AllowedRoles = *q.AllowedRoles
	}
	if q.Verify != nil {
		c.Verify = bool(*q.Verify)
	}
	if q.Rotation != nil {
		c.Rotation = *q.Rotation
	}
	if q.MaxLifetime != nil {
		c.MaxLifetime = *q.MaxLifetime
	}
	for to, from := range map[*int]*engine.Int{&c.MaxOpen: q.MaxOpen, &c.MaxIdle: q.MaxIdle} {
		if from == nil {
			continue
		}
		if *from < 0 || *from > 1000 {
			return &engine.InvalidError{Why: "max_open_connections and max_idle_connections lie between 0 and 1000"}
		}
		*to = int(*from)
	}
	if q.Authentication != nil {
		switch *q.Authentication {
		case "scram-sha-256", "":
			c.Plain = false
		case "password":
			c.Plain = true
		default:
			return &engine.InvalidError{Why: "password_authentication is neither scram-sha-256 nor password"}
		}
	}
	return nil
}

// check refuses what cannot work, without asking the database.
func (c *config) check(call *engine.Call, p Plugin) error {
	for _, role := range c.AllowedRoles {
		if role == "*" {
			continue
		}
		if err := checkName("role in allowed_roles", role); err != nil {
			return err
		}
	}
	if _, err := c.names(p); err != nil {
		return err
	}
	if err := p.Check(c.settings(c.Password)); err != nil {
		return err
	}
	_, err := c.policy(call)
	return err
}

// names is how users are called.
func (c *config) names(p Plugin) (*nameTemplate, error) {
	usual := p.Usernames()
	text := c.UsernameTemplate
	if text == "" {
		text = usual.Template
	}
	return parseNames(text, usual.MaxBytes)
}

// policy is what passwords look like.
func (c *config) policy(call *engine.Call) (*password.Policy, error) {
	if c.PasswordPolicy == "" {
		return password.Default(), nil
	}
	missing := &engine.InvalidError{Why: "there is no password policy of the name in password_policy: write sys/policies/password/NAME first"}
	host := call.Host()
	if host == nil {
		return nil, missing
	}
	text, ok, err := host.PasswordPolicyText(c.PasswordPolicy)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, missing
	}
	p, err := password.Parse(text)
	if errors.Is(err, password.ErrPolicy) {
		err = &engine.InvalidError{Why: err.Error()}
	}
	return p, err
}

// allows tells whether users may be made by a role.
func (c *config) allows(role string) bool {
	return slices.Contains(c.AllowedRoles, "*") || slices.Contains(c.AllowedRoles, role)
}

func (b *Backend) configRoutes() []engine.Route {
	const one = "config/{name}"
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "config", Summary: "List the configs"}, list("config")),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Read a config, without its password"}, b.readConfig),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one, Writes: true,
			Summary: "Say where a database is and how to log in, or change what is sent of it"}, b.writeConfig),
			func(c *engine.Call, q *writeConfigRequest) (bool, error) {
				found, err := configNamed(c, q.Name)
				return found != nil, err
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: one, Writes: true,
			Summary: "Remove a config; what undoing needs of it is kept as long as the mount has leases"}, b.deleteConfig),
	}
}

type listRequest struct {
	After engine.Text `json:"after" doc:"list only what follows this name"`
	Limit engine.Int  `json:"limit" doc:"list at most so many names; 0 or less: all"`
}

// maxListed bounds a listing.
const maxListed = 1 << 16

func list(dir string) func(*engine.Call, *listRequest) (*engine.ListAnswer, error) {
	return func(c *engine.Call, q *listRequest) (*engine.ListAnswer, error) {
		page := engine.ListRequest{After: string(q.After), Limit: q.Limit}
		keys, err := page.Page(c, maxListed, func(after string, limit int) ([]string, bool, error) {
			return c.Records(engine.Path{dir}, after, limit)
		})
		return &engine.ListAnswer{Keys: keys}, err
	}
}

// configResponse is what a reader sees of a config.
type configResponse struct {
	Plugin         string            `json:"plugin_name"`
	Version        string            `json:"plugin_version"`
	AllowedRoles   engine.Strings    `json:"allowed_roles"`
	Details        connectionDetails `json:"connection_details"`
	PasswordPolicy string            `json:"password_policy"`
	Rotation       Statements        `json:"root_credentials_rotate_statements"`
	Verify         bool              `json:"verify_connection"`
}

type connectionDetails struct {
	URL              string          `json:"connection_url"`
	Username         string          `json:"username"`
	UsernameTemplate string          `json:"username_template"`
	MaxOpen          int             `json:"max_open_connections"`
	MaxIdle          int             `json:"max_idle_connections"`
	MaxLifetime      engine.Duration `json:"max_connection_lifetime"`
	Authentication   string          `json:"password_authentication"`
	TLSAuthority     string          `json:"tls_ca"`
	TLSCertificate   string          `json:"tls_certificate"`
}

func (b *Backend) readConfig(c *engine.Call, q *configName) (*configResponse, error) {
	found, err := configNamed(c, q.Name)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, &engine.NotFoundError{What: "config"}
	}
	authentication := "scram-sha-256"
	if found.Plain {
		authentication = "password"
	}
	return &configResponse{Plugin: found.Plugin, AllowedRoles: found.AllowedRoles, PasswordPolicy: found.PasswordPolicy, Rotation: found.Rotation, Verify: found.Verify,
		Details: connectionDetails{found.URL, found.Username, found.UsernameTemplate, found.MaxOpen, found.MaxIdle, found.MaxLifetime,
			authentication, found.TLSAuthority, found.TLSCertificate}}, nil
}

func (b *Backend) writeConfig(c *engine.Call, q *writeConfigRequest) (*struct{}, error) {
	written, err := configNamed(c, q.Name)
	if err != nil {
		return nil, err
	}
	if written == nil {
		written = &config{Verify: true}
	}
	if err := q.apply(written); err != nil {
		return nil, err
	}
	p, err := b.plugin(written.Plugin)
	if err != nil {
		return nil, err
	}
	written.Plugin = p.Names()[0]
	if err := written.check(c, p); err != nil {
		return nil, err
	}
	if written.Verify {
		c.Before(func(ctx context.Context) error { return b.login(ctx, written, verify) })
	}
	// What an earlier config of the name made is undone by this one from now on.
	if err := c.DeleteRecord(retiredPath(q.Name)); err != nil {
		return nil, err
	}
	return nil, engine.PutJSON(c, configPath(q.Name), written)
}

// verify logs in with a connection of its own: one that is open proves nothing.
func verify(ctx context.Context, p Plugin, s Settings) error {
	connection, err := p.Open(s)
	if err != nil {
		return err
	}
	defer connection.Close()
	return connection.Verify(ctx)
}

// deleteConfig hides a config at once: nobody can make users with it. Whether it is
// needed to undo is looked up when it is hidden, so that no request can make a user in
// between.
func (b *Backend) deleteConfig(c *engine.Call, q *configName) (*struct{}, error) {
	found, err := configNamed(c, q.Name)
	if err != nil {
		return nil, err
	}
	if found != nil {
		if err := engine.PutJSON(c, retiredPath(q.Name), found); err != nil {
			return nil, err
		}
		c.Again()
		return nil, c.DeleteRecord(configPath(q.Name))
	}
	retired, err := configAt(c, retiredPath(q.Name))
	if err != nil || retired == nil {
		return nil, err
	}
	if host := c.Host(); host != nil {
		leaseless, err := host.Leaseless()
		if err != nil {
			return nil, err
		}
		if leaseless {
			return nil, c.DeleteRecord(retiredPath(q.Name))
		}
	}
	c.Warn("The mount has leases, so how to log in is kept, sealed, to remove their users. Revoke them and delete this once more, and it is gone.")
	return nil, nil
}

// reset has all nodes use new connections: the config is another one.
func (b *Backend) reset(c *engine.Call, q *configName) (*struct{}, error) {
	found, err := existingConfig(c, q.Name)
	if err != nil {
		return nil, err
	}
	found.Resets++
	return nil, engine.PutJSON(c, configPath(q.Name), found)
}

var errNoConfig = errors.New("the config that a user was made with is gone")
