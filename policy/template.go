package policy

import (
	"fmt"
	"strings"
)

// A templateError says what is wrong with the {{…}} of a pattern.
type templateError struct{ problem string }

func (e *templateError) Error() string { return e.problem }

// fill replaces each {{name}} of a pattern by what value returns for it. It
// stops at the first error, which value may return too.
func fill(text string, value func(name string) (string, error)) (string, error) {
	var filled strings.Builder
	for {
		before, after, found := strings.Cut(text, "{{")
		if strings.Contains(before, "}}") {
			return "", &templateError{"\"}}\" without \"{{\" before it"}
		}
		filled.WriteString(before)
		if !found {
			return filled.String(), nil
		}
		name, rest, closed := strings.Cut(after, "}}")
		if !closed {
			return "", &templateError{"\"{{\" without \"}}\" after it"}
		}
		v, err := value(strings.TrimSpace(name))
		if err != nil {
			return "", err
		}
		filled.WriteString(v)
		text = rest
	}
}

// checkTemplates tells whether a pattern has templates, and refuses what is not
// a name that an identity can have.
func checkTemplates(text string) (templated bool, err error) {
	_, err = fill(text, func(name string) (string, error) {
		templated = true
		if !identityName(name) {
			return "", &templateError{fmt.Sprintf("unknown template %q; known are identity.entity.{id,name,metadata.KEY} and "+
				"identity.entity.aliases.ACCESSOR.{id,name,metadata.KEY,custom_metadata.KEY} and "+
				"identity.groups.ids.ID.{name,metadata.KEY} and identity.groups.names.NAME.{id,metadata.KEY}", name)}
		}
		return "", nil
	})
	return templated, err
}

// identityName tells whether a name is one of those that Vault documents. Keys
// and group names may contain dots, ids and accessors do not.
func identityName(name string) bool {
	if rest, ok := strings.CutPrefix(name, "identity.entity.aliases."); ok {
		accessor, field, _ := strings.Cut(rest, ".")
		return accessor != "" && (field == "id" || field == "name" || keyed(field, "metadata.") || keyed(field, "custom_metadata."))
	}
	if field, ok := strings.CutPrefix(name, "identity.entity."); ok {
		return field == "id" || field == "name" || keyed(field, "metadata.")
	}
	if rest, ok := strings.CutPrefix(name, "identity.groups.ids."); ok {
		id, field, _ := strings.Cut(rest, ".")
		return id != "" && (field == "name" || keyed(field, "metadata."))
	}
	if rest, ok := strings.CutPrefix(name, "identity.groups.names."); ok {
		group, isID := strings.CutSuffix(rest, ".id")
		i := strings.Index(rest, ".metadata.")
		return isID && group != "" || i > 0 && len(rest) > i+len(".metadata.")
	}
	return false
}

func keyed(field, prefix string) bool {
	return strings.HasPrefix(field, prefix) && len(field) > len(prefix)
}

// safeValue tells whether a value of an identity may stand in a pattern. Names
// and metadata are often chosen by those they describe, so a value must not be
// able to become a wildcard or to leave its segment. Vault accepts all of these.
func safeValue(value string) bool {
	return value != "" && value != "." && value != ".." &&
		!strings.ContainsAny(value, "*+/") &&
		!strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}
