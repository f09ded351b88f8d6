package postgresql

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/conclave-secrets/conclave/engine/database"
	"github.com/conclave-secrets/conclave/engine/database/dbtest"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/internal/testpostgres"
)

func TestMain(m *testing.M) { os.Exit(testpostgres.Main(m)) }

const creation = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`

func superuser(s *testpostgres.Server) database.Settings {
	return database.Settings{URL: s.URL("postgres"), Username: testpostgres.Superuser, Password: redact.New([]byte(s.Password))}
}

// maker may do no more than make users, and let them make tables.
func maker(t *testing.T, s *testpostgres.Server) database.Settings {
	t.Helper()
	made := superuser(s)
	made.Username, made.Password = "maker", redact.New([]byte("maker-password"))
	if s.Login(t.Context(), "maker", "maker-password") != nil {
		s.Exec(t, "CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'maker-password'", "GRANT CREATE ON SCHEMA public TO maker WITH GRANT OPTION")
	}
	return made
}

// The plug-in keeps its contract, on a real server, as its superuser and as somebody who
// may do no more than make users.
func TestPlugin(t *testing.T) {
	s := testpostgres.Get(t)
	var roots atomic.Int64
	for name, settings := range map[string]database.Settings{"superuser": superuser(s), "maker": maker(t, s)} {
		t.Run(name, func(t *testing.T) {
			dbtest.Test(t, dbtest.Target{
				Plugin: Plugin{}, Settings: settings,
				At: func(address string) database.Settings {
					at := settings
					at.URL = "postgresql://{{username}}:{{password}}@" + address + "/postgres"
					return at
				},
				Creation: []string{creation},
				Broken:   []string{creation + `GRANT nobody_has_this_role TO "{{name}}"`},
				NewRoot: func(t testing.TB) database.Settings {
					root := settings
					root.Username, root.Password = fmt.Sprintf("root%d", roots.Add(1)), redact.New([]byte("Root0password"))
					s.Exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'Root0password'", root.Username))
					return root
				},
				Login: func(ctx context.Context, name, password string) error {
					c, err := loginAs(ctx, database.Settings{URL: s.URL("postgres"), Username: name, Password: redact.New([]byte(password))})
					if err != nil {
						return err
					}
					return c.Close(ctx)
				},
				Logged: s.Logged,
			})
		})
	}
}

// The verifier is that of the example in RFC 7677: user "user", password "pencil".
func TestVerifier(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	got, err := verifier(redact.New([]byte("pencil")), salt)
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if err != nil || got != want {
		t.Errorf("got %s %v\nwant %s", got, err, want)
	}
}

// Statements are cut where PostgreSQL would, and nowhere else.
func TestSplit(t *testing.T) {
	for text, want := range map[string][]string{
		"":                              nil,
		" ; ;; ":                        nil,
		"A;B":                           {"A", "B"},
		"A 'x;y''z;' B; C":              {"A 'x;y''z;' B", "C"},
		`A "x;y" B;C`:                   {`A "x;y" B`, "C"},
		"DO $$BEGIN A; B; END$$; C":     {"DO $$BEGIN A; B; END$$", "C"},
		"DO $f$A; $$;$$ B;$f$;C":        {"DO $f$A; $$;$$ B;$f$", "C"},
		"A -- not; here\n;B":            {"A -- not; here", "B"},
		"A /* x; /* y; */ z; */ B;C":    {"A /* x; /* y; */ z; */ B", "C"},
		`A E'x\';y';B`:                  {`A E'x\';y'`, "B"},
		`A 'x\';B`:                      {`A 'x\'`, "B"},
		"A $1;B":                        {"A $1", "B"},
		"A a$$;B$$":                     {"A a$$", "B$$"},
		"CREATE ROLE \"{{name}}\"; X;;": {`CREATE ROLE "{{name}}"`, "X"},
	} {
		got, err := split(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"'", `A "b`, "$$ A;", "$f$ A $$", "/* /* */", `E'\'`} {
		if got, err := split(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"A;B", "'a;'", "$$;$$;", "/*;*/;--;\n;E'\\';'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		statements, err := split(text)
		if err != nil {
			return
		}
		size := 0
		for _, s := range statements {
			size += len(s)
			again, err := split(s)
			if err != nil || len(again) != 1 || again[0] != s {
				t.Errorf("%q is split again into %q %v", s, again, err)
			}
		}
		if size > len(text) {
			t.Errorf("%q became longer: %q", text, statements)
		}
	})
}

// Settings that cannot work, or that would look at the files of a node, are refused
// without repeating what they say.
func TestCheck(t *testing.T) {
	for _, url := range []string{"", "nonsense://{{username}}", "postgresql://u:Inline0password@h/db", "host=h user=u password=Inline0password",
		"postgresql://{{username}}:{{password}}@h/db?sslmode=Nonsense0", "postgresql://{{username}}:{{password}}@h/db?sslmode=require&sslrootcert=/etc/Nonsense0"} {
		err := Plugin{}.Check(database.Settings{URL: url, Username: "u"})
		if err == nil || strings.Contains(err.Error(), "Inline0") || strings.Contains(err.Error(), "Nonsense0") {
			t.Errorf("%q: got %v", url, err)
		}
	}
	good := database.Settings{URL: "postgresql://{{username}}:{{password}}@h/db", Username: `any@: user`, Password: redact.New([]byte(`p@:/ %'"`))}
	cfg, err := parse(good)
	if err != nil || cfg.User != good.Username || cfg.Password != `p@:/ %'"` || cfg.Host != "h" {
		t.Errorf("got %+v %v", cfg, err)
	}
	if _, err := parse(database.Settings{URL: good.URL}); err == nil {
		t.Error("no user name, and no error")
	}
}

// With an authority, a server with another certificate is not talked to, nor one without
// TLS; and statements that end nothing are told by their number.
func TestCertificate(t *testing.T) {
	s := testpostgres.Get(t)
	verify := func(change func(*database.Settings)) error {
		settings := superuser(s)
		settings.Authority = s.Authority
		change(&settings)
		c, err := Plugin{}.Open(settings)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Verify(t.Context())
	}
	if err := verify(func(*database.Settings) {}); err != nil {
		t.Errorf("the right authority: %v", err)
	}
	if err := verify(func(o *database.Settings) { o.Authority = otherAuthority }); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another authority: %v", err)
	}
	if err := verify(func(o *database.Settings) { o.URL = strings.Replace(o.URL, "require", "disable", 1) }); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("without TLS: %v", err)
	}
	if err := verify(func(o *database.Settings) { o.Authority = "no PEM" }); err == nil || !strings.Contains(err.Error(), "PEM") {
		t.Errorf("no PEM: %v", err)
	}
}

// What a user made goes to the one who removes it, and open sessions end, also where that
// one may do no more than make users.
func TestDropEndsSessions(t *testing.T) {
	s := testpostgres.Get(t)
	for name, settings := range map[string]database.Settings{"superuser": superuser(s), "maker": maker(t, s)} {
		t.Run(name, func(t *testing.T) { dropEndsSessions(t, s, settings) })
	}
}

func dropEndsSessions(t *testing.T, s *testpostgres.Server, settings database.Settings) {
	c, err := Plugin{}.Open(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := database.Account{Name: "owner", Password: redact.New([]byte("Owner0password")), Until: testEnd,
		Statements: []string{creation, `GRANT CREATE ON SCHEMA public TO "{{name}}"`}}
	if err := c.Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	session := s.Session(t, "owner", "Owner0password")
	if _, err := session.Exec(t.Context(), "CREATE TABLE owned (n int)"); err != nil {
		t.Fatal(err)
	}
	if err := c.Drop(t.Context(), "owner", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the session goes on")
	}
	s.Exec(t, "SELECT * FROM owned", "DROP TABLE owned")
}

// Statements of one's own that speak of a user who is gone have nothing to do; what else
// fails with them fails.
func TestOwnRevocationOfNobody(t *testing.T) {
	s := testpostgres.Get(t)
	c, err := Plugin{}.Open(superuser(s))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Drop(t.Context(), "nobody-there", []string{`DROP ROLE "{{name}}"`}); err != nil {
		t.Error(err)
	}
	if err := c.Drop(t.Context(), "nobody-there", []string{`DELETE FROM no_such_table WHERE name = '{{name}}'`}); err == nil {
		t.Error("statements that failed are taken for done")
	}
}

// A rotation that was overtaken while it waited for the lock takes nothing back.
func TestRotationOvertaken(t *testing.T) {
	s := testpostgres.Get(t)
	s.Exec(t, "CREATE ROLE overtaken LOGIN PASSWORD 'Root0password'")
	root := superuser(s)
	root.Username, root.Password = "overtaken", redact.New([]byte("Root0password"))
	holder := s.Session(t, testpostgres.Superuser, s.Password)
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(hashtext('conclave'), hashtext('overtaken'))"); err != nil {
		t.Fatal(err)
	}
	rotated := make(chan error, 1)
	go func() { rotated <- Plugin{}.Rotate(t.Context(), root, redact.New([]byte("Late0password1")), nil) }()
	for waits := false; !waits; {
		select {
		case err := <-rotated:
			t.Fatalf("it did not wait for the lock: %v", err)
		default:
		}
		if err := holder.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)").Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{"ALTER ROLE overtaken PASSWORD 'Other0password'", "SELECT pg_advisory_unlock_all()"} {
		if _, err := holder.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-rotated; !errors.Is(err, database.ErrLogin) {
		t.Errorf("got %v, want an ErrLogin", err)
	}
	if err := s.Login(t.Context(), "overtaken", "Other0password"); err != nil {
		t.Errorf("the password was taken back: %v", err)
	}
}

// What the server says of a statement that was filled in may quote a password, and is not
// told then.
func TestErrorsQuoteNothing(t *testing.T) {
	s := testpostgres.Get(t)
	settings := superuser(s)
	settings.Plain = true
	c, err := Plugin{}.Open(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, statement := range []string{`CREATE ROLE "{{name}}" PASSWORD {{password}}`, `CREATE ROLE "{{name}}" PASSWORD '{{password}}' VALID UNTIL '{{password}}'`, `{{password}}`, `SELECT '{{password}}'::int`} {
		err := c.Create(t.Context(), database.Account{Name: "quoted", Password: redact.New([]byte("Quoted0password")), Until: testEnd, Statements: []string{statement}})
		if err == nil || !strings.Contains(err.Error(), "statement 1 of creation_statements failed") || strings.Contains(fmt.Sprintf("%+v", err), "Quoted0") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	for _, password := range []string{"a'b", `a\b`, "a$b", "ä"} {
		err := c.Create(t.Context(), database.Account{Name: "quoted", Password: redact.New([]byte(password)), Until: testEnd, Statements: []string{creation}})
		if err == nil || !strings.Contains(err.Error(), "password policy") {
			t.Errorf("%q: %v", password, err)
		}
	}
}
