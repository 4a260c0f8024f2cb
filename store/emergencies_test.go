package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

func kill(key, variant string) store.KillFlag {
	return store.KillFlag{Environment: "staging", Key: key, Variant: variant}
}

func unkill(key string) store.UnkillFlag { return store.UnkillFlag{Environment: "staging", Key: key} }

// emergencies lists the log of an environment as of a revision.
func emergencies(t *testing.T, db *store.DB, revision int64) string {
	t.Helper()
	var out []string
	for e := range snapshot(t, db, "staging", revision).Emergencies().All() {
		out = append(out, fmt.Sprintf("%d %s %s=%v", e.Revision, e.Flag, e.Variant, e.Value()))
	}
	return strings.Join(out, ", ")
}

// TestKill: from its revision on the flag serves the variant with the value of
// then, whatever is edited; older revisions stay what they were, and the log
// keeps every emergency.
func TestKill(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	text := func(on string) store.PutFlag {
		return put("staging", "a", `{"state":"ENABLED","variants":{"on":"`+on+`","off":"old"},"defaultVariant":"on"}`)
	}
	value := func(revision int64) string {
		r := snapshot(t, db, "staging", revision).Evaluate("a", nil, 0)
		return fmt.Sprintf("%s=%v/%s", r.Variant(), r.Value(), r.Reason())
	}
	apply(t, db, text("new")) // 2
	applied := apply(t, db, kill("a", "off"))
	if applied.Revisions["staging"] != 3 || len(applied.Changes) != 1 || applied.Changes[0].Action != store.ActionKilled {
		t.Errorf("the kill did %+v", applied)
	}
	apply(t, db, put("staging", "a", `{"state":"ENABLED","variants":{"on":"newer","off":"edited"},"defaultVariant":"on"}`)) // 4
	apply(t, db, store.SetState{Environment: "staging", Key: "a", State: "DISABLED"})                                       // 5
	apply(t, db, store.SetState{Environment: "staging", Key: "a", State: "ENABLED"})                                        // 6
	apply(t, db, unkill("a"))                                                                                               // 7
	for revision, want := range map[int64]string{
		2: "on=new/STATIC", 3: "off=old/STATIC", 4: "off=old/STATIC", 5: "off=old/STATIC", 6: "off=old/STATIC", 7: "on=newer/STATIC",
	} {
		if got := value(revision); got != want {
			t.Errorf("at %d the flag is %s, want %s", revision, got, want)
		}
	}
	apply(t, db, kill("a", "off"), kill("a", "on")) // 8: the last counts
	apply(t, db, kill("a", "off"))                  // 9
	if got, want := emergencies(t, db, 9), "3 a off=old, 8 a on=newer, 9 a off=edited"; got != want {
		t.Errorf("the log is %s, want %s", got, want)
	}
	if got, want := emergencies(t, db, 7), "3 a off=old"; got != want {
		t.Errorf("the log at 7 is %s, want %s", got, want)
	}
	rows, from, to, err := db.Superseded(t.Context(), "staging", "a", 5)
	if err != nil || from != 5 || to != 6 || !slices.ContainsFunc(rows, func(r eval.Row) bool { return r.Kind == eval.KindEmergency }) {
		t.Errorf("Superseded at 5: %v rows, [%d, %d), %v, want the emergency among them", rows, from, to, err)
	}
	if _, from, to, err = db.Superseded(t.Context(), "staging", "a", 2); err != nil || from != 2 || to != 3 {
		t.Errorf("Superseded at 2 holds for [%d, %d), %v, want until the kill", from, to, err)
	}
}

func TestKillThatChangesNothing(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff), kill("a", "off"))
	before := state(t, db, "staging")
	for _, op := range []store.Operation{kill("a", "off")} {
		if applied := apply(t, db, op); !applied.Unchanged || applied.Changes[0].Action != store.ActionUnchanged {
			t.Errorf("%+v did %+v, want nothing", op, applied)
		}
	}
	apply(t, db, unkill("a"))
	if applied := apply(t, db, unkill("a")); !applied.Unchanged {
		t.Errorf("a second unkill did %+v, want nothing", applied)
	}
	if after := state(t, db, "staging"); after.Revision != before.Revision+1 || after.Entries != before.Entries+1 {
		t.Errorf("from %+v to %+v, want the unkill alone", before, after)
	}
}

func TestKillsAreRefused(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	never := "never"
	drained := put("staging", "drained", onOff)
	drained.Pierce = &never
	apply(t, db, put("staging", "a", onOff), drained, put("production", "a", onOff))
	before := state(t, db, "staging")
	for name, tt := range map[string]struct {
		op   store.Operation
		want error
		says string
	}{
		"unknown flag":           {kill("b", "off"), store.ErrNotFound, `flag "b"`},
		"unknown flag, unkill":   {unkill("b"), store.ErrNotFound, `flag "b"`},
		"not there":              {store.KillFlag{Environment: "development", Key: "a", Variant: "off"}, store.ErrNotFound, "development"},
		"unknown environment":    {store.KillFlag{Environment: "nowhere", Key: "a", Variant: "off"}, store.ErrNotFound, "nowhere"},
		"no environment":         {store.KillFlag{Key: "a", Variant: "off"}, eval.ErrInvalid, "environment"},
		"unknown variant":        {kill("a", "maybe"), eval.ErrInvalid, "maybe"},
		"no variant":             {kill("a", ""), eval.ErrInvalid, "variant"},
		"bad key":                {kill("a b", "off"), eval.ErrInvalid, "key"},
		"bad key, unkill":        {unkill("a b"), eval.ErrInvalid, "key"},
		"pierce is never":        {kill("drained", "off"), store.ErrPierceNever, "new roots only"},
		"pierce becomes never":   {store.SetAttributes{Environment: "staging", Key: "a", Pierce: &never}, nil, ""},
		"protected, no reason":   {store.KillFlag{Environment: "production", Key: "a", Variant: "off"}, eval.ErrInvalid, "reason"},
		"protected, no reason 2": {store.UnkillFlag{Environment: "production", Key: "a"}, eval.ErrInvalid, "reason"},
	} {
		cs := change(tt.op)
		if tt.want == nil {
			cs.Operations, tt.want = append(cs.Operations, kill("a", "off")), store.ErrPierceNever // as it was left by the operation before
		}
		if strings.HasPrefix(name, "protected") {
			cs.Reason = ""
		}
		if _, err := db.Apply(t.Context(), cs); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %v with %q", name, err, tt.want, tt.says)
		}
	}
	if after := state(t, db, "staging"); after != before {
		t.Errorf("refused kills changed %+v to %+v", before, after)
	}
}

// TestKillNamesAVariantForEachDependent: a flag that requires a killed one would
// change with it, so it is killed too, to a variant that somebody chose.
func TestKillNamesAVariantForEachDependent(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "base", onOff), put("staging", "mid", onOff), put("staging", "top", onOff), put("staging", "other", onOff))
	require := func(key, required string) {
		op := put("staging", key, onOff)
		op.Requires = &[]store.Requirement{{Flag: required, Variants: []string{"on"}}}
		apply(t, db, op)
	}
	require("mid", "base")
	require("top", "mid")
	if f := snapshot(t, db, "staging", 0).Flag("top"); f.Err() != nil || !slices.Contains(f.Dependencies(), eval.Name{Kind: eval.KindFlag, Name: "base"}) {
		t.Fatalf("top: %v, depends on %v", f.Err(), f.Dependencies())
	}
	before := state(t, db, "staging")
	for _, ops := range [][]store.Operation{{kill("base", "off")}, {kill("base", "off"), kill("mid", "off")}, {kill("mid", "off")}} {
		_, err := db.Apply(t.Context(), change(ops...))
		if !errors.Is(err, eval.ErrInvalid) || !strings.Contains(err.Error(), `flag "top" requires it`) {
			t.Errorf("%+v: %v, want top to be named", ops, err)
		}
	}
	if after := state(t, db, "staging"); after != before {
		t.Errorf("refused kills changed %+v to %+v", before, after)
	}
	apply(t, db, kill("top", "off"))
	apply(t, db, kill("base", "off"), kill("mid", "on"))
	s := snapshot(t, db, "staging", 0)
	for key, want := range map[string]string{"base": "off/STATIC", "mid": "on/STATIC", "top": "off/STATIC", "other": "off/STATIC"} {
		if got := variant(t, s, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}

// A kill does not hide what its flag's definition will be when it is lifted.
func TestKillHidesNoCircle(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	require := func(key, required string) store.PutFlag {
		op := put("staging", key, onOff)
		op.Requires = &[]store.Requirement{{Flag: required, Variants: []string{"on"}}}
		return op
	}
	for _, killed := range []string{"a", "z"} { // before the other in the order of keys, and behind it
		apply(t, db, put("staging", "m", onOff))
		apply(t, db, require(killed, "m"))
		apply(t, db, kill(killed, "off"))
		if _, err := db.Apply(t.Context(), change(require("m", killed))); !errors.Is(err, eval.ErrInvalid) || !strings.Contains(err.Error(), "requires itself") {
			t.Errorf("%s is killed: %v, want the circle to be refused", killed, err)
		}
		apply(t, db, store.UnkillFlag{Environment: "staging", Key: killed})
	}
}

func TestEmergenciesInHistoryAndAudit(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff))                                                            // 2
	apply(t, db, kill("a", "on"))                                                                       // 3
	apply(t, db, store.SetState{Environment: "staging", Key: "a", State: "DISABLED"})                   // 4
	apply(t, db, put("staging", "b", onOff))                                                            // 5
	apply(t, db, unkill("a"), store.SetDefaultVariant{Environment: "staging", Key: "a", Variant: "on"}) // 6
	want := []string{
		"6: changed, unkilled by ada", "4: changed, killed by ada", "3: same, killed by ada", "2: created, alive by ada",
	}
	for size := range 5 {
		var got []string
		for token := ""; ; {
			versions, next, err := db.FlagHistory(t.Context(), "staging", "a", store.Page{Size: size, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range versions {
				was, now := "changed", "alive"
				switch {
				case v.Before == nil:
					was = "created"
				case string(v.Before) == string(v.After):
					was = "same"
				}
				switch {
				case strings.Contains(string(v.Emergencies), `"active":true`):
					now = "killed"
				case v.Emergencies != nil:
					now = "unkilled"
				}
				got = append(got, fmt.Sprintf("%d: %s, %s by %s", v.Revision, was, now, v.Actor))
			}
			if token = next; token == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("history in pages of %d: %q, want %q", size, got, want)
		}
	}
	entries, _, err := db.Audit(t.Context(), store.AuditFilter{Flag: "a"}, store.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range entries {
		r, err := e.Record()
		if err != nil {
			t.Fatal(err)
		}
		actions = append(actions, r.Action)
	}
	if want := []string{audit.ActionChange, audit.ActionSetState, audit.ActionKillFlag, audit.ActionPutFlag}; !slices.Equal(actions, want) {
		t.Errorf("actions on the flag: %q, want %q", actions, want)
	}
	if made, err := db.Revision(t.Context(), "staging", 3); err != nil || made.Actor != "ada" || made.Reason != "because" || made.ChangeID == "" {
		t.Errorf("Revision(3) = %+v, %v", made, err)
	}
	if _, err := db.Revision(t.Context(), "staging", 99); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Revision(99): %v, want ErrNotFound", err)
	}
}

// TestKilledArchivedFlag: a flag that was archived can still be killed for the
// requests that are under way.
func TestKilledArchivedFlag(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff), store.ArchiveFlag{Key: "a"})
	apply(t, db, kill("a", "off"))
	if e, ok := snapshot(t, db, "staging", 0).Emergencies().After("a", 2); !ok || e.Variant != "off" {
		t.Errorf("the emergency of the archived flag is %+v, %v", e, ok)
	}
}
