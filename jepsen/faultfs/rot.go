package faultfs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
)

// Rot flips one bit of a stored file, chosen by seed, and returns the byte's
// offset. Most of a database's file holds nothing, so a byte is taken that is not
// zero, if one is found soon. The path is relative to the mount point. Readers see it at once, in
// mapped pages too. It is meant for data at rest: a power cut that takes back
// unsynced writes at the same place takes the rot along.
func (f *FS) Rot(path string, seed uint64) (offset int64, err error) {
	err = f.damage(path, func(file *os.File, size int64) error {
		if size == 0 {
			return fmt.Errorf("it is empty")
		}
		rng := rand.New(rand.NewPCG(seed, uint64(size)))
		var b [1]byte
		for try := 0; b[0] == 0 && try < rotTries; try++ {
			offset = rng.Int64N(size)
			if _, err := file.ReadAt(b[:], offset); err != nil {
				return err
			}
		}
		b[0] ^= 1 << rng.IntN(8)
		_, err := file.WriteAt(b[:], offset)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("rotting %s: %w", path, err)
	}
	f.rules.count("rotted bits", 1)
	return offset, nil
}

// rotTries is how long Rot looks for a byte that is not zero.
const rotTries = 1000

// Truncate cuts a stored file to a shorter length, as Rot damages it.
func (f *FS) Truncate(path string, length int64) error {
	err := f.damage(path, func(file *os.File, size int64) error {
		if length < 0 || length >= size {
			return fmt.Errorf("%d is not shorter than its %d bytes", length, size)
		}
		return file.Truncate(length)
	})
	if err != nil {
		return fmt.Errorf("truncating %s: %w", path, err)
	}
	f.rules.count("truncated files", 1)
	return nil
}

// damage changes a file of the backing store behind everybody's back, and has the
// kernel forget what it holds of it.
func (f *FS) damage(path string, do func(file *os.File, size int64) error) error {
	if !filepath.IsLocal(path) {
		return fmt.Errorf("it is not below the mount point")
	}
	n, err := f.hurt(path, do)
	if err != nil || n == nil {
		return err
	}
	// Not under the lock: the kernel may wait for an operation of ours. ENOENT means
	// that it held nothing.
	if no := n.NotifyContent(0, 0); no != 0 && no != syscall.ENOENT {
		return fmt.Errorf("having the kernel forget it: %w", no)
	}
	return nil
}

func (f *FS) hurt(path string, do func(file *os.File, size int64) error) (n *node, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := os.OpenFile(filepath.Join(f.backing, path), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		err = do(file, info.Size())
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	for _, o := range f.objects {
		for _, known := range o.nodes {
			if o.name == path && !known.forgotten() {
				n = known
			}
		}
	}
	return n, err
}
