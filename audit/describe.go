package audit

// Description says what a sink is, for those who ask where records go.
type Description struct {
	Name       string
	Type       string // "file", "socket", "syslog" or "stdout"
	Strictness Strictness
	// Options are what the sink was configured with, by name; nothing secret.
	Options map[string]string
}

// Sinks lists where the log's records go, the file first.
func (l *Log) Sinks() []Description {
	all := []Description{{Name: fileSink, Type: "file", Strictness: l.account.strict, Options: map[string]string{"file_path": l.path}}}
	for _, c := range l.copiers {
		all = append(all, Description{Name: c.name, Type: c.cfg.Type, Strictness: c.strict, Options: c.cfg.Options})
	}
	return all
}

// HashValue spells value as this log's records do.
func (l *Log) HashValue(value []byte) string { return HashValue(l.hash, value) }
