// Package password says what passwords must look like, and makes them.
//
// A Policy is written in Vault's words for password policies:
//
//	length = 20
//	rule "charset" {
//	  charset   = "abcdefghijklmnopqrstuvwxyz"
//	  min-chars = 1
//	}
//
// Characters are drawn from all charsets together; each rule asks for so many of its
// own. Of all passwords that satisfy a policy each is as likely as any other: they are
// counted (count.go), a number below the count is drawn, and the password is the one of
// that number. So nothing is tried until it fits, and the entropy is known exactly.
//
// Nothing here stores or sends a password. Start at Parse.
package password
