package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestFleetPagesAreReplacedAndReadByTheOthers(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	share := func(replica string, pages map[string][]byte) {
		t.Helper()
		if err := db.ShareFleet(t.Context(), replica, pages); err != nil {
			t.Fatal(err)
		}
	}
	share("a", map[string][]byte{"staging": []byte("a1"), "production": []byte("a2")})
	share("b", map[string][]byte{"staging": []byte("b1")})
	share("a", map[string][]byte{"staging": []byte("a3")})

	for replica, want := range map[string][]store.FleetPage{
		"a": {{Replica: "b", Environment: "staging", Page: []byte("b1")}},
		"b": {
			{Replica: "a", Environment: "production", Page: []byte("a2")},
			{Replica: "a", Environment: "staging", Page: []byte("a3")},
		},
	} {
		got, err := db.Fleet(t.Context(), replica)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(store.FleetPage{}, "Age")); diff != "" {
			t.Errorf("Fleet(%q) (-want +got):\n%s", replica, diff)
		}
		for _, page := range got {
			if page.Age < 0 {
				t.Errorf("Fleet(%q): the page of %s is %v old", replica, page.Replica, page.Age)
			}
		}
	}
	for environments, want := range map[int]bool{2: true, 3: false} {
		if got, err := db.TouchFleet(t.Context(), "a", environments); err != nil || got != want {
			t.Errorf("TouchFleet(a, %d) = %v, %v, want %v", environments, got, err, want)
		}
	}
}
