package main

import (
	"fmt"
	"syscall"
)

// mountMemory mounts a volume of a size that lives in memory.
func mountMemory(path string, size int) error {
	return syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d,mode=711", size))
}

// unmount takes a volume away, once nothing uses it any more.
func unmount(path string) error { return syscall.Unmount(path, syscall.MNT_DETACH) }
