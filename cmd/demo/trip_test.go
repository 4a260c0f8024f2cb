package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a call says is what the called service reads.
func TestTripHeader(t *testing.T) {
	t.Parallel()
	for _, sent := range []trip{
		{mode: on, via: overGRPC},
		{off, overProxy, Person{User: "ada & b=c; ü", Plan: "pro", Country: "AT"}},
	} {
		got, err := tripFrom(sent.header(), sent.via)
		if err != nil {
			t.Errorf("tripFrom(%q): %v", sent.header(), err)
		}
		if diff := cmp.Diff(sent, got, cmp.AllowUnexported(trip{})); diff != "" {
			t.Errorf("trip (-sent +got):\n%s", diff)
		}
	}
	for _, bad := range [][]string{{"user=ada", "user=bob"}, {"user=%zz"}, {"user=" + strings.Repeat("x", 65)}} {
		if got, err := tripFrom(bad, overHTTP); err == nil || !strings.Contains(err.Error(), tripHeader) {
			t.Errorf("tripFrom(%.40q) = %v, %v, want an error that names the header", bad, got, err)
		}
	}
}
