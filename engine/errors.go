package engine

import "fmt"

// The ways in which a method can refuse. core turns them into codes; an engine
// names no status of any transport.

// NotFoundError: there is nothing at the path.
type NotFoundError struct{ What string } // "secret", "version 3", …

func (e *NotFoundError) Error() string { return "no such " + e.What }

// GoneError: the version was there, and is deleted or destroyed.
type GoneError struct {
	Version   uint64
	Destroyed bool
}

func (e *GoneError) Error() string {
	if e.Destroyed {
		return fmt.Sprintf("version %d is destroyed", e.Version)
	}
	return fmt.Sprintf("version %d is deleted", e.Version)
}

// CheckAndSetError: the current version is not the one that the caller expects.
type CheckAndSetError struct {
	Required bool // the caller gave no version, and the secret demands one
	Want     uint64
	Current  uint64
}

func (e *CheckAndSetError) Error() string {
	if e.Required {
		return "the secret requires check-and-set, and the request names no version"
	}
	return fmt.Sprintf("check-and-set expects version %d, the current one is %d", e.Want, e.Current)
}

// InvalidError: the request makes no sense, whatever the state.
type InvalidError struct{ Why string }

func (e *InvalidError) Error() string { return e.Why }

// TooLargeError: a value is above a limit.
type TooLargeError struct {
	What         string
	Bytes, Limit int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s of %d bytes is larger than the limit of %d", e.What, e.Bytes, e.Limit)
}
