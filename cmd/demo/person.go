package main

import (
	"fmt"
	"hash/fnv"
	"net/url"
)

// maxAttribute bounds, in bytes, what a query parameter may put into the
// evaluation context.
const maxAttribute = 64

var (
	plans     = []string{"free", "free", "pro", "team"}
	countries = []string{"AT", "CH", "DE", "FR", "IT", "US"}
)

// A Person is whom a request is for: the evaluation context of the shop.
type Person struct {
	// User is the targeting key.
	User    string `json:"user"`
	Plan    string `json:"plan"`
	Country string `json:"country"`
}

// personFrom reads user, plan and country of a query. Without a user it is a
// guest. A plan or country that is left out follows from the user's name, so
// that people differ and each stays the same.
func personFrom(q url.Values) (Person, error) {
	for _, name := range []string{"user", "plan", "country"} {
		if n := len(q.Get(name)); n > maxAttribute {
			return Person{}, fmt.Errorf("query parameter %s has %d bytes; at most %d", name, n, maxAttribute)
		}
	}
	p := Person{User: q.Get("user"), Plan: q.Get("plan"), Country: q.Get("country")}
	if p.User == "" {
		p.User = "guest"
	}
	h := fnv.New32a()
	h.Write([]byte(p.User))
	sum := h.Sum32()
	if p.Plan == "" {
		p.Plan = plans[sum%uint32(len(plans))]
	}
	if p.Country == "" {
		p.Country = countries[(sum>>8)%uint32(len(countries))]
	}
	return p, nil
}

// attributes of the evaluation context, the targeting key left out.
func (p Person) attributes() map[string]any {
	return map[string]any{"plan": p.Plan, "country": p.Country}
}

// query carries the context to the next service when no header does.
func (p Person) query() url.Values {
	return url.Values{"user": {p.User}, "plan": {p.Plan}, "country": {p.Country}}
}
