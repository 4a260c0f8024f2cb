package main

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsent is how much the kernel holds for a client that takes nothing. It would
// grow to megabytes for each, and whoever reads again would get old news first.
const unsent = 16 << 10

// bound limits what waits in the kernel for a client. What is on its way to one
// that reads is not limited, so that distance costs no speed.
func bound(conn *net.TCPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // it was closed
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent) // without it, it works too
	})
}
