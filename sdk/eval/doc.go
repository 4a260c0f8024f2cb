// Package eval is Guidon's flag language: it compiles flagd flag definitions
// into immutable snapshots and evaluates them. It does no I/O, reads no clock
// and writes no log.
package eval
