package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/conclave-secrets/conclave/client"
)

// The token comes from --token-file, from CONCLAVE_TOKEN, or from the file in
// which "conclave login" stored it, in this order.

// maxSecretBytes bounds a token, a password or another credential that is read.
const maxSecretBytes = 64 << 10

// token returns what the user says who he is; zero when he says nothing.
func (inv *invocation) token() (client.Token, error) {
	if inv.tokenFile != "" {
		text, err := readSecretFile(inv.tokenFile)
		if err != nil {
			return client.Token{}, &failure{exitUsage, fmt.Errorf("reading the token: %w", err), "Check --token-file."}
		}
		return client.NewToken(strings.TrimSpace(text)), nil
	}
	if text, _ := inv.env("CONCLAVE_TOKEN"); strings.TrimSpace(text) != "" {
		return client.NewToken(strings.TrimSpace(text)), nil
	}
	return inv.storedToken()
}

// tokenSource names what goes before the stored token; "" is nothing.
func (inv *invocation) tokenSource() string {
	if inv.tokenFile != "" {
		return "--token-file"
	}
	if text, _ := inv.env("CONCLAVE_TOKEN"); strings.TrimSpace(text) != "" {
		return "CONCLAVE_TOKEN"
	}
	return ""
}

// tokenPath is where a login stores its token: in $CONCLAVE_HOME, or in
// ~/.config/conclave. It is "" when there is no home.
func (inv *invocation) tokenPath() string {
	if home, _ := inv.env("CONCLAVE_HOME"); home != "" {
		return filepath.Join(home, "token")
	}
	if home, _ := inv.env("HOME"); home != "" {
		return filepath.Join(home, ".config", "conclave", "token")
	}
	return ""
}

// storedToken reads the token of the last login; zero when there is none. It
// refuses a file that others may read: whoever made it so may have taken the
// token already.
func (inv *invocation) storedToken() (client.Token, error) {
	path := inv.tokenPath()
	if path == "" {
		return client.Token{}, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return client.Token{}, nil
	}
	var text string
	if err == nil {
		if info.Mode().Perm()&0o077 != 0 {
			return client.Token{}, &failure{exitUsage, fmt.Errorf("reading the stored token: others may read %s", path),
				"Make it yours alone with chmod 600, or log in anew after 'conclave logout'."}
		}
		text, err = readSecretFile(path)
	}
	if err != nil {
		return client.Token{}, &failure{exitUsage, fmt.Errorf("reading the stored token: %w", err), "Check that file, or use CONCLAVE_TOKEN or --token-file."}
	}
	return client.NewToken(strings.TrimSpace(text)), nil
}

var errNoHome = errors.New("storing the token: neither CONCLAVE_HOME nor HOME says where")

// storeToken writes a token for later commands, whole or not at all, readable for
// its owner alone. It returns the path.
func (inv *invocation) storeToken(t client.Token) (string, error) {
	path := inv.tokenPath()
	if path == "" {
		return "", &failure{exitUsage, errNoHome, "Set CONCLAVE_HOME, or print the token with --no-store."}
	}
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = writeWhole(path, []byte(t.Reveal()+"\n"))
	}
	if err != nil {
		return "", &failure{exitUsage, fmt.Errorf("storing the token: %w", err), "Set CONCLAVE_HOME to a directory of yours, or print the token with --no-store."}
	}
	return path, nil
}

// readSecretFile reads a file that holds a credential.
func readSecretFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	text, err := readBounded(f)
	return text, errors.Join(err, f.Close())
}

var errTooLong = fmt.Errorf("it is longer than %d bytes", maxSecretBytes)

func readBounded(r io.Reader) (string, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSecretBytes+1))
	if err == nil && len(raw) > maxSecretBytes {
		err = errTooLong
	}
	return string(raw), err
}
