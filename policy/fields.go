package policy

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A fieldReader reads what stands in one path block.
type fieldReader struct {
	reader *reader
	rule   *rule
	seen   map[string]*item
}

// read takes in one `key = value`.
func (f *fieldReader) read(it *item) error {
	if what, foreign := foreignKeys[it.key]; foreign {
		return it.at.errorf("%s is not supported: Conclave has no %s, and leaving them out would grant more than the policy says", it.key, what)
	}
	if !slices.Contains(pathKeys, it.key) {
		return it.at.errorf("unknown key %q in a path%s", it.key, suggest(it.key, pathKeys))
	}
	if len(it.labels) > 0 {
		return it.labels[0].at.errorf("unexpected %q after %s", it.labels[0].text, it.key)
	}
	if f.seen[it.key] != nil {
		return it.at.errorf("%s is there twice", it.key)
	}
	f.seen[it.key] = it
	return f.field(it)
}

func (f *fieldReader) field(it *item) (err error) {
	switch it.key {
	case "capabilities":
		return f.capabilities(it)
	case "policy":
		return f.legacy(it)
	case "allowed_parameters":
		f.rule.allowed, err = f.parameters(it)
	case "denied_parameters":
		f.rule.denied, err = f.parameters(it)
	case "required_parameters":
		return f.required(it)
	case "min_wrapping_ttl":
		f.rule.minWrap, err = ttl(it)
	case "max_wrapping_ttl":
		f.rule.maxWrap, err = ttl(it)
	case "required_reason":
		f.rule.needsReason, err = boolean(it)
	case "required_reason_pattern":
		return f.reasonPattern(it)
	case "comment": // OpenBao's; nothing is made of it
		_, err = text(it)
	}
	return err
}

func (f *fieldReader) capabilities(it *item) error {
	names, err := texts(it)
	if err != nil {
		return err
	}
	for _, name := range names {
		c, ok := ParseCapability(name.text)
		switch {
		case ok:
			f.rule.capabilities |= c
		case foreignCapabilities[name.text]:
			return name.at.errorf("capability %q is not supported", name.text)
		case name.text == "root":
			return name.at.errorf("unknown capability \"root\"; only the policy root grants everything")
		default:
			return name.at.errorf("unknown capability %q%s", name.text, suggest(name.text, capabilityNames[:]))
		}
	}
	return nil
}

func (f *fieldReader) legacy(it *item) error {
	word, err := text(it)
	if err != nil {
		return err
	}
	c, ok := legacyPolicies[word]
	if !ok {
		return it.value.at.errorf("unknown policy %q%s", word, suggest(word, []string{"read", "write", "sudo", "deny"}))
	}
	f.rule.capabilities |= c
	return nil
}

func (f *fieldReader) parameters(it *item) ([]parameter, error) {
	if it.value.kind != nodeObject {
		return nil, it.value.at.errorf("%s must be an object of lists, as in %s = { \"name\" = [] }, not %s", it.key, it.key, it.value.kind)
	}
	var all []parameter
	for _, entry := range it.value.body.items {
		name := lowered(entry.key)
		if len(entry.labels) > 0 || entry.value.kind != nodeList {
			return nil, entry.at.errorf("%q in %s must be a list of values; [] means any value", entry.key, it.key)
		}
		if slices.ContainsFunc(all, func(p parameter) bool { return p.name == name }) {
			return nil, entry.at.errorf("%q is there twice in %s (names are compared without regard to case)", entry.key, it.key)
		}
		if name == anyParameter && len(entry.value.list) > 0 {
			return nil, entry.value.at.errorf("\"*\" in %s takes [] only: it stands for all parameters, whatever their values", it.key)
		}
		values, err := f.values(it.key, entry)
		if err != nil {
			return nil, err
		}
		all = append(all, parameter{name, values})
	}
	return all, nil
}

// values reads the values of one parameter.
func (f *fieldReader) values(key string, entry *item) ([]any, error) {
	list, err := literal(entry.value)
	if err != nil {
		return nil, err
	}
	values := list.([]any) // entry.value is a list
	if key == "allowed_parameters" && slices.Contains(stringsIn(values), "*") {
		f.reader.warn(entry.value.at, "the value \"*\" allows a star and nothing else; [] allows any value")
	}
	return values, nil
}

func stringsIn(values []any) []string {
	var found []string
	for _, v := range values {
		if s, ok := v.(string); ok {
			found = append(found, s)
		}
	}
	return found
}

func (f *fieldReader) required(it *item) error {
	names, err := texts(it)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name := lowered(name.text); !slices.Contains(f.rule.required, name) {
			f.rule.required = append(f.rule.required, name)
		}
	}
	return nil
}

// reasonPattern compiles the pattern alone before it is anchored, so that no
// parenthesis in it can reach out of the anchors. RE2 needs time linear in the
// reason, whatever the pattern.
func (f *fieldReader) reasonPattern(it *item) error {
	pattern, err := text(it)
	if err != nil {
		return err
	}
	at := it.value.at
	switch {
	case pattern == "":
		return at.errorf("required_reason_pattern is empty; required_reason = true takes any reason")
	case len(pattern) > MaxReasonPattern:
		return at.errorf("required_reason_pattern has %d bytes; at most %d are allowed", len(pattern), MaxReasonPattern)
	}
	if _, err := regexp.Compile(pattern); err != nil {
		return at.errorf("required_reason_pattern: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	anchored, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil {
		return at.errorf("required_reason_pattern: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	f.rule.reasonPattern, f.rule.reasonText = anchored, pattern
	return nil
}

// finish checks what the fields of a block say together.
func (f *fieldReader) finish(name label) error {
	r := f.rule
	if r.minWrap > 0 && r.maxWrap > 0 && r.maxWrap < r.minWrap {
		return f.seen["max_wrapping_ttl"].value.at.errorf("max_wrapping_ttl is less than min_wrapping_ttl")
	}
	if r.reasonPattern != nil {
		if it := f.seen["required_reason"]; it != nil && !r.needsReason {
			return it.value.at.errorf("required_reason is false, but there is a required_reason_pattern")
		}
		r.needsReason = true
	}
	switch {
	case r.capabilities == 0:
		f.reader.warn(name.at, "path %q grants nothing: it has no capabilities", name.text)
	case r.capabilities&CapabilityDeny != 0 && r.capabilities != CapabilityDeny:
		f.reader.warn(name.at, "path %q denies: deny leaves nothing of the other capabilities", name.text)
	}
	if r.capabilities&CapabilityDeny != 0 {
		*r = rule{at: r.at, pattern: r.pattern, templated: r.templated, capabilities: CapabilityDeny}
	}
	return nil
}

func boolean(it *item) (bool, error) {
	if it.value.kind == nodeBool {
		return it.value.text == "true", nil
	}
	return false, it.value.at.errorf("%s must be true or false, not %s", it.key, it.value.kind)
}

// ttl reads a number of seconds or a duration such as "90s", "1h30m" or "2d".
func ttl(it *item) (time.Duration, error) {
	if it.value.kind == nodeString || it.value.kind == nodeNumber {
		if d, ok := parseTTL(it.value.text); ok {
			return d, nil
		}
	}
	return 0, it.value.at.errorf("%s must be whole seconds or a duration such as \"90s\", \"1h30m\" or \"2d\", and not negative", it.key)
}

func parseTTL(text string) (time.Duration, bool) {
	if digits, unit, ok := seconds(text); ok {
		n, err := strconv.ParseInt(digits, 10, 64)
		return time.Duration(n) * unit, err == nil && n <= int64(math.MaxInt64/unit)
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}

// seconds splits what time.ParseDuration does not know: numbers alone and days.
func seconds(text string) (digits string, unit time.Duration, ok bool) {
	unit = time.Second
	digits, days := strings.CutSuffix(text, "d")
	if days {
		unit = 24 * time.Hour
	}
	return digits, unit, digits != "" && strings.Trim(digits, "0123456789") == ""
}
