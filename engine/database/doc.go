// Package database is the engine for users of databases that are made on demand and
// live as long as their lease: config names a database and how to log in to it, a role
// says what its users may do, and to read creds makes one.
//
// What differs from one kind of database to another is behind the contract Plugin, each
// in a folder below this one; dbtest is the contract as tests. What never lives here:
// SQL, and the leases, which are core's. Start at Backend, then creds.go; DESIGN.md says
// why it is safe.
package database
