package main

import (
	"fmt"
	"sync/atomic"
)

// A mode says whether the guidon header travels: on or off. It is a flag of
// the command line, the body of POST /propagation and a word in JSON.
type mode string

const (
	on  mode = "on"
	off mode = "off"
)

// String, Set and Type make a mode a flag of the command line.
func (m *mode) String() string { return string(*m) }

// Set refuses anything but on and off.
func (m *mode) Set(s string) error {
	switch to := mode(s); to {
	case on, off:
		*m = to
		return nil
	}
	return fmt.Errorf(`propagation must be "on" or "off", not %q`, s)
}

// Type is what the help text calls it.
func (m *mode) Type() string { return "on|off" }

// A lever holds the mode that new requests start in; each keeps the one it
// started in. The zero value is off.
type lever struct{ up atomic.Bool }

func (l *lever) Set(m mode) { l.up.Store(m == on) }

func (l *lever) Mode() mode {
	if l.up.Load() {
		return on
	}
	return off
}
