package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
)

// tripHeader accompanies every call on every transport: how the mesh knows which
// request an evaluation belongs to, whatever becomes of the guidon header.
const tripHeader = "mesh-trip"

// A trip is one call of one request.
type trip struct {
	Request int    `json:"n"`
	Path    string `json:"p"` // "0.2.1": the second of the third of the root's
	Mode    mode   `json:"m"`
	// Fail asks the called service to fail after it has evaluated, so that the
	// caller tries again.
	Fail bool `json:"f,omitempty"`
	// Redeliver asks a consumer to refuse a message once.
	Redeliver bool `json:"r,omitempty"`
	// Subject travels here in the controls, and to web.
	Subject *subject `json:"s,omitempty"`
	// Decided are the answers by flag that a service keeps to, and that travel in
	// mode decisions: names and values, which is more than such schemes carry.
	Decided map[string]answer `json:"d,omitempty"`
	// Met are the kills, by flag, that decided on the way here: what the mesh
	// itself knows of the request.
	Met map[string]int64 `json:"k,omitempty"`
}

// A subject is whom a request is for, with everything the edge knows.
type subject struct {
	Key     string `json:"key"`
	Plan    string `json:"plan"`
	Country string `json:"country"`
	// Device is known to the edge alone: it is not on the travel allow-list.
	Device string `json:"device"`
}

func (s subject) attributes() map[string]any {
	return map[string]any{"plan": s.Plan, "country": s.Country, "device": s.Device}
}

func (t trip) String() string {
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and booleans
	}
	return string(text)
}

func parseTrip(values []string) (t trip, err error) {
	if len(values) != 1 {
		return t, fmt.Errorf("%d %s headers, want one", len(values), tripHeader)
	}
	t.Decided, t.Met = map[string]answer{}, map[string]int64{}
	return t, json.Unmarshal([]byte(values[0]), &t)
}

// chance is the randomness of this trip, the same in every run of a seed.
func (t trip) chance(seed uint64) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(t.Path))
	return rand.New(rand.NewPCG(seed^uint64(t.Request), h.Sum64())) //nolint:gosec // repeatable, not secret
}

type tripKey struct{}

func withTrip(ctx context.Context, t trip) context.Context {
	return context.WithValue(ctx, tripKey{}, t)
}

func tripOf(ctx context.Context) trip { return ctx.Value(tripKey{}).(trip) }
