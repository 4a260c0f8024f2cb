package main

import "slices"

// A way is how a call gets from one service of the shop to another. In JSON it
// is the "via" of a hop: the way on which the request came.
type way string

const (
	overHTTP      way = "http"
	overProxy     way = "proxy" // HTTP through a reverse proxy
	overGRPC      way = "grpc"
	overConnect   way = "connect"
	overJetStream way = "jetstream"
)

// arrives reports whether some service calls the one of that name in that way.
func arrives(name string, over way) bool {
	for _, r := range roles {
		for _, s := range r.steps {
			if slices.Contains(s.calls, call{name, over}) {
				return true
			}
		}
	}
	return false
}
