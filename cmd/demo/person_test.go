package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPersonFrom(t *testing.T) {
	t.Parallel()
	read := func(query string) Person {
		t.Helper()
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		p, err := personFrom(q)
		if err != nil {
			t.Fatalf("personFrom(%q): %v", query, err)
		}
		return p
	}
	if guest := read(""); guest.User != "guest" || guest.Plan == "" || guest.Country == "" {
		t.Errorf("without a user: %+v, want a guest with a plan and a country", guest)
	}
	if a, b := read("user=ada"), read("user=ada"); a != b {
		t.Errorf("the same user twice: %+v and %+v", a, b)
	}
	want := Person{User: "ada", Plan: "team", Country: "JP"}
	if got := read("user=ada&plan=team&country=JP"); got != want {
		t.Errorf("all named: %+v, want %+v", got, want)
	}
	if got := read(want.query().Encode()); got != want {
		t.Errorf("from one service to the next: %+v, want %+v", got, want)
	}

	// People differ: every plan and country comes up among a hundred.
	seen := map[string]bool{}
	for c := 'a'; c <= 'z'; c++ {
		for d := 'a'; d <= 'd'; d++ {
			p := read("user=" + string(c) + string(d))
			seen[p.Plan], seen[p.Country] = true, true
		}
	}
	all := map[string]bool{}
	for _, v := range append(plans, countries...) {
		all[v] = true
	}
	if diff := cmp.Diff(all, seen); diff != "" {
		t.Errorf("plans and countries of 104 people (-want +got):\n%s", diff)
	}

	for _, name := range []string{"user", "plan", "country"} {
		_, err := personFrom(url.Values{name: {strings.Repeat("x", maxAttribute+1)}})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("an oversize %s: %v, want an error that names it", name, err)
		}
	}
}
