package engine

import "reflect"

// A Parameter is one thing that a request of a route may carry.
type Parameter struct {
	Name   string
	InPath bool // a variable of the path; else a field of the body or the query
	Doc    string
	Type   reflect.Type
}

// Parameters lists what a request may carry, in the order of the struct that
// NewRoute was given. The whole body as an Object is not among them; see TakesBody.
func (r Route) Parameters() []Parameter {
	if r.request == nil {
		return nil
	}
	out := make([]Parameter, len(r.request.fields))
	for i, f := range r.request.fields {
		out[i] = Parameter{Name: f.name, InPath: f.path, Doc: f.doc, Type: f.kind}
	}
	return out
}

// TakesBody tells whether the route takes a body whose fields are the user's own.
func (r Route) TakesBody() bool { return r.request != nil && r.request.body >= 0 }

// Response is the type of the answer's data; a struct without fields: none.
func (r Route) Response() reflect.Type { return r.response }

// TellsCreation tells whether the route is a write that tells an update from a
// creation, which need different capabilities.
func (r Route) TellsCreation() bool { return r.exists != nil }

// Variable returns the name in a segment {name}, {name...} or {name*} of a route's
// path; ok is false for a literal one.
func Variable(segment string) (name string, ok bool) { return variable(segment) }
