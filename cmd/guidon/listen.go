package main

import (
	"context"
	"net"
)

// listen opens an address for clients, some of which may take nothing of what
// they are sent.
func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return frugal{l}, nil
}

// frugal is a listener whose connections hold little of what their clients do
// not take.
type frugal struct{ net.Listener }

func (l frugal) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		bound(tcp)
	}
	return conn, err
}
