package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// A wire is one HTTP/1.1 connection that is kept. It knows just enough of the
// protocol to load a server without taking most of the processor for itself, as
// net/http's client does (30 µs a request here, against 8).
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	body []byte
}

func dial(ctx context.Context, address string) (*wire, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, in: bufio.NewReader(conn)}, nil
}

// wireTimeout bounds one exchange.
const wireTimeout = 30 * time.Second

// exchange sends a request and returns the answer's code and body, which is valid
// until the next exchange.
func (w *wire) exchange(method, path, token string, body []byte) (code int, answer []byte, err error) {
	w.out = fmt.Appendf(w.out[:0], "%s /v1/%s HTTP/1.1\r\nHost: bench\r\nX-Vault-Token: %s\r\nX-Vault-Request: true\r\nContent-Length: %d\r\n\r\n%s",
		method, path, token, len(body), body)
	if err := w.conn.SetDeadline(time.Now().Add(wireTimeout)); err != nil {
		return 0, nil, err
	}
	if _, err := w.conn.Write(w.out); err != nil {
		return 0, nil, err
	}
	return w.answer()
}

func (w *wire) answer() (code int, body []byte, err error) {
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, nil, fmt.Errorf("the answer begins with %q", line)
	}
	if code, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, err
	}
	length := 0
	for {
		if line, err = w.in.ReadSlice('\n'); err != nil {
			return 0, nil, err
		}
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		switch {
		case len(name) == 0:
			if cap(w.body) < length {
				w.body = make([]byte, length)
			}
			w.body = w.body[:length]
			_, err = io.ReadFull(w.in, w.body)
			return code, w.body, err
		case ok && bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, nil, err
			}
		case ok && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return 0, nil, errors.New("the answer is chunked, which this load does not read")
		}
	}
}

// wires are the connections of a load, client by client, spread over the nodes.
type wires []*wire

func dialAll(ctx context.Context, addresses []string, clients int) (all wires, err error) {
	for i := range clients {
		w, err := dial(ctx, addresses[i%len(addresses)])
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all = append(all, w)
	}
	return all, nil
}

func (all wires) close() error {
	var errs []error
	for _, w := range all {
		errs = append(errs, w.conn.Close())
	}
	return errors.Join(errs...)
}
