package auth

import (
	"strings"

	"github.com/conclave-secrets/conclave/engine"
)

// maxNameBytes bounds the names of roles and users.
const maxNameBytes = 128

// FoldName returns the name of a role or a user as it is stored: in lower case,
// because clients have always been free in that. A name consists of ASCII letters,
// digits and _ - . @ +, and starts and ends with a letter, a digit or _. The
// error, an engine.InvalidError, does not repeat it.
func FoldName(what, name string) (string, error) {
	if name == "" || len(name) > maxNameBytes {
		return "", &engine.InvalidError{Why: "the name of the " + what + " must have 1 to 128 characters"}
	}
	name = strings.ToLower(name)
	for i := range len(name) {
		if !word(name[i]) && (i == 0 || i == len(name)-1 || !strings.ContainsRune("-.@+", rune(name[i]))) {
			return "", &engine.InvalidError{Why: "the name of the " + what + " may have letters, digits and _ - . @ +, " +
				"and must start and end with a letter, a digit or _"}
		}
	}
	return name, nil
}

// word does not take bytes beyond ASCII: ToLower maps a few of them into it, but
// then they are what they look like.
func word(b byte) bool {
	return 'a' <= b && b <= 'z' || '0' <= b && b <= '9' || b == '_'
}

// NoName is a name that FoldName never returns: what is looked up in place of a
// role that does not exist, so that as much is done as for one that does.
const NoName = "-"

// DisplayName is what a token is called whose bearer logged in at a mount: the
// mount's path with dashes, and the name unless that is empty.
func DisplayName(m engine.Mount, name string) string {
	mount := strings.Trim(strings.TrimPrefix(m.Path, "auth/"), "/")
	mount = strings.ReplaceAll(mount, "/", "-")
	if name == "" {
		return mount
	}
	return mount + "-" + name
}

// Named reads the record of what a request names: a role, a user. It is nil if
// there is none; folded is the name as it is filed, by which at gives its path.
// kind is for the error of a bad name.
func Named[T any](tx engine.Tx, kind, name string, at func(folded string) engine.Path) (folded string, record *T, err error) {
	if folded, err = FoldName(kind, name); err != nil {
		return "", nil, err
	}
	record = new(T)
	found, err := engine.GetJSON(tx, at(folded), record)
	if err != nil || !found {
		return folded, nil, err
	}
	return folded, record, nil
}
