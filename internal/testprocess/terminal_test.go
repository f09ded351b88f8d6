package testprocess_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/sys/unix"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// Shares encrypted to custodians as they are made open only with the custodians'
// keys; typed at a hidden prompt on a terminal they unseal a node, and the
// terminal never shows them. After Ctrl-C it echoes again.
func TestCustodiansAtATerminal(t *testing.T) {
	n := emptyNode(t)
	args := []string{"operator", "init", "--shares", "2", "--threshold", "2", "--format", "json"}
	var custodians []*age.X25519Identity
	for range 2 {
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		custodians = append(custodians, identity)
		args = append(args, "--age-recipient", identity.Recipient().String())
	}
	made := shellOf(t, n, client.Token{}).run(args...)
	if made.code != 0 {
		t.Fatal(made.err)
	}
	files := jsonStrings(t, made.out, "shares")
	if len(files) != 2 {
		t.Fatalf("%d shares, want 2", len(files))
	}
	if _, err := decrypt(files[0], custodians[1]); err == nil {
		t.Error("another custodian opened a share")
	}

	give := func(share, want string) {
		terminal, slave := openTerminal(t)
		cmd := unsealAt(t, n, slave)
		terminal.await(t, "Share (not shown): ")
		if terminal.echoes(t) {
			t.Error("the terminal echoes while a share is asked for")
		}
		terminal.typed(t, share+"\n")
		terminal.await(t, want)
		if err := cmd.Wait(); err != nil {
			t.Errorf("unsealing: %v\n%s", err, terminal.text())
		}
		if strings.Contains(terminal.text(), share[20:]) {
			t.Error("the terminal shows the share")
		}
		if !terminal.echoes(t) {
			t.Error("the terminal does not echo any more")
		}
	}
	for i, want := range []string{"1 of 2 shares (1)", "The node is unsealed."} {
		share, err := decrypt(files[i], custodians[i])
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 { // first somebody changes his mind
			terminal, slave := openTerminal(t)
			cmd := unsealAt(t, n, slave)
			terminal.await(t, "Share (not shown): ")
			terminal.typed(t, "\x03")
			if err := cmd.Wait(); err == nil {
				t.Error("Ctrl-C is no success")
			}
			if !terminal.echoes(t) {
				t.Error("the terminal does not echo after Ctrl-C")
			}
			noTrace(t, "the terminal", terminal.text())
		}
		give(strings.TrimSpace(share), want)
	}
}

func jsonStrings(t *testing.T, text, key string) (all []string) {
	t.Helper()
	var view map[string]any
	if err := jsonDecode(text, &view); err != nil {
		t.Fatal(err)
	}
	list, _ := view[key].([]any)
	for _, item := range list {
		all = append(all, fmt.Sprint(item))
	}
	return all
}

func decrypt(file string, identity age.Identity) (string, error) {
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(file)), identity)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), err
}

// unsealAt runs the unseal command as the foreground process of a terminal.
func unsealAt(t *testing.T, n *testprocess.Node, slave *os.File) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary, "operator", "unseal")
	cmd.Env = append(withoutSettings(os.Environ()), shellOf(t, n, client.Token{}).env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// A terminal is the master side of a pseudo-terminal.
type terminal struct {
	master *os.File
	mu     sync.Mutex
	seen   strings.Builder // guarded by mu
}

// openTerminal opens /dev/ptmx and its other side (ptmx(4)).
func openTerminal(t *testing.T) (*terminal, *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("NOT TESTED, there are no pseudo-terminals here: %v", err)
	}
	master := os.NewFile(uintptr(fd), "ptmx")
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{master: master}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			x.mu.Lock()
			x.seen.Write(buffer[:n])
			x.mu.Unlock()
			if err != nil {
				return // the other side is closed
			}
		}
	}()
	t.Cleanup(func() {
		if err := slave.Close(); err != nil {
			t.Error(err)
		}
		<-read
		if err := master.Close(); err != nil {
			t.Error(err)
		}
	})
	return x, slave
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen.String()
}

func (x *terminal) await(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the terminal shows "+text, func(context.Context) error {
		if !strings.Contains(x.text(), text) {
			return errors.New(x.text())
		}
		return nil
	})
}

func (x *terminal) typed(t *testing.T, text string) {
	t.Helper()
	if _, err := x.master.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func (x *terminal) echoes(t *testing.T) bool {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return mode.Lflag&unix.ECHO != 0
}
