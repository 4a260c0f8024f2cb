//go:build !linux

package embedded

import "syscall"

// dieWithParent does nothing where the system has no such signal: a server
// that a kill -9 left behind is stopped by the next start in its directory.
func dieWithParent(*syscall.SysProcAttr) {}
