package main

import (
	"strings"
	"testing"
)

// TestReadyShowsNoPassword: the URL of a database that somebody else made may
// hold one; programs find it in the ready file, which is private.
func TestReadyShowsNoPassword(t *testing.T) {
	t.Parallel()
	for _, given := range []bool{false, true} {
		var b strings.Builder
		r := ready{DatabaseURL: "postgres://guidon:secret@db/guidon", given: given}
		if err := r.print(&b, "/data"); err != nil {
			t.Fatal(err)
		}
		if shown := strings.Contains(b.String(), "secret"); shown == given {
			t.Errorf("with --database-url %v the URL is shown: %v", given, shown)
		}
		if !strings.Contains(string(encoded(r)), r.DatabaseURL) {
			t.Errorf("the ready file holds no database URL: %s", encoded(r))
		}
	}
}
