package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger passes the library's messages on to slog. The library's "error" is
// mostly an unreachable peer, which is no error of this node: it becomes a warning.
type raftLogger struct {
	to   *slog.Logger
	name string
	args []any
}

// RaftLogger passes what hashicorp/raft and its transport log on to l.
func RaftLogger(l *slog.Logger) hclog.Logger {
	return &raftLogger{to: l.With("part", "raft")}
}

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error, hclog.Warn:
		return slog.LevelWarn
	case hclog.Info:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	at := slogLevel(level)
	ctx := context.Background()
	if !l.to.Enabled(ctx, at) {
		return
	}
	l.to.Log(ctx, at, msg, plain(args)...)
}

// plain renders the library's deferred formats, which slog would print raw.
func plain(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			format, isText := f[0].(string)
			if isText {
				a = formatted{format, f[1:]}
			}
		}
		out[i] = a
	}
	return out
}

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) IsTrace() bool { return l.IsDebug() }
func (l *raftLogger) IsDebug() bool { return l.to.Enabled(context.Background(), slog.LevelDebug) }
func (l *raftLogger) IsInfo() bool  { return l.to.Enabled(context.Background(), slog.LevelInfo) }
func (l *raftLogger) IsWarn() bool  { return l.to.Enabled(context.Background(), slog.LevelWarn) }
func (l *raftLogger) IsError() bool { return l.IsWarn() }

func (l *raftLogger) ImpliedArgs() []any { return l.args }
func (l *raftLogger) Name() string       { return l.name }

func (l *raftLogger) With(args ...any) hclog.Logger {
	all := append(append([]any{}, l.args...), args...)
	return &raftLogger{to: l.to.With(plain(args)...), name: l.name, args: all}
}

func (l *raftLogger) Named(name string) hclog.Logger {
	return &raftLogger{to: l.to, name: name, args: l.args}
}
func (l *raftLogger) ResetNamed(name string) hclog.Logger { return l.Named(name) }

// SetLevel does nothing: the level is slog's.
func (l *raftLogger) SetLevel(hclog.Level) {}

func (l *raftLogger) GetLevel() hclog.Level {
	switch {
	case l.IsDebug():
		return hclog.Debug
	case l.IsInfo():
		return hclog.Info
	default:
		return hclog.Warn
	}
}

func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(nil), "", 0)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return lineWriter{func(line string) { l.Info(line) }}
}

// formatted is a message part that is only rendered when somebody reads it.
type formatted struct {
	format string
	args   []any
}

func (f formatted) String() string { return fmt.Sprintf(f.format, f.args...) }

// lineWriter hands what is written to it on, without the line's end.
type lineWriter struct{ line func(string) }

func (w lineWriter) Write(p []byte) (int, error) {
	w.line(string(bytes.TrimRight(p, "\r\n")))
	return len(p), nil
}
