// Package propagate gives all services of one request the same flag state.
//
// The value of a flag is a pure function of an environment revision and an
// evaluation context. A request is pinned at its root to one revision and one
// context, and the pin travels in a signed header over every hop, so every
// service computes the same value however many changes are published meanwhile.
package propagate
