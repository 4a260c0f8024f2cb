package main

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// A client that vanished is noticed by what it does not acknowledge, and holds
// little until then.
func TestClientsAreBounded(t *testing.T) {
	t.Parallel()
	l, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[int]int{unix.TCP_USER_TIMEOUT: 20_000, unix.TCP_NOTSENT_LOWAT: 16 << 10} {
		var got int
		if controlErr := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option) }); controlErr != nil || err != nil || got != want {
			t.Errorf("option %d is %d (%v, %v), want %d", option, got, controlErr, err, want)
		}
	}
}
