package store_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// overridable puts a flag that overrides may force.
func overridable(t *testing.T, db *store.DB, key string) {
	t.Helper()
	yes := true
	op := put("staging", key, onOff)
	op.Overridable = &yes
	apply(t, db, op)
}

func newOverride(edit ...func(*store.NewOverride)) store.NewOverride {
	n := store.NewOverride{Environment: "staging", Flag: "a", Variant: "on", Audience: "shop.example.com", Actor: "ada"}
	for _, f := range edit {
		f(&n)
	}
	return n
}

func TestOverride(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	overridable(t, db, "a")
	if keys, revoked, err := db.OverrideKeys(t.Context(), "staging"); err != nil || len(keys)+len(revoked) != 0 {
		t.Errorf("before the first override: %v, %v, %v, want nothing", keys, revoked, err)
	}
	o, key, err := db.CreateOverride(t.Context(), newOverride(func(n *store.NewOverride) { n.Reason = "to see" }))
	if err != nil {
		t.Fatal(err)
	}
	if o.Flag != "a" || o.Variant != "on" || o.Audience != "shop.example.com" || o.CreatedBy != "ada" || o.Reason != "to see" || o.KeyID != key.ID {
		t.Errorf("override %+v signed by %s", o, key)
	}
	if life := o.ExpiresAt.Sub(o.CreatedAt); life > time.Hour || life <= time.Hour-time.Second || o.ExpiresAt.Nanosecond() != 0 {
		t.Errorf("expires %s after it was made, want an hour in whole seconds", life)
	}
	keys, revoked, err := db.OverrideKeys(t.Context(), "staging")
	if err != nil || len(keys) != 1 || keys[0].ID != key.ID || len(revoked) != 0 {
		t.Fatalf("keys %v, revoked %v, %v, want the one that signs", keys, revoked, err)
	}
	if !ed25519.Verify(keys[0].Public(), []byte("x"), key.Sign([]byte("x"))) {
		t.Error("the key that is handed out does not verify what was signed")
	}

	ended, err := db.RevokeOverride(t.Context(), store.Revocation{ID: o.ID, Actor: "bob", Reason: "seen"})
	if err != nil || ended.RevokedAt.IsZero() {
		t.Fatalf("RevokeOverride = %+v, %v", ended, err)
	}
	again, err := db.RevokeOverride(t.Context(), store.Revocation{ID: o.ID, Actor: "bob"})
	if err != nil || !again.RevokedAt.Equal(ended.RevokedAt) {
		t.Errorf("revoked again: %+v, %v, want it as it was", again, err)
	}
	if _, revoked, err = db.OverrideKeys(t.Context(), "staging"); err != nil || !slices.Equal(revoked, []string{o.ID}) {
		t.Errorf("revoked = %v, %v, want %s", revoked, err, o.ID)
	}

	entries, _, err := db.Audit(t.Context(), store.AuditFilter{Environments: []string{audit.Installation}}, store.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		r, err := e.Record()
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range r.Operations {
			got = append(got, fmt.Sprintf("%s %s by %s: %s", r.Action, op.Action, r.Actor, r.Reason))
		}
	}
	want := []string{
		"override.revoke override.revoke by bob: seen",
		"change override_key.create by ada: to see", "change override.create by ada: to see",
	}
	if !slices.Equal(got, want) {
		t.Errorf("audit log %q, want %q", got, want)
	}
	verify(t, db, audit.Installation)

	// Once its time is over nobody needs to know that it was revoked.
	sql(t, `UPDATE overrides SET created_at = created_at - interval '2 hours', expires_at = expires_at - interval '2 hours'`)
	if _, revoked, err = db.OverrideKeys(t.Context(), "staging"); err != nil || len(revoked) != 0 {
		t.Errorf("revoked = %v, %v, want none whose time is over", revoked, err)
	}
}

func TestOverridesAreRefused(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	overridable(t, db, "a")
	yes := true
	local := put("staging", "local", onOff)
	local.Kind, local.Overridable = "ops", &yes
	old := put("staging", "old", onOff)
	old.Overridable = &yes
	production := put("production", "a", onOff)
	production.Overridable = &yes
	apply(t, db, put("staging", "fixed", onOff), local, old, store.ArchiveFlag{Key: "old"}, production)
	before := verify(t, db, audit.Installation)
	for name, tt := range map[string]struct {
		edit func(*store.NewOverride)
		want error
		says string
	}{
		"not overridable":        {func(n *store.NewOverride) { n.Flag = "fixed" }, store.ErrNotOverridable, `"fixed"`},
		"local":                  {func(n *store.NewOverride) { n.Flag = "local" }, store.ErrNotOverridable, "scope local"},
		"archived":               {func(n *store.NewOverride) { n.Flag = "old" }, store.ErrArchived, ""},
		"unknown flag":           {func(n *store.NewOverride) { n.Flag = "b" }, store.ErrNotFound, `"b"`},
		"elsewhere":              {func(n *store.NewOverride) { n.Environment = "development" }, store.ErrNotFound, "development"},
		"unknown environment":    {func(n *store.NewOverride) { n.Environment = "nowhere" }, store.ErrNotFound, "nowhere"},
		"no environment":         {func(n *store.NewOverride) { n.Environment = "" }, eval.ErrInvalid, "environment: "},
		"bad key":                {func(n *store.NewOverride) { n.Flag = "a b" }, eval.ErrInvalid, "flag: "},
		"unknown variant":        {func(n *store.NewOverride) { n.Variant = "maybe" }, eval.ErrInvalid, "variant: "},
		"no variant":             {func(n *store.NewOverride) { n.Variant = "" }, eval.ErrInvalid, "variant: "},
		"no audience":            {func(n *store.NewOverride) { n.Audience = "" }, eval.ErrInvalid, "audience: "},
		"too long":               {func(n *store.NewOverride) { n.Lifetime = 24*time.Hour + 1 }, eval.ErrInvalid, "lifetime: "},
		"too short":              {func(n *store.NewOverride) { n.Lifetime = time.Second }, eval.ErrInvalid, "lifetime: "},
		"negative":               {func(n *store.NewOverride) { n.Lifetime = -1 }, eval.ErrInvalid, "lifetime: "},
		"nobody":                 {func(n *store.NewOverride) { n.Actor = " " }, eval.ErrInvalid, "actor: "},
		"protected, no reason":   {func(n *store.NewOverride) { n.Environment = "production" }, eval.ErrInvalid, "reason: "},
		"a reason with a NUL":    {func(n *store.NewOverride) { n.Reason = "\x00" }, eval.ErrInvalid, "reason: "},
		"a reason out of bounds": {func(n *store.NewOverride) { n.Reason = strings.Repeat("x", 5000) }, eval.ErrInvalid, "reason: "},
	} {
		_, _, err := db.CreateOverride(t.Context(), newOverride(tt.edit))
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %v with %q", name, err, tt.want, tt.says)
		}
	}
	for _, id := range []string{"", "x", "0190a0a0-0000-7000-8000-000000000000"} {
		if _, err := db.RevokeOverride(t.Context(), store.Revocation{ID: id, Actor: "ada"}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("RevokeOverride(%q): %v, want ErrNotFound", id, err)
		}
	}
	if _, err := db.RevokeOverride(t.Context(), store.Revocation{ID: "x"}); !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("RevokeOverride by nobody: %v, want ErrInvalid", err)
	}
	if after := verify(t, db, audit.Installation); after != before {
		t.Errorf("refused requests wrote %d audit entries", after.Seq-before.Seq)
	}
}

// TestOverrideKeyIsMadeOnce: overrides made at once share one key, which is of
// no use in another environment, as another kind of key, or without the master
// key.
func TestOverrideKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	overridable(t, db, "a")
	ids := make([]string, 8)
	var g errgroup.Group
	for i := range ids {
		g.Go(func() error {
			_, key, err := db.CreateOverride(t.Context(), newOverride())
			ids[i] = key.ID
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 {
		t.Errorf("overrides were signed by keys %q, want one", ids)
	}
	if _, _, err := db.PropagationKeys(t.Context(), "production"); err != nil {
		t.Fatal(err)
	}
	sql(t, `INSERT INTO override_keys SELECT 'production', kid, sealed, created_at FROM override_keys`)
	if _, _, err := db.OverrideKeys(t.Context(), "production"); !errors.Is(err, store.ErrMasterKey) {
		t.Errorf("a key moved to another environment: %v, want ErrMasterKey", err)
	}
	sql(t, `INSERT INTO override_keys SELECT 'development', kid, sealed, created_at FROM propagation_keys WHERE environment = 'production'`)
	if _, _, err := db.OverrideKeys(t.Context(), "development"); !errors.Is(err, store.ErrMasterKey) {
		t.Errorf("a propagation key among override keys: %v, want ErrMasterKey", err)
	}
	without, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer without.Close()
	if _, _, err := without.CreateOverride(t.Context(), newOverride()); !errors.Is(err, store.ErrNoMasterKey) {
		t.Errorf("CreateOverride without a master key: %v, want ErrNoMasterKey", err)
	}
	if _, _, err := without.OverrideKeys(t.Context(), "staging"); !errors.Is(err, store.ErrNoMasterKey) {
		t.Errorf("OverrideKeys without a master key: %v, want ErrNoMasterKey", err)
	}
}

func TestOverridesAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	overridable(t, db, "a")
	var made []string
	for range 5 {
		o, _, err := db.CreateOverride(t.Context(), newOverride())
		if err != nil {
			t.Fatal(err)
		}
		made = append([]string{o.ID}, made...)
	}
	if _, err := db.RevokeOverride(t.Context(), store.Revocation{ID: made[1], Actor: "ada"}); err != nil {
		t.Fatal(err)
	}
	live := slices.Delete(slices.Clone(made), 1, 2)
	for _, tt := range []struct {
		filter store.OverrideFilter
		want   []string
	}{
		{store.OverrideFilter{}, live},
		{store.OverrideFilter{Ended: true}, made},
		{store.OverrideFilter{Environment: "staging"}, live},
		{store.OverrideFilter{Environment: "production", Ended: true}, nil},
	} {
		for size := range 6 {
			var got []string
			for token := ""; ; {
				page, next, err := db.Overrides(t.Context(), tt.filter, store.Page{Size: size, Token: token})
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, names(page, func(o store.Override) string { return o.ID })...)
				if token = next; token == "" {
					break
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%+v in pages of %d: %q, want %q", tt.filter, size, got, tt.want)
			}
		}
	}
	for _, token := range []string{"%", "e30", "eyJJRCI6IngifQ"} {
		if _, _, err := db.Overrides(t.Context(), store.OverrideFilter{}, store.Page{Token: token}); !errors.Is(err, eval.ErrInvalid) {
			t.Errorf("page token %q: %v, want ErrInvalid", token, err)
		}
	}
}

// TestOverridesAreBounded: what every SDK must hold does not grow without end,
// and what has ended long ago goes away by itself.
func TestOverridesAreBounded(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	overridable(t, db, "a")
	if _, _, err := db.CreateOverride(t.Context(), newOverride()); err != nil {
		t.Fatal(err)
	}
	sql(t, `INSERT INTO overrides SELECT gen_random_uuid(), environment, flag, variant, audience, reason, kid, created_at, created_by, expires_at
		FROM overrides, generate_series(1, 999)`)
	_, _, err := db.CreateOverride(t.Context(), newOverride())
	if !errors.Is(err, eval.ErrInvalid) || !strings.Contains(err.Error(), "1000") {
		t.Errorf("one too many: %v, want ErrInvalid", err)
	}
	sql(t, `UPDATE overrides SET created_at = created_at - interval '32 days', expires_at = expires_at - interval '32 days'`)
	if _, _, err := db.CreateOverride(t.Context(), newOverride()); err != nil {
		t.Fatal(err)
	}
	ended, _, err := db.Overrides(t.Context(), store.OverrideFilter{Ended: true}, store.Page{Size: 1000})
	if err != nil || len(ended) != 997 {
		t.Errorf("%d overrides are left of 1001, %v, want 4 gone", len(ended), err)
	}
}

func TestSetAttributes(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	yes, no, never, all, bad, nearest := true, false, "never", "", "always", "nearest"
	apply(t, db, put("staging", "a", onOff))
	for i, step := range []struct {
		op   store.SetAttributes
		want string
	}{
		{store.SetAttributes{Overridable: &yes}, "false true  false"},
		{store.SetAttributes{Attach: &yes, Pierce: &never, PinUnavailable: &nearest}, "true true never true"},
		{store.SetAttributes{}, "true true never true"},
		{store.SetAttributes{Attach: &no, Overridable: &no, Pierce: &all, PinUnavailable: &all}, "false false  false"},
	} {
		step.op.Environment, step.op.Key = "staging", "a"
		apply(t, db, step.op)
		f := snapshot(t, db, "staging", 0).Flag("a")
		if got := fmt.Sprintf("%v %v %s %v", f.Attach(), f.Overridable(), f.Pierce(), f.Nearest()); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	before := state(t, db, "staging")
	for _, op := range []store.Operation{
		store.SetAttributes{Environment: "staging", Key: "a", Pierce: &bad},
		store.SetAttributes{Environment: "staging", Key: "a", PinUnavailable: &bad},
		store.SetAttributes{Environment: "staging", Key: "b", Attach: &yes},
		store.SetAttributes{Environment: "staging", Key: "a b", Attach: &yes},
		store.PutFlag{Environment: "staging", Key: "a", Definition: []byte(onOff), Pierce: &bad},
	} {
		if _, err := db.Apply(t.Context(), change(op)); !errors.Is(err, eval.ErrInvalid) && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v: %v, want it refused", op, err)
		}
	}
	if after := state(t, db, "staging"); after != before {
		t.Errorf("refused operations changed %+v to %+v", before, after)
	}
}
