//go:build unix

package audit

import (
	"io/fs"
	"syscall"
)

type inode struct{ dev, ino uint64 }

// identity tells whether an open file has lost its last name, and which file it is.
func identity(info fs.FileInfo) (unnamed bool, id any) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false, nil
	}
	return st.Nlink == 0, inode{uint64(st.Dev), uint64(st.Ino)}
}
