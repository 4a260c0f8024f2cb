package main

import "syscall"

// mountMemory mounts a volume that lives in memory, as described by tmpfs(5).
func mountMemory(path, options string) error {
	return syscall.Mount("tmpfs", path, "tmpfs", 0, options)
}

// remountMemory makes such a volume read-only, or no longer.
func remountMemory(path, options string, readOnly bool) error {
	flags := uintptr(syscall.MS_REMOUNT)
	if readOnly {
		flags |= syscall.MS_RDONLY
	}
	return syscall.Mount("tmpfs", path, "tmpfs", flags, options)
}

// unmount takes a volume away, once nothing uses it any more.
func unmount(path string) error { return syscall.Unmount(path, syscall.MNT_DETACH) }
