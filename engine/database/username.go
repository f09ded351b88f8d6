package database

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template/parse"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// User names are made by a template in Vault's words. Of the language of templates there
// are texts and pipelines of the functions below over .DisplayName and .RoleName, which
// always end, and soon: no variables, conditions, loops or further templates.

// nameTemplate is a template that was parsed.
type nameTemplate struct{ nodes []parse.Node }

// naming is what one name is made of.
type naming struct {
	displayName, roleName string
	random                io.Reader
	now                   time.Time
}

const (
	maxTemplateBytes = 1024
	// maxRandom bounds the characters of one random.
	maxRandom = 100
	// leastRandom is how many characters of a name must be drawn: whoever undoes a user
	// removes whoever has the name, so no name may come twice, nor be anybody else's.
	leastRandom = 10
)

type nameFunction func(n *naming, args []any) (string, error)

var nameFunctions = map[string]nameFunction{
	"printf":           namePrintf,
	"random":           nameRandom,
	"truncate":         nameTruncate,
	"truncate_sha256":  nameTruncateHashed,
	"uppercase":        mapped(strings.ToUpper),
	"lowercase":        mapped(strings.ToLower),
	"sha256":           mapped(hashed),
	"replace":          nameReplace,
	"unix_time":        func(n *naming, _ []any) (string, error) { return strconv.FormatInt(n.now.Unix(), 10), nil },
	"unix_time_millis": func(n *naming, _ []any) (string, error) { return strconv.FormatInt(n.now.UnixMilli(), 10), nil },
}

// parseNames reads a template and tries it: an engine.InvalidError says what is wrong.
func parseNames(text string, maxBytes int) (*nameTemplate, error) {
	if len(text) > maxTemplateBytes {
		return nil, badTemplate(fmt.Errorf("it has more than %d bytes", maxTemplateBytes))
	}
	known := map[string]any{}
	for name := range nameFunctions {
		known[name] = true
	}
	trees, err := parse.Parse("username_template", text, "", "", known)
	if err != nil {
		return nil, badTemplate(err)
	}
	t := &nameTemplate{}
	if root := trees["username_template"]; root != nil && root.Root != nil {
		t.nodes = root.Root.Nodes
	}
	return t, badTemplate(t.try(maxBytes))
}

func badTemplate(err error) error {
	if err == nil {
		return nil
	}
	return &engine.InvalidError{Why: "username_template: " + err.Error()}
}

// constant is a source of bytes that are all the same.
type constant byte

func (c constant) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c)
	}
	return len(p), nil
}

// try makes two names that differ in what is drawn alone.
func (t *nameTemplate) try(maxBytes int) error {
	long := strings.Repeat("n", maxNameBytes)
	var names [2]string
	for i := range names {
		var err error
		if names[i], err = t.name(naming{long, long, constant(i), time.Unix(1<<30, 0)}, maxBytes); err != nil {
			return err
		}
	}
	drawn := 0
	for i := range min(len(names[0]), len(names[1])) {
		if names[0][i] != names[1][i] {
			drawn++
		}
	}
	if drawn < leastRandom {
		return fmt.Errorf("%d characters of a name are random; %d must be, after all truncation", drawn, leastRandom)
	}
	return nil
}

// name makes a name, which can stand in statements between quotes.
func (t *nameTemplate) name(n naming, maxBytes int) (string, error) {
	n.displayName, n.roleName = plain(n.displayName), plain(n.roleName)
	var out strings.Builder
	for _, node := range t.nodes {
		switch node := node.(type) {
		case *parse.TextNode:
			out.Write(node.Text)
		case *parse.ActionNode:
			v, err := n.pipe(node.Pipe)
			if err != nil {
				return "", err
			}
			fmt.Fprint(&out, v)
		default:
			return "", errors.New("it has more than texts, fields and functions")
		}
	}
	name := out.String()
	switch {
	case name == "" || !Quotable(name):
		return "", errors.New("a name is empty, or has a character that cannot stand between quotes")
	case len(name) > maxBytes:
		return "", fmt.Errorf("a name has %d bytes; the database takes %d: truncate it", len(name), maxBytes)
	}
	return name, nil
}

// plain has dashes in place of what people may be called and users of databases may not.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-.@+", r) {
			return r
		}
		return '-'
	}, name)
}

// pipe is the value of a pipeline: each command takes the one before as its last argument.
func (n *naming) pipe(p *parse.PipeNode) (value any, err error) {
	if len(p.Decl) > 0 {
		return nil, errors.New("it has a variable")
	}
	for i, command := range p.Cmds {
		var args []any
		function, calls := command.Args[0].(*parse.IdentifierNode)
		operands := command.Args
		if calls {
			operands = operands[1:]
		}
		for _, o := range operands {
			v, err := n.operand(o)
			if err != nil {
				return nil, err
			}
			args = append(args, v)
		}
		switch {
		case calls && i > 0:
			value, err = nameFunctions[function.Ident](n, append(args, value))
		case calls:
			value, err = nameFunctions[function.Ident](n, args)
		case i == 0 && len(args) == 1:
			value = args[0]
		default:
			return nil, errors.New("a value that is no function has arguments")
		}
		if err != nil {
			return nil, err
		}
	}
	return value, nil
}

// operand is a string or an int.
func (n *naming) operand(node parse.Node) (any, error) {
	switch node := node.(type) {
	case *parse.StringNode:
		return node.Text, nil
	case *parse.NumberNode:
		if node.IsInt && 0 <= node.Int64 && node.Int64 <= maxTemplateBytes {
			return int(node.Int64), nil
		}
	case *parse.PipeNode:
		return n.pipe(node)
	case *parse.IdentifierNode:
		return nameFunctions[node.Ident](n, nil)
	case *parse.FieldNode:
		if len(node.Ident) == 1 && node.Ident[0] == "DisplayName" {
			return n.displayName, nil
		}
		if len(node.Ident) == 1 && node.Ident[0] == "RoleName" {
			return n.roleName, nil
		}
	}
	return nil, fmt.Errorf("%s is none of .DisplayName, .RoleName, a text and a small number", node)
}

var errArguments = errors.New("a function has the wrong arguments")

// numberAndText are the arguments of most functions.
func numberAndText(args []any) (int, string, error) {
	if len(args) == 2 {
		n, isNumber := args[0].(int)
		text, isText := args[1].(string)
		if isNumber && isText {
			return n, text, nil
		}
	}
	return 0, "", errArguments
}

func nameTruncate(_ *naming, args []any) (string, error) {
	n, text, err := numberAndText(args)
	if err != nil {
		return "", err
	}
	return text[:min(n, len(text))], nil // ASCII alone
}

// nameTruncateHashed replaces what it cuts off by eight characters of a hash.
func nameTruncateHashed(_ *naming, args []any) (string, error) {
	n, text, err := numberAndText(args)
	if err != nil || n < 9 {
		return "", errArguments
	}
	if len(text) <= n {
		return text, nil
	}
	return text[:n-8] + hashed(text[n-8:])[:8], nil
}

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func mapped(f func(string) string) nameFunction {
	return func(_ *naming, args []any) (string, error) {
		if len(args) == 1 {
			if text, ok := args[0].(string); ok {
				return f(text), nil
			}
		}
		return "", errArguments
	}
}

func nameReplace(_ *naming, args []any) (string, error) {
	var texts [3]string
	if len(args) != len(texts) {
		return "", errArguments
	}
	for i, a := range args {
		text, ok := a.(string)
		if !ok {
			return "", errArguments
		}
		texts[i] = text
	}
	if replaced := strings.ReplaceAll(texts[2], texts[0], texts[1]); len(replaced) <= maxTemplateBytes {
		return replaced, nil
	}
	return "", errors.New("a replacement makes the name too long")
}

// namePrintf knows no verbs but %s, %v and %d, without widths.
func namePrintf(_ *naming, args []any) (string, error) {
	if len(args) == 0 {
		return "", errArguments
	}
	format, ok := args[0].(string)
	if !ok {
		return "", errArguments
	}
	values := args[1:]
	rest := strings.ReplaceAll(format, "%%", "")
	for _, verb := range []string{"%s", "%v", "%d"} {
		rest = strings.ReplaceAll(rest, verb, "\x00")
	}
	if strings.Contains(rest, "%") || strings.Count(rest, "\x00") != len(values) {
		return "", errors.New("printf takes %s, %v and %d, each with a value")
	}
	return fmt.Sprintf(format, values...), nil
}

const nameLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func nameRandom(n *naming, args []any) (string, error) {
	count, ok := 0, false
	if len(args) == 1 {
		count, ok = args[0].(int)
	}
	if !ok || count < 1 || count > maxRandom {
		return "", fmt.Errorf("random takes a number from 1 to %d", maxRandom)
	}
	out := make([]byte, 0, count)
	for drawn := make([]byte, 1); len(out) < count; {
		if _, err := io.ReadFull(n.random, drawn); err != nil {
			return "", fmt.Errorf("drawing a name: %w", err)
		}
		if fair := 256 - 256%len(nameLetters); int(drawn[0]) < fair {
			out = append(out, nameLetters[int(drawn[0])%len(nameLetters)])
		}
	}
	return string(out), nil
}
