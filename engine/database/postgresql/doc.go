// Package postgresql is the plug-in of engine/database for PostgreSQL.
//
// A new user's password does not reach the server: it gets a SCRAM verifier made here
// (scram.go), which its logs may show and which costs it no hashing. What is put into
// statements can do no harm between quotes, or is refused; a statement that was filled in
// is never told to anybody.
//
// Start at Plugin, then connection.go.
package postgresql
