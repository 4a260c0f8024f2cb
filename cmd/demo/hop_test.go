package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTornFlags(t *testing.T) {
	t.Parallel()
	saw := func(variants ...string) Hop {
		h := Hop{Flags: map[string]string{}}
		for i := 0; i < len(variants); i += 2 {
			h.Flags[variants[i]] = variants[i+1]
		}
		return h
	}
	unavailable := saw("a", "")
	unavailable.PinUnavailable = []string{"a"}
	tests := []struct {
		name string
		hops []Hop
		want []string
	}{
		{"one hop", []Hop{saw("a", "on")}, nil},
		{"agree", []Hop{saw("a", "on", "b", "x"), saw("a", "on"), saw("b", "x")}, nil},
		{"differ", []Hop{saw("a", "on"), saw("a", "off")}, []string{"a"}},
		{"differ in the last of three", []Hop{saw("a", "on"), saw("a", "on"), saw("a", "off")}, []string{"a"}},
		{"different flags", []Hop{saw("a", "on"), saw("b", "off")}, nil},
		{"two torn, sorted", []Hop{saw("b", "1", "a", "on"), saw("a", "off", "b", "2")}, []string{"a", "b"}},
		{"the code's default is a variant", []Hop{saw("a", "on"), saw("a", "")}, []string{"a"}},
		{"the code's default everywhere", []Hop{saw("a", ""), saw("a", "")}, nil},
		{"not to be had at the pin", []Hop{saw("a", "on"), unavailable, saw("a", "on")}, nil},
		{"torn beside not to be had", []Hop{saw("a", "on"), unavailable, saw("a", "off")}, []string{"a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, tornFlags(tt.hops)); diff != "" {
				t.Errorf("tornFlags (-want +got):\n%s", diff)
			}
		})
	}
}

// The shape is an interface: scripts and the page read it.
func TestAnswerJSON(t *testing.T) {
	t.Parallel()
	root := Hop{Service: "web", Via: overHTTP, Revision: 9_007_199_254_740_991, Flags: map[string]string{"a": "on"}, Reasons: map[string]string{"a": "STATIC"}}
	child := root
	child.Service, child.Via = "mailer", overJetStream
	got, err := json.Marshal(newAnswer("cid", append([]Hop{root}, below("web", []Hop{child})...)))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"correlationId":"cid","revision":9007199254740991,"torn":false,"hops":[` +
		`{"service":"web","via":"http","revision":9007199254740991,"flags":{"a":"on"},"reasons":{"a":"STATIC"},"depth":0,"ms":0},` +
		`{"service":"mailer","via":"jetstream","revision":9007199254740991,"flags":{"a":"on"},"reasons":{"a":"STATIC"},"parent":"web","depth":1,"ms":0}]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	child.PinUnavailable = []string{"a"}
	if a := newAnswer("cid", []Hop{root, child, child}); a.PinUnavailable != 2 || a.Torn {
		t.Errorf("two flags not to be had at the pin: pinUnavailable %d, torn %v; want 2, false", a.PinUnavailable, a.Torn)
	}
}

// below keeps the tree: who called whom, and how deep.
func TestBelow(t *testing.T) {
	t.Parallel()
	inventory := []Hop{{Service: "inventory"}}
	cart := append([]Hop{{Service: "cart"}}, below("cart", inventory)...)
	type place struct {
		Service, Parent string
		Depth           int
	}
	var got []place
	for _, h := range below("web", cart) {
		got = append(got, place{h.Service, h.Parent, h.Depth})
	}
	if diff := cmp.Diff([]place{{"cart", "web", 1}, {"inventory", "cart", 2}}, got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}
