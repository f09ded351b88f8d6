package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// The Vault-shaped API as its users' benchmarks load it: 1,000 secrets of 100
// bytes, 32 connections that are kept, TLS off, and on three nodes at once. Two
// clusters run side by side, one with the audit log and one without, and are
// loaded in turns: what the log costs is a ratio of one run.

const (
	httpClients = 32
	httpSecrets = 1000
	httpValue   = 100 // bytes
	liveTokens  = 100_000
	rounds      = 3
	httpPolicy  = `path "secret/*" { capabilities = ["create", "update", "read"] }`
)

// A tenant is a cluster as a load of HTTP sees it.
type tenant struct {
	*testprocess.Cluster
	addresses []string
	token     string // may read and write secrets, and no more
	login     []byte // body of an AppRole login
}

func overHTTP(ctx context.Context, s settings, r *report) (err error) {
	if err := httpCeiling(ctx, s, r); err != nil {
		return err
	}
	audited, err := moveIn(ctx, s, "audited")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, audited.Stop()) }()
	if s.wants("http") {
		silent, err := moveIn(ctx, s, "silent", "--audit-disable")
		if err != nil {
			return err
		}
		err = secretsOverHTTP(ctx, s, r, audited, silent)
		if err := errors.Join(err, silent.Stop()); err != nil {
			return err
		}
	}
	if s.wants("login") {
		return loginsOverHTTP(ctx, s, r, audited)
	}
	return nil
}

// moveIn starts a cluster and makes what the loads need.
func moveIn(ctx context.Context, s settings, name string, args ...string) (t *tenant, err error) {
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	o := s.options(dir)
	o.Args = append(args, "--http-tls-disable")
	t = &tenant{}
	if t.Cluster, err = testprocess.Start(ctx, o); err != nil {
		return nil, err
	}
	for _, n := range t.Nodes {
		t.addresses = append(t.addresses, n.HTTP)
	}
	if err := t.furnish(ctx); err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	return t, nil
}

func (t *tenant) furnish(ctx context.Context) error {
	w, err := dial(ctx, t.addresses[0])
	if err != nil {
		return err
	}
	defer w.conn.Close()
	root := t.RootToken.Reveal()
	do := func(path, body string, out any) {
		if err != nil {
			return
		}
		var code int
		var answer []byte
		if code, answer, err = w.exchange("POST", path, root, []byte(body)); err == nil && code/100 != 2 {
			err = fmt.Errorf("preparing %s: %d %s", path, code, answer)
		}
		if err == nil && out != nil {
			err = json.Unmarshal(answer, out)
		}
	}
	policy, err := json.Marshal(map[string]string{"policy": httpPolicy})
	if err != nil {
		return err
	}
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		}
	}
	var role, secret struct {
		Data struct {
			RoleID   string `json:"role_id"`
			SecretID string `json:"secret_id"`
		}
	}
	do("sys/policies/acl/bench", string(policy), nil)
	do("auth/token/create", `{"policies": ["bench"]}`, &made)
	do("sys/auth/approle", `{"type": "approle"}`, nil)
	do("auth/approle/role/app", `{"token_policies": "bench", "token_ttl": "1h"}`, nil)
	do("auth/approle/role/app/secret-id", `{}`, &secret)
	do("auth/approle/role/app/role-id", `{"role_id": "app"}`, nil)
	role.Data.RoleID = "app"
	for i := range httpSecrets {
		do(httpPath(i), httpBody, nil)
	}
	if err != nil {
		return err
	}
	t.token = made.Auth.Token
	t.login, err = json.Marshal(map[string]string{"role_id": role.Data.RoleID, "secret_id": secret.Data.SecretID})
	return err
}

func httpPath(n int) string { return fmt.Sprintf("secret/data/bench/s%04d", n%httpSecrets) }

var httpBody = fmt.Sprintf(`{"data": {"value": %q}}`, strings.Repeat("x", httpValue))

// each runs one load, whose requests do makes.
func (t *tenant) each(ctx context.Context, s settings, do func(w *wire, worker, n int) (code int, err error)) (outcome, error) {
	all, err := dialAll(ctx, t.addresses, httpClients)
	if err != nil {
		return outcome{}, err
	}
	out, err := metered(t.Cluster, func() outcome {
		return closedLoop(ctx, httpClients, s.length, func(_ context.Context, w, n int) error {
			code, err := do(all[w], w, n)
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("answered %d", code)
			}
			return err
		})
	})
	return out, errors.Join(err, all.close())
}

func (t *tenant) readSecret(w *wire, worker, n int) (int, error) {
	code, _, err := w.exchange("GET", httpPath(worker*7919+n*31), t.token, nil)
	return code, err
}

func (t *tenant) writeSecret(w *wire, worker, n int) (int, error) {
	code, _, err := w.exchange("POST", httpPath(worker*7919+n*31), t.token, []byte(httpBody))
	return code, err
}

func (t *tenant) logIn(w *wire, _, _ int) (int, error) {
	code, _, err := w.exchange("POST", "auth/approle/login", "", t.login)
	return code, err
}

// secretsOverHTTP loads both clusters in turns and compares.
func secretsOverHTTP(ctx context.Context, s settings, r *report, audited, silent *tenant) error {
	for _, load := range []struct {
		what string
		do   func(*tenant, *wire, int, int) (int, error)
		mark float64
	}{{"HTTP KV v2 read", (*tenant).readSecret, 10_000}, {"HTTP KV v2 write", (*tenant).writeSecret, 4_000}} {
		var with, without outcome
		for range rounds {
			for _, side := range []struct {
				t   *tenant
				out *outcome
			}{{audited, &with}, {silent, &without}} {
				out, err := side.t.each(ctx, s, func(w *wire, worker, n int) (int, error) { return load.do(side.t, w, worker, n) })
				if err != nil {
					return err
				}
				if side.out.took == 0 || out.perSecond() > side.out.perSecond() {
					*side.out = out
				}
			}
		}
		r.add(load.what+", 32 clients", with.perSecond(), "/s", with.detail()+fmt.Sprintf("; best of %d", rounds)).atLeast(load.mark)
		r.add(load.what+", audit off", without.perSecond(), "/s", without.detail())
		cost := r.add(load.what+": audit costs", 100*(1-with.perSecond()/without.perSecond()), "%", "of the throughput without it")
		if load.what == "HTTP KV v2 read" {
			cost.atMost(10)
		}
	}
	return nil
}

// loginsOverHTTP measures logins with few tokens alive and with many, and what a
// token takes.
func loginsOverHTTP(ctx context.Context, s settings, r *report, t *tenant) error {
	// Longer than other loads: with many tokens the state is snapshotted and merged now
	// and then, and a window that holds none of that, or nothing else, shows no rate.
	s.length *= 3
	logins := func(what string) (outcome, error) {
		out, err := t.each(ctx, s, t.logIn)
		if err != nil {
			return out, err
		}
		r.add(what, out.perSecond(), "/s", out.detail()).atLeast(3000)
		return out, nil
	}
	few, err := logins("AppRole login, 32 clients")
	if err != nil {
		return err
	}
	before, err := t.size(ctx)
	if err != nil {
		return err
	}
	memory, err := residentMiB(t.Cluster)
	if err != nil {
		return err
	}
	if err := t.logInTimes(ctx, liveTokens); err != nil {
		return err
	}
	after, err := t.size(ctx)
	if err != nil {
		return err
	}
	grown, err := residentMiB(t.Cluster)
	if err != nil {
		return err
	}
	many, err := logins(fmt.Sprintf("AppRole login, %d live tokens", few.done+liveTokens))
	if err != nil {
		return err
	}
	r.add("of the rate with few tokens", 100*many.perSecond()/few.perSecond(), "%", "").atLeast(90)
	r.add("disk a token and lease takes", float64(after-before)/liveTokens, "B", "growth of the state, sealed, with its indexes").atMost(1024)
	r.add("memory, after those logins", grown, "MiB", fmt.Sprintf("largest node; %.0f MiB before", memory))
	return nil
}

// logInTimes makes n tokens.
func (t *tenant) logInTimes(ctx context.Context, n int) (err error) {
	all, err := dialAll(ctx, t.addresses, httpClients)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	failures := make([]error, len(all))
	var group sync.WaitGroup
	for i, w := range all {
		group.Go(func() {
			for k := i; k < n && failures[i] == nil && ctx.Err() == nil; k += len(all) {
				code, err := t.logIn(w, 0, 0)
				if err == nil && code != http.StatusOK {
					err = fmt.Errorf("login %d answered %d", k, code)
				}
				failures[i] = err
			}
		})
	}
	group.Wait()
	return errors.Join(append(failures, ctx.Err())...)
}

// size is what the state of one node takes on disk, in bytes, once it is at rest:
// tables are written and merged in the background.
func (t *tenant) size(ctx context.Context) (size int64, err error) {
	const (
		look  = time.Second
		calm  = 4 // looks without a change
		looks = 60
	)
	for same, n := 0, 0; same < calm && n < looks; n++ {
		now, err := t.sizeNow()
		if err != nil {
			return 0, err
		}
		if same++; now != size {
			size, same = now, 0
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return size, nil
}

func (t *tenant) sizeNow() (total int64, err error) {
	err = filepath.WalkDir(filepath.Join(t.Nodes[0].DataDir, "state"), func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a table that was compacted away meanwhile
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// httpCeiling measures a server that answers constants, with the same load.
func httpCeiling(ctx context.Context, s settings, r *report) (err error) {
	address, stop, err := startSelf(ctx, "-constant-server")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	all, err := dialAll(ctx, []string{address}, httpClients)
	if err != nil {
		return err
	}
	out := closedLoop(ctx, httpClients, s.length/2, func(_ context.Context, w, n int) error {
		_, _, err := all[w].exchange("GET", httpPath(n), "none", nil)
		return err
	})
	r.add("ceiling: HTTP constant, 32 clients", out.perSecond(), "/s", out.detail())
	return errors.Join(out.first, all.close())
}

// serveConstant is the other process: it prints its address and answers until its
// standard input ends.
func serveConstant() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answer := []byte(`{"data": {"data": {"value": "` + strings.Repeat("x", httpValue) + `"}}}`)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // a client that has gone is counted over there
	})}
	fmt.Println(l.Addr())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // ends with the parent
		_ = server.Close()                          // Serve returns either way
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// residentMiB is the memory of the largest node.
func residentMiB(c *testprocess.Cluster) (largest float64, err error) {
	for _, n := range c.Nodes {
		bytes, err := resident(n.PID())
		if err != nil {
			return 0, err
		}
		largest = max(largest, float64(bytes)/(1<<20))
	}
	return largest, nil
}
