package store_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func keyOf(f store.Flag) string { return f.Key }

func TestFlagCarriesWhatTheInstallationKnows(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	op := put("staging", "pricing", onOff)
	op.Project, op.Kind, op.Owner, op.Description, op.Tags = "shop", "experiment", "team", "new prices", []string{"b", "a"}
	apply(t, db, op)
	cs := change(store.SetState{Environment: "staging", Key: "pricing", State: "DISABLED"})
	cs.Actor, cs.Reason = "grace", "too cheap"
	applied, err := db.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	want := store.Flag{
		Environment: "staging", Key: "pricing", Project: "shop", Kind: "experiment", Type: "boolean", Scope: "request",
		Owner: "team", Description: "new prices", Tags: []string{"a", "b"}, Links: []string{}, Lifecycle: "active",
		Document:     applied.Changes[0].After,
		FromRevision: 3, UpdatedBy: "grace", Reason: "too cheap", ChangeID: applied.ChangeID,
	}
	ignoreTimes := cmpopts.IgnoreTypes(time.Time{})
	got, err := db.Flag(t.Context(), "staging", "pricing", 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, ignoreTimes); diff != "" {
		t.Errorf("Flag (-want +got):\n%s", diff)
	}
	if !got.UpdatedAt.After(got.CreatedAt) || got.CreatedAt.IsZero() {
		t.Errorf("updated at %v, created at %v", got.UpdatedAt, got.CreatedAt)
	}
	listed, next, err := db.Flags(t.Context(), "staging", store.FlagFilter{}, store.Page{})
	if err != nil || next != "" {
		t.Fatalf("Flags: next %q, %v", next, err)
	}
	if diff := cmp.Diff([]store.Flag{want}, listed, ignoreTimes); diff != "" {
		t.Errorf("Flags (-want +got):\n%s", diff)
	}
	old, err := db.Flag(t.Context(), "staging", "pricing", 2)
	if err != nil || old.FromRevision != 2 || old.ToRevision != 3 || old.UpdatedBy != "ada" {
		t.Errorf("Flag at 2 = from %d to %d by %s, %v, want from 2 to 3 by ada", old.FromRevision, old.ToRevision, old.UpdatedBy, err)
	}
	if _, err := db.Flag(t.Context(), "staging", "pricing", 1); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Flag before it was made: %v, want ErrNotFound", err)
	}
	if _, err := db.Flag(t.Context(), "production", "pricing", 0); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), `flag "pricing" in production`) {
		t.Errorf("Flag elsewhere: %v, want ErrNotFound that says where", err)
	}
}

func TestFlagFilter(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	a, b, c := put("staging", "Alpha", onOff), put("staging", "beta", onOff), put("staging", "gamma", onOff)
	a.Project, a.Description = "shop", "Checkout page"
	apply(t, db, a, b, c)
	apply(t, db, store.ArchiveFlag{Key: "gamma"})
	for name, c := range map[string]struct {
		filter store.FlagFilter
		want   []string
	}{
		"everything":    {store.FlagFilter{}, []string{"Alpha", "beta", "gamma"}},
		"project":       {store.FlagFilter{Project: "shop"}, []string{"Alpha"}},
		"lifecycle":     {store.FlagFilter{Lifecycle: "archived"}, []string{"gamma"}},
		"key":           {store.FlagFilter{Query: "alph"}, []string{"Alpha"}},
		"description":   {store.FlagFilter{Query: "CHECKOUT"}, []string{"Alpha"}},
		"wildcards":     {store.FlagFilter{Query: "%"}, nil},
		"both":          {store.FlagFilter{Project: "default", Lifecycle: "active"}, []string{"beta"}},
		"contradiction": {store.FlagFilter{Project: "shop", Query: "beta"}, nil},
	} {
		flags, _, err := db.Flags(t.Context(), "staging", c.filter, store.Page{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, names(flags, keyOf)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, _, err := db.Flags(t.Context(), "nowhere", store.FlagFilter{}, store.Page{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Flags of an unknown environment: %v, want ErrNotFound", err)
	}
}

func TestFlagsPage(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	var ops []store.Operation
	var want []string
	for i := range 25 {
		key := fmt.Sprintf("flag-%02d", i)
		ops, want = append(ops, put("staging", key, onOff)), append(want, key)
	}
	apply(t, db, ops...)
	var got []string
	page := store.Page{Size: 10}
	for pages := 1; ; pages++ {
		flags, next, err := db.Flags(t.Context(), "staging", store.FlagFilter{}, page)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, names(flags, keyOf)...)
		if page.Token = next; next == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags over all pages (-want +got):\n%s", diff)
	}
}

func TestPageOfLargeDocumentsEndsEarly(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	const each, n = 450 << 10, 24 // more than 8 MiB together
	large := fmt.Sprintf(`{"state":"ENABLED","variants":{"a":%q},"defaultVariant":"a"}`, strings.Repeat("x", each))
	for i := range n {
		apply(t, db, put("staging", fmt.Sprintf("flag-%02d", i), large))
	}
	total, pages := 0, 0
	for token := ""; pages == 0 || token != ""; pages++ {
		flags, next, err := db.Flags(t.Context(), "staging", store.FlagFilter{}, store.Page{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		if len(flags)*each > 9<<20 {
			t.Errorf("a page holds %d documents of %d bytes", len(flags), each)
		}
		total, token = total+len(flags), next
	}
	if total != n || pages < 2 {
		t.Errorf("%d flags on %d pages, want %d on several", total, pages, n)
	}
}

func TestBadPage(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	nul := base64.RawURLEncoding.EncodeToString([]byte(`{"Key":"\u0000","Environment":"\u0000","ID":"\u0000"}`))
	for _, page := range []store.Page{{Size: -1}, {Size: 1001}, {Token: "!"}, {Token: "bm90IGpzb24"}, {Token: "WzFd"}, {Token: nul}} {
		ctx := t.Context()
		for name, call := range map[string]func() error{
			"Flags":       func() error { _, _, err := db.Flags(ctx, "staging", store.FlagFilter{}, page); return err },
			"FlagHistory": func() error { _, _, err := db.FlagHistory(ctx, "staging", "a", page); return err },
			"Audit":       func() error { _, _, err := db.Audit(ctx, store.AuditFilter{}, page); return err },
			"Keys":        func() error { _, _, err := db.Keys(ctx, page); return err },
		} {
			if err := call(); !errors.Is(err, eval.ErrInvalid) {
				t.Errorf("%s of %+v: %v, want ErrInvalid", name, page, err)
			}
		}
	}
}

func TestFlagHistory(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	first := apply(t, db, put("staging", "a", onOff))
	apply(t, db, put("staging", "b", onOff))
	second := apply(t, db, store.SetState{Environment: "staging", Key: "a", State: "DISABLED"})
	third := apply(t, db, store.ArchiveFlag{Key: "a"})
	event := func(a store.Applied) store.FlagVersion {
		return store.FlagVersion{
			Revision: a.Revisions["staging"], Actor: "ada", Reason: "because", ChangeID: a.ChangeID,
			Before: a.Changes[0].Before, After: a.Changes[0].After,
		}
	}
	want := []store.FlagVersion{event(third), event(second), event(first)}
	var got []store.FlagVersion
	for token := ""; ; {
		versions, next, err := db.FlagHistory(t.Context(), "staging", "a", store.Page{Size: 2, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, versions...)
		if token = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(time.Time{})); diff != "" {
		t.Errorf("FlagHistory (-want +got):\n%s", diff)
	}
	if !got[0].Time.After(got[2].Time) {
		t.Errorf("the newest version is of %v, the oldest of %v", got[0].Time, got[2].Time)
	}
	for _, missing := range [][2]string{{"production", "a"}, {"staging", "nobody"}, {"nowhere", "a"}} {
		if _, _, err := db.FlagHistory(t.Context(), missing[0], missing[1], store.Page{}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("FlagHistory(%v): %v, want ErrNotFound", missing, err)
		}
	}
}

func TestHistoryShowsTheEndOfADeletedFlag(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	first := apply(t, db, put("staging", "a", onOff))
	sql(t, `UPDATE environments SET revision = 3 WHERE name = 'staging'`,
		`INSERT INTO revisions VALUES ('staging', 3, NULL, 'grace', 'gone', now())`,
		`UPDATE flag_versions SET to_revision = 3 WHERE environment = 'staging' AND name = 'a'`)
	versions, _, err := db.FlagHistory(t.Context(), "staging", "a", store.Page{})
	if err != nil {
		t.Fatal(err)
	}
	if len(versions) != 2 || versions[0].After != nil || string(versions[0].Before) != string(first.Changes[0].After) || versions[0].Actor != "grace" {
		t.Errorf("history = %+v, want the end by grace first", versions)
	}
}
