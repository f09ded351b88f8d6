// Package auth holds what the auth methods have in common: the token_* fields of
// their roles, the errors of a refused login, names, address ranges, metadata.
//
// An auth method is an engine.Backend that is mounted below auth/. Its login
// routes are open, check a credential of their own and end in engine.Call.Login;
// core makes the token, in the same transaction. The methods are siblings in
// folders below this one. What every one of them must keep to is a test suite,
// in authtest.
//
// What never lives here: tokens, policies, sessions, keys, the network (but for
// auth/jwt, which fetches public keys).
//
// Start reading at CredentialError, then TokenFields.
package auth
