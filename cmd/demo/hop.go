package main

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
)

// A Hop is what one service saw while it worked on one request.
type Hop struct {
	Service string `json:"service"`
	// Via is the way on which the request came to it.
	Via way `json:"via"`
	// Revision is the one the flags came from: the pin, or with propagation
	// off the newest this service had. 0 means that it had none.
	Revision int64 `json:"revision"`
	// Flags holds the variant by flag key; "" is the code's default.
	Flags   map[string]string `json:"flags"`
	Reasons map[string]string `json:"reasons"`
	// Parent is the service that called; "" for web.
	Parent string `json:"parent,omitempty"`
	// Depth is the number of calls between web and this hop.
	Depth int `json:"depth"`
	// Milliseconds from the first evaluation to the answer, calls included.
	Milliseconds float64 `json:"ms"`
	// PinUnavailable names the flags that could not be had at the pin.
	PinUnavailable []string `json:"pinUnavailable,omitempty"`
}

// An Answer is what /checkout says.
type Answer struct {
	CorrelationID string `json:"correlationId"`
	// Revision is the root's.
	Revision int64 `json:"revision"`
	Torn     bool  `json:"torn"`
	// PinUnavailable is the sum over the hops. Such a flag has the code's
	// default and says so, which is not the same as a silent tear.
	PinUnavailable int `json:"pinUnavailable,omitempty"`
	// Hops are in the order of a walk through the call tree, web first.
	Hops []Hop `json:"hops"`
}

// newAnswer judges the hops of one request; hops[0] is the root.
func newAnswer(correlationID string, hops []Hop) Answer {
	a := Answer{CorrelationID: correlationID, Revision: hops[0].Revision, Torn: len(tornFlags(hops)) > 0, Hops: hops}
	for _, h := range hops {
		a.PinUnavailable += len(h.PinUnavailable)
	}
	return a
}

// tornFlags names, sorted, the flags of which two hops saw different variants.
// One that could not be had at the pin resolved to an explicit error: that is
// counted apart and is not a second variant.
func tornFlags(hops []Hop) []string {
	first := map[string]string{}
	torn := map[string]bool{}
	for _, h := range hops {
		for key, variant := range h.Flags {
			if slices.Contains(h.PinUnavailable, key) {
				continue
			}
			if seen, ok := first[key]; !ok {
				first[key] = variant
			} else if seen != variant {
				torn[key] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(torn))
}

// hopsFrom reads what a called service reported.
func hopsFrom(report []byte) ([]Hop, error) {
	var hops []Hop
	if err := json.Unmarshal(report, &hops); err != nil {
		return nil, err
	}
	if len(hops) == 0 {
		return nil, errors.New("it reported no hop")
	}
	return hops, nil
}

// below puts the hops that a called service reported under its caller.
func below(caller string, hops []Hop) []Hop {
	for i := range hops {
		hops[i].Depth++
		if hops[i].Parent == "" {
			hops[i].Parent = caller
		}
	}
	return hops
}
