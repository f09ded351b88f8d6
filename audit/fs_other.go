//go:build !unix

package audit

import "io/fs"

// identity cannot tell here. Such a system does not delete or rename an open file
// either, which is what the answer is for.
func identity(fs.FileInfo) (unnamed bool, id any) { return false, nil }
