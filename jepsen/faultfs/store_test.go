package faultfs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	bolt "go.etcd.io/bbolt"

	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

// store is a database under test, opened by a child. Transaction i writes key i and
// a value that fills pages; acknowledged ones are printed.
type store interface {
	put(i uint64) error
	// last is the newest key, 0 if there is none; every key up to it is there.
	last() (uint64, error)
}

// serve opens a store, says what it holds, and writes until it is killed.
func serve(open func() (store, error)) (err error) {
	// Stores panic on what should not be on a disk.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	s, err := open()
	if err != nil {
		return err
	}
	i, err := s.last()
	if err != nil {
		return err
	}
	fmt.Println("holds", i)
	for {
		i++
		if err := s.put(i); err != nil {
			return err
		}
		fmt.Println("acknowledged", i)
	}
}

func init() {
	for name, o := range map[string]*bolt.Options{"bbolt": {}, "bbolt, not synced": {NoSync: true}} {
		children[name] = func(dir string) error { return serve(func() (store, error) { return openBolt(dir, o) }) }
	}
	children["pebble"] = func(dir string) error { return serve(func() (store, error) { return openPebble(dir, pebble.Sync) }) }
	children["pebble, not synced"] = func(dir string) error { return serve(func() (store, error) { return openPebble(dir, pebble.NoSync) }) }
}

func key(i uint64) []byte   { return binary.BigEndian.AppendUint64(nil, i) }
func value(i uint64) []byte { return []byte(strings.Repeat(fmt.Sprint(i, ","), 200)) }

// missing is what a child prints of a store with a hole or a wrong value.
func missing(i uint64) error { return fmt.Errorf("key %d is not what it was", i) }

type boltStore struct{ db *bolt.DB }

var bucket = []byte("b")

func openBolt(dir string, o *bolt.Options) (boltStore, error) {
	db, err := bolt.Open(filepath.Join(dir, "db"), 0o600, o)
	if err != nil {
		return boltStore{}, err
	}
	// Its name is not bbolt's business.
	if err := syncDirectory(dir); err != nil {
		return boltStore{}, err
	}
	return boltStore{db}, db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s boltStore) put(i uint64) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put(key(i), value(i)) })
}

func (s boltStore) last() (n uint64, err error) {
	return n, s.db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			if n++; string(k) != string(key(n)) || string(v) != string(value(n)) {
				return missing(n)
			}
			return nil
		})
	})
}

type pebbleStore struct {
	db   *pebble.DB
	sync *pebble.WriteOptions
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	fmt.Printf("fatal "+format+"\n", args...)
	os.Exit(1)
}

func openPebble(dir string, sync *pebble.WriteOptions) (pebbleStore, error) {
	// Small tables, so that flushes and compactions happen.
	db, err := pebble.Open(filepath.Join(dir, "db"), &pebble.Options{Logger: quiet{}, MemTableSize: 64 << 10})
	return pebbleStore{db, sync}, err
}

func (s pebbleStore) put(i uint64) error { return s.db.Set(key(i), value(i), s.sync) }

func (s pebbleStore) last() (n uint64, err error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return 0, err
	}
	for it.First(); it.Valid(); it.Next() {
		if n++; string(it.Key()) != string(key(n)) || string(it.Value()) != string(value(n)) {
			return n, errors.Join(missing(n), it.Close())
		}
	}
	return n, errors.Join(it.Error(), it.Close())
}

// storm kills and cuts a store again and again, and returns how many cuts lost
// acknowledged writes or the store itself, in which case it begins afresh.
func storm(t *testing.T, what string, cuts uint64) (losses int, writes uint64, total faultfs.Loss) {
	t.Helper()
	m := mount(t, faultfs.Options{})
	dir := m.path("store")
	acknowledged, began := uint64(0), true
	for seed := range cuts {
		if began {
			must(t, os.RemoveAll(dir), os.Mkdir(dir, 0o755))
			sync(t, m.at)
			acknowledged, began = 0, false
		}
		rng := rand.New(rand.NewPCG(seed, 2))
		c := start(t, what, dir)
		holds, ok := uint64(0), false
		if c.lines.Scan() {
			_, err := fmt.Sscanf(c.lines.Text(), "holds %d", &holds)
			ok = err == nil
		}
		if !ok || holds < acknowledged {
			losses++
			t.Logf("after cut %d: %q, and %d were acknowledged", seed, c.lines.Text(), acknowledged)
			began = true
		}
		acknowledged = holds
		for range 1 + rng.IntN(25) {
			if !began {
				note(c.line(t), &acknowledged)
			}
		}
		must(t, c.cmd.Process.Kill())
		for c.lines.Scan() {
			note(c.lines.Text(), &acknowledged)
		}
		_ = c.cmd.Wait() // killed, or failed to open, as noted above
		writes += acknowledged - holds
		loss := m.cut(t, seed)
		total.Writes += loss.Writes
		total.Torn += loss.Torn
		total.Names += loss.Names
		total.Kept += loss.Kept
	}
	t.Logf("%s: %d cuts, %d acknowledged writes, %d cuts lost some; %+v", what, cuts, writes, losses, total)
	return losses, writes, total
}

// note takes note of an acknowledgement. A line that the kill cut short is none.
func note(line string, acknowledged *uint64) {
	var i uint64
	if _, err := fmt.Sscanf(line, "acknowledged %d", &i); err == nil && i == *acknowledged+1 {
		*acknowledged = i
	}
}

// Acknowledged transactions survive, and the file opens and checks.
func TestBoltSurvives(t *testing.T) {
	losses, writes, total := storm(t, "bbolt", 200)
	if losses > 0 {
		t.Error("lost acknowledged transactions")
	}
	if writes < 1000 || total.Writes+total.Torn == 0 {
		t.Error("too little happened")
	}
}

// The cuts are no walk in the park: without syncs they lose.
func TestBoltWithoutSyncLoses(t *testing.T) {
	if losses, _, _ := storm(t, "bbolt, not synced", 25); losses == 0 {
		t.Error("nothing was lost")
	}
}

func TestPebbleSurvives(t *testing.T) {
	losses, writes, total := storm(t, "pebble", 60)
	if losses > 0 {
		t.Error("lost acknowledged writes")
	}
	if writes < 300 || total.Writes+total.Torn+total.Names == 0 {
		t.Error("too little happened")
	}
}

func TestPebbleWithoutSyncLoses(t *testing.T) {
	if losses, _, _ := storm(t, "pebble, not synced", 25); losses == 0 {
		t.Error("nothing was lost")
	}
}
