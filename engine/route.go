package engine

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"reflect"

	"time"
)

// Verb is what a client asks of a path. It is what the HTTP method spells, and
// what decides on the capability that a policy must grant.
type Verb uint8

const (
	VerbRead   Verb = iota + 1
	VerbList        // the names below a path
	VerbWrite       // create or update; which of them, Route.Exists tells
	VerbPatch       // change a part
	VerbDelete      // remove
)

func (v Verb) String() string {
	if names := [...]string{"", "read", "list", "write", "patch", "delete"}; int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("Verb(%d)", uint8(v))
}

// A Call is one run of a request: the transaction, who asks and where, and what
// the answer carries beside its data. It lives as long as its transaction, and a
// request may run several times: what a handler draws or notes in one run is
// gone in the next.
type Call struct {
	Tx
	Context context.Context
	Caller  Caller
	Mount   Mount
	Rand    io.Reader
	Path    string // of the request, with the mount
	Wraps   bool   // the caller wants the answer wrapped

	answer Answer
}

// Caller is who asks, as far as an engine may know.
type Caller struct {
	DisplayName string
	EntityID    string
	// TokenID names the caller's token without revealing it: what belongs to a
	// token (a cubbyhole) lies below it. Empty: the request needs none.
	TokenID string
	Address netip.Addr // zero: unknown
}

// Mount is where the engine is mounted, and how it is tuned.
type Mount struct {
	ID       string // for ever
	Path     string // ends in a slash; may change
	Accessor string
	Type     string
	Options  map[string]string
	// DefaultTTL and MaxTTL of leases and tokens, the system's where the mount
	// has none of its own.
	DefaultTTL, MaxTTL time.Duration
}

// Answer is what a handler's run came to.
type Answer struct {
	Data     any // a pointer to the route's response; nil: there is nothing to say
	Warnings []string
	// Missing: the answer is that something is not there (any more), and Data
	// says what is known of it.
	Missing bool
	// LeaseDuration says for how long a reader may use the answer before it asks
	// again, where that is said at all. There is no lease behind it.
	LeaseDuration time.Duration
	// LeaseID names the lease that the answer comes with, Renewable whether it
	// can be renewed; LeaseDuration is then its time to live.
	LeaseID   string
	Renewable bool
	Login     *Login
	Intent    *Intent
	// Before and Again are what Call.Before and Call.Again asked for.
	Before []func(context.Context) error
	Again  bool
	// Refusal: what was staged is to be committed, and then the request fails
	// with this error. Data and Login do not count.
	Refusal error
}

// Warn adds a warning to the answer. Warnings are for people; nothing secret.
func (c *Call) Warn(format string, args ...any) {
	c.answer.Warnings = append(c.answer.Warnings, fmt.Sprintf(format, args...))
}

// Missing marks the answer as one about something that is not there.
func (c *Call) Missing() { c.answer.Missing = true }

// UseFor tells a reader for how long it may use the answer before it asks again.
// It grants no lease.
func (c *Call) UseFor(d time.Duration) { c.answer.LeaseDuration = d }

// Leased tells that the answer comes with a lease.
func (c *Call) Leased(id string, ttl time.Duration, renewable bool) {
	c.answer.LeaseID, c.answer.LeaseDuration, c.answer.Renewable = id, ttl, renewable
}

// Login asks for a token: its record, lease and accessor join the transaction.
func (c *Call) Login(l Login) { c.answer.Login = &l }

// Refuse makes the request fail with err after what was staged has committed: a
// refusal that must leave a trace, such as a count of failed logins. The handler
// returns no error then; with nothing staged, it should return err instead.
func (c *Call) Refuse(err error) { c.answer.Refusal = err }

// Login is what an auth method found out about who logs in.
type Login struct {
	DisplayName string
	Alias       string            // the name of who logs in, unique in the mount
	Metadata    map[string]string // shown with the token and in the audit log
	Token       TokenSettings
}

// TokenSettings shape the tokens that a role or a login makes: the fields that
// every auth method has under the same names (token_policies, …).
type TokenSettings struct {
	Policies        Strings  `json:"token_policies" doc:"policies of the tokens"`
	TTL             Duration `json:"token_ttl" doc:"time to live; 0: the mount's default"`
	MaxTTL          Duration `json:"token_max_ttl" doc:"time to live with all renewals; 0: the mount's maximum"`
	ExplicitMaxTTL  Duration `json:"token_explicit_max_ttl" doc:"hard limit that no tuning moves"`
	Period          Duration `json:"token_period" doc:"renewals set this time to live, without a maximum"`
	BoundCIDRs      Strings  `json:"token_bound_cidrs" doc:"addresses that may use the tokens"`
	NoDefaultPolicy Bool     `json:"token_no_default_policy" doc:"without the policy named default"`
	NumUses         Int      `json:"token_num_uses" doc:"how often a token may be used; 0: without limit"`
	Type            string   `json:"token_type" doc:"service, batch or default"`
}

// A Route is one call over paths. A table of routes drives the transports, the
// policy check, the help and the OpenAPI document. Make one with NewRoute.
type Route struct {
	Verb Verb
	// Path is relative to the mount: literal segments, {name} for one segment,
	// {name...} at the end for the rest, which must not be empty, {name*} for the
	// rest, which may be; literal segments may follow the rest.
	Path        string
	Summary     string // one line, starting with a verb
	Description string // for help; may be empty
	// Writes tells that the handler stages changes.
	Writes bool
	// Open routes need no token: they check a credential of their own.
	Open bool
	// Sudo routes need the capability sudo beside that of their verb.
	Sudo bool
	// Parallel writes to one path do not contend, because each makes something
	// new (a login). Others follow one another on each node, which spares those
	// that would lose against each other's guards their work.
	Parallel bool
	// Stray routes tell who took a wrong path what is the matter. They answer only
	// where no other route has the path, with whatever verb: a verb that such a
	// path does not have is refused as such. Help and OpenAPI leave them out.
	Stray bool

	request  *shape
	response reflect.Type
	serve    func(*Call, any) (any, error)
	exists   func(*Call, any) (bool, error)
}

// NewRoute completes r with a handler. Req is a struct whose fields are bound by
// their tags (see Duration for the lenient types):
//
//	path:"name"   a variable of the path
//	json:"name"   a field of the body, or a parameter of the query
//	body:"object" the whole body, as an Object
//	doc:"…"       for help and OpenAPI
//
// Resp is a struct, or an Object, that becomes the answer's data; struct{} means
// that there is none. A Resp that implements Committer is told of the commit.
func NewRoute[Req, Resp any](r Route, handle func(*Call, *Req) (*Resp, error)) Route {
	r.request, r.response = shapeOf(reflect.TypeFor[Req](), r.Path), reflect.TypeFor[Resp]()
	none := r.response.Kind() == reflect.Struct && r.response.NumField() == 0
	r.serve = func(c *Call, in any) (any, error) {
		out, err := handle(c, in.(*Req))
		if err != nil || out == nil || none {
			return nil, err
		}
		return out, nil
	}
	return r
}

// WithExists says how a write tells an update from a creation, which need
// different capabilities. Without it a write is an update.
func WithExists[Req any](r Route, exists func(*Call, *Req) (bool, error)) Route {
	r.exists = func(c *Call, in any) (bool, error) { return exists(c, in.(*Req)) }
	return r
}

// A Committer is an answer with something that only the commit tells.
type Committer interface{ Committed(Commit) }
