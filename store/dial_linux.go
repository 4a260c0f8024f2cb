package store

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unanswered is how long what was sent may go unacknowledged: keepalive alone
// does not look at a connection that has data under way.
const unanswered = 10 * time.Second

// control bounds the wait for a peer that vanished in the middle of something.
func control(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	if controlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unanswered.Milliseconds()))
	}); controlErr != nil {
		return controlErr
	}
	return err
}
