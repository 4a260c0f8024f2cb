//go:build !linux

package store

import "syscall"

// control does nothing: this system has no such option.
func control(string, string, syscall.RawConn) error { return nil }
