package store

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestConnectionsGiveUpOnAPeerThatVanished(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ level, option, want int }{
		"user timeout":   {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 10_000},
		"keepalive":      {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"keepalive idle": {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int((5 * time.Second).Seconds())},
	} {
		if err := raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), c.level, c.option); err != nil || got != c.want {
				t.Errorf("%s = %d, %v, want %d", name, got, err, c.want)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}
