package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
)

// A Change is something that only the leader can do to the cluster, in a form
// that any node can pass on to it.
type Change struct {
	//lint:ignore U1000 read by the codec
	_struct struct{} `codec:",toarray"`

	Kind    ChangeKind
	ID      string // the member; empty with ChangeLeader: the fittest
	Address string // ChangeAdd: where it listens for other nodes
}

// ChangeKind says what a Change does. A number is never used again.
type ChangeKind uint8

const (
	ChangeAdd    ChangeKind = 1 // AddNonvoter
	ChangeRemove ChangeKind = 2 // Remove; the leader steps down first to remove itself
	ChangeLeader ChangeKind = 3 // TransferLeadership, or StepDown
)

// ChangeCode tells how a Change ended. A number is never used again.
type ChangeCode uint8

const (
	changeDone      ChangeCode = 1
	changeNotLeader ChangeCode = 2
	changeUnsafe    ChangeCode = 3
	changeNoMember  ChangeCode = 4
	changeMoved     ChangeCode = 5
	changeNoTarget  ChangeCode = 6
	changeRunning   ChangeCode = 7
	changeFailed    ChangeCode = 8
	changeUnknown   ChangeCode = 9 // it may have been made
)

// ChangeAnswer is how a leader answers a Change that another node passed on.
type ChangeAnswer struct {
	//lint:ignore U1000 read by the codec
	_struct struct{} `codec:",toarray"`

	Code ChangeCode
	Text string // for people
}

// changeErrors pairs the errors that callers branch on with their codes.
var changeErrors = []struct {
	code ChangeCode
	err  error
}{
	{changeNotLeader, ErrNotLeader},
	{changeUnsafe, ErrUnsafe},
	{changeNoMember, ErrUnknownMember},
	{changeMoved, ErrMembershipMoved},
	{changeNoTarget, ErrNoTarget},
	{changeRunning, ErrTransferRunning},
	{changeUnknown, fsm.ErrUnknown},
}

func answerChange(err error) ChangeAnswer {
	if err == nil {
		return ChangeAnswer{Code: changeDone}
	}
	for _, e := range changeErrors {
		if errors.Is(err, e.err) {
			return ChangeAnswer{Code: e.code, Text: err.Error()}
		}
	}
	return ChangeAnswer{Code: changeFailed, Text: err.Error()}
}

func (a ChangeAnswer) err() error {
	if a.Code == changeDone {
		return nil
	}
	for _, e := range changeErrors {
		if a.Code == e.code {
			return fmt.Errorf("%s: %w", a.Text, e.err)
		}
	}
	return errors.New(a.Text)
}

const (
	// changePause is the time between two attempts at a change.
	changePause = 50 * time.Millisecond
	// changeSettle is how long a refusal as unsafe is doubted.
	changeSettle = 2 * time.Second
)

// Change has the leader carry out c, wherever it is, and tries again while there
// is no leader, another change was faster, or nobody knows what became of it,
// until ctx ends. That is safe, because every change can be repeated.
func (n *Node) Change(ctx context.Context, c Change) error {
	var unclear bool // an earlier attempt may have been carried out
	began := n.cfg.Clock.Monotonic()
	for {
		l, err := n.leadership.wait(ctx, n.stop)
		if err != nil {
			return fmt.Errorf("changing the cluster: %w: %w", ErrNoLeader, err)
		}
		if l.office != nil {
			err = n.carryOut(ctx, c)
		} else {
			err = n.passOn(ctx, l, c)
		}
		if unclear && c.Kind == ChangeRemove && errors.Is(err, ErrUnknownMember) {
			return nil // the earlier attempt removed it
		}
		if errors.Is(err, ErrUnsafe) && n.cfg.Clock.Monotonic()-began < changeSettle {
			// A new leader has not heard from everybody yet.
			n.leadership.pause(ctx, l, changePause)
			continue
		}
		again := errors.Is(err, ErrNotLeader) || errors.Is(err, ErrMembershipMoved) || errors.Is(err, fsm.ErrUnknown)
		if !again || ctx.Err() != nil {
			return err
		}
		unclear = unclear || errors.Is(err, fsm.ErrUnknown)
		n.leadership.pause(ctx, l, changePause)
	}
}

// passOn asks the leader l.
func (n *Node) passOn(ctx context.Context, l *leader, c Change) error {
	answer, err := n.cfg.Transport.Change(ctx, n.reach(l.peer), c)
	if err != nil {
		return fmt.Errorf("asking the leader: %w: %w", fsm.ErrUnknown, err)
	}
	return answer.err()
}

func (n *Node) carryOut(ctx context.Context, c Change) error {
	switch {
	case c.Kind == ChangeAdd:
		return n.AddNonvoter(ctx, Peer{c.ID, c.Address})
	case c.Kind == ChangeRemove && c.ID == n.cfg.ID:
		if err := n.StepDown(ctx); err != nil {
			return err
		}
		return fmt.Errorf("removing %s, which led until now: %w", c.ID, ErrNotLeader)
	case c.Kind == ChangeRemove:
		return n.Remove(ctx, c.ID)
	case c.Kind == ChangeLeader && c.ID == "":
		return n.StepDown(ctx)
	case c.Kind == ChangeLeader && c.ID == n.cfg.ID:
		return nil // it leads already
	case c.Kind == ChangeLeader:
		return n.TransferLeadership(ctx, c.ID)
	}
	return fmt.Errorf("change kind %d is not one this version knows", c.Kind)
}

// HandleChange implements Handler.
func (h handler) HandleChange(ctx context.Context, c Change) (ChangeAnswer, error) {
	if !h.n.IsLeader() {
		return answerChange(ErrNotLeader), nil
	}
	return answerChange(h.n.carryOut(ctx, c)), nil
}
