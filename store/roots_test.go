package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// Who edits the allow-list hears of it before it is full.
func TestTravelIsWarnedOf(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	put := func(maxBytes int) []string {
		return apply(t, db, store.PutSettings{Environment: "staging", Settings: eval.Settings{Travel: []eval.Travel{
			{Attribute: "note", MaxBytes: maxBytes}, {Attribute: "plan"},
		}}}).Warnings
	}
	if got := put(200); len(got) != 0 {
		t.Errorf("at 732 bytes: %q, want no warning", got)
	}
	want := []string{"the attributes that travel in staging may take 882 of the 1024 bytes that the header has for them"}
	if got := put(250); !slices.Equal(got, want) {
		t.Errorf("Warnings = %q, want %q", got, want)
	}
}

// What the root of a request decides must fit into its header: 24 flags, and
// 1,024 bytes of them.
func TestRootsAreBounded(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	reads := func(attribute string) string {
		return fmt.Sprintf(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"var":%q},"on","off"]}}`, attribute)
	}
	var full []store.Operation
	for i := range eval.MaxRootDecisions {
		full = append(full, put("staging", fmt.Sprintf("rooted-%02d", i), reads("cart")))
	}
	apply(t, db, full...)
	refused := func(what string, operations ...store.Operation) {
		t.Helper()
		_, err := db.Apply(t.Context(), store.ChangeSet{Actor: "test", Reason: "a test", Operations: operations})
		if !errors.Is(err, eval.ErrInvalid) || !strings.Contains(err.Error(), "rooted-07 (cart)") || !strings.Contains(err.Error(), "the root of a request would decide") {
			t.Errorf("%s: %v, want a refusal that lists the flags", what, err)
		}
	}
	refused("one more", put("staging", "one-more", reads("email")))
	apply(t, db, put("staging", "derivable", reads("targetingKey")), put("staging", "rooted-03", reads("email")), put("production", "one-more", reads("email")))
	apply(t, db, store.PutSettings{Environment: "staging", Settings: eval.Settings{Travel: []eval.Travel{{Attribute: "email"}}}}, put("staging", "one-more", reads("email")))
	refused("what made room is taken back", store.PutSettings{Environment: "staging"})

	// However many they are, the refusal can be read.
	flood := make([]store.Operation, 200)
	for i := range flood {
		flood[i] = put("staging", fmt.Sprintf("rooted-%03d", i), reads("cart"))
	}
	_, err := db.Apply(t.Context(), store.ChangeSet{Actor: "test", Reason: "a test", Operations: flood})
	if err == nil || !strings.Contains(err.Error(), "more") || len(err.Error()) > 4<<10 {
		t.Errorf("200 too many: %v, want a refusal that names the first", err)
	}

	// Few, but long.
	long := strings.Repeat("k", 100)
	var most []store.Operation
	for i := range 9 {
		most = append(most, put("production", fmt.Sprint(long, i), reads("cart")))
	}
	apply(t, db, most...)
	_, err = db.Apply(t.Context(), store.ChangeSet{Actor: "test", Reason: "a test", Operations: []store.Operation{put("production", long+"9", reads("cart"))}})
	if err == nil || !strings.Contains(err.Error(), "1,024") && !strings.Contains(err.Error(), "1024") {
		t.Errorf("beyond 1,024 bytes: %v, want a refusal", err)
	}
}
