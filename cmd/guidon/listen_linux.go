package main

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// unsent is how much the kernel holds for a client that takes nothing. It would
// grow to megabytes for each, and whoever reads again would get old news first.
const unsent = 16 << 10

// unanswered is how long what was sent may go unacknowledged: a client that
// vanished would be held, and counted in the fleet, until the kernel has tried
// for a quarter of an hour, for heartbeats fill no buffer. It is longer than a
// stream's write may take.
const unanswered = 20 * time.Second

// bound limits what waits in the kernel for a client, and for how long. What is
// on its way to one that reads is not limited, so that distance costs no speed.
func bound(conn *net.TCPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // it was closed
	}
	_ = raw.Control(func(fd uintptr) {
		// Without them, it works too.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unanswered.Milliseconds()))
	})
}
