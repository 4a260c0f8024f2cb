package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("development", "a", onOff), put("staging", "a", onOff))
	if _, err := db.Apply(t.Context(), change(store.DeleteFlag{Key: "a"})); !errors.Is(err, store.ErrNotArchived) {
		t.Errorf("deleting a flag in use: %v, want ErrNotArchived", err)
	}
	apply(t, db, store.ArchiveFlag{Key: "a"})
	applied := apply(t, db, store.RestoreFlag{Key: "a"})
	if got := applied.Changes[0].Action; got != store.ActionRestored || len(applied.Revisions) != 2 {
		t.Errorf("restoring = %+v, want restored in both", applied)
	}
	apply(t, db, store.SetState{Environment: "staging", Key: "a", State: "ENABLED"})
	if got := variant(t, snapshot(t, db, "staging", 0), "a"); got != "off/STATIC" {
		t.Errorf("the restored flag is %s, want off/STATIC", got)
	}
	applied = apply(t, db, store.ArchiveFlag{Key: "a"}, store.DeleteFlag{Key: "a"})
	if got := applied.Changes[3]; got.Action != store.ActionDeleted || got.After != nil {
		t.Errorf("deleting = %+v, want deleted", got)
	}
	for _, env := range []string{"development", "staging"} {
		if got := variant(t, snapshot(t, db, env, 0), "a"); got != "/ERROR" {
			t.Errorf("the deleted flag in %s is %s, want FLAG_NOT_FOUND", env, got)
		}
	}
	if got := variant(t, snapshot(t, db, "development", 2), "a"); got != "off/STATIC" {
		t.Errorf("before it was deleted a was %s, want off/STATIC", got)
	}
	for _, op := range []store.Operation{put("production", "a", onOff), put("development", "a", onOff)} {
		if _, err := db.Apply(t.Context(), change(op)); !errors.Is(err, store.ErrExists) {
			t.Errorf("using a deleted key again: %v, want ErrExists", err)
		}
	}
	for _, op := range []store.Operation{store.DeleteFlag{Key: "a"}, store.RestoreFlag{Key: "a"}, store.DescribeFlag{Key: "a"}} {
		if _, err := db.Apply(t.Context(), change(op)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%T of a deleted key: %v, want ErrNotFound", op, err)
		}
	}
	verify(t, db, "development")
}

func TestRemoveFlag(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("development", "a", onOff), put("staging", "a", onOff), put("staging", "b", onOff), requiring("staging", "top", "b"))
	applied := apply(t, db, store.RemoveFlag{Environment: "staging", Key: "a"})
	if diff := cmp.Diff(map[string]int64{"staging": 3}, applied.Revisions); diff != "" || applied.Changes[0].Action != store.ActionDeleted {
		t.Errorf("removing = %+v, want it deleted in staging alone", applied)
	}
	if got := variant(t, snapshot(t, db, "staging", 0), "a"); got != "/ERROR" {
		t.Errorf("the removed flag is %s, want FLAG_NOT_FOUND", got)
	}
	if got := variant(t, snapshot(t, db, "development", 0), "a"); got != "off/STATIC" {
		t.Errorf("in development it is %s, want off/STATIC", got)
	}
	for op, want := range map[store.Operation]error{
		store.RemoveFlag{Environment: "staging", Key: "a"}: store.ErrNotFound,
		store.RemoveFlag{Environment: "staging", Key: "b"}: store.ErrInUse,
		store.RemoveFlag{Environment: "staging"}:           eval.ErrInvalid,
		store.RemoveFlag{Key: "a"}:                         eval.ErrInvalid,
	} {
		if _, err := db.Apply(t.Context(), change(op)); !errors.Is(err, want) {
			t.Errorf("%+v: %v, want %v", op, err, want)
		}
	}
	apply(t, db, put("staging", "a", onOff), store.ArchiveFlag{Key: "a"}) // its key is free
	if _, err := db.Apply(t.Context(), change(store.RemoveFlag{Environment: "staging", Key: "a"})); !errors.Is(err, store.ErrArchived) {
		t.Errorf("removing an archived flag: %v, want ErrArchived", err)
	}
}

func TestDescribeFlag(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("development", "a", onOff))
	before := state(t, db, "development")
	owner, tags, links := "shop", []string{"b", "a", "b"}, []string{"https://example.com/a"}
	op := store.DescribeFlag{Key: "a", Owner: &owner, Tags: &tags, Links: &links}
	if applied := apply(t, db, op); applied.Changes[0].Action != store.ActionChanged || applied.Unchanged || len(applied.Revisions) != 0 {
		t.Errorf("describing = %+v, want a change without a revision", applied)
	}
	if again := apply(t, db, op); !again.Unchanged {
		t.Errorf("describing again = %+v, want unchanged", again)
	}
	none := []string{}
	apply(t, db, store.DescribeFlag{Key: "a", Tags: &none})
	f, err := db.Flag(t.Context(), "development", "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{"shop", []string{}, links}, []any{f.Owner, f.Tags, f.Links}); diff != "" {
		t.Errorf("owner, tags, links (-want +got):\n%s", diff)
	}
	if got := state(t, db, "development"); got != before {
		t.Errorf("describing left %+v, want %+v", got, before)
	}
	if head := verify(t, db, audit.Installation); head.Seq != 2 {
		t.Errorf("%d entries, want 2", head.Seq)
	}
	bad := []string{"javascript:alert(1)"}
	for _, op := range []store.Operation{store.DescribeFlag{Key: "a", Links: &bad}, store.DescribeFlag{Key: "nobody"}} {
		if _, err := db.Apply(t.Context(), change(op)); err == nil {
			t.Errorf("%+v was accepted", op)
		}
	}
}

const readsPeople = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"people"},"on","off"]}}`

func TestUsedSegmentStays(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	segment := func(name, condition string) store.PutSegment {
		return store.PutSegment{Environment: "staging", Name: name, Condition: []byte(condition)}
	}
	apply(t, db, segment("people", `true`), segment("adults", `{"$ref":"people"}`), put("staging", "a", readsPeople))
	before := state(t, db, "staging")
	_, err := db.Apply(t.Context(), change(store.DeleteSegment{Environment: "staging", Name: "people"}))
	used, ok := errors.AsType[*store.InUseError](err)
	if !ok || !errors.Is(err, store.ErrInUse) {
		t.Fatalf("deleting a used segment: %v, want ErrInUse", err)
	}
	want := []eval.Name{{Kind: eval.KindFlag, Name: "a"}, {Kind: eval.KindSegment, Name: "adults"}}
	if diff := cmp.Diff(want, used.Users); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if got := state(t, db, "staging"); got != before {
		t.Errorf("the refusal left %+v, want %+v", got, before)
	}
	apply(t, db, put("staging", "a", onOff),
		store.DeleteSegment{Environment: "staging", Name: "adults"}, store.DeleteSegment{Environment: "staging", Name: "people"})
	if got := snapshot(t, db, "staging", 0).Segments(); len(got) != 0 {
		t.Errorf("segments = %q, want none", got)
	}
	apply(t, db, segment("people", `false`)) // a segment's name may be used again
}

// requiring is a flag that is on for all where another has the variant on.
func requiring(env, key, other string) store.PutFlag {
	op := put(env, key, `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`)
	op.Requires = &[]store.Requirement{{Flag: other, Variants: []string{"on"}}}
	return op
}

func TestPrerequisites(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "base", onOff), requiring("staging", "middle", "base"), requiring("staging", "top", "middle"))
	check := func(want string) {
		t.Helper()
		s := snapshot(t, db, "staging", 0)
		if got := s.Evaluate("middle", nil, 0).Variant() + " " + s.Evaluate("top", nil, 0).Variant(); got != want {
			t.Errorf("middle and top are %q, want %q", got, want)
		}
	}
	check("off off")
	apply(t, db, store.SetDefaultVariant{Environment: "staging", Key: "base", Variant: "on"})
	check("on on")
	before := state(t, db, "staging")
	for name, c := range map[string]struct {
		op   store.Operation
		err  error
		says string
	}{
		"missing":             {requiring("staging", "x", "nobody"), eval.ErrInvalid, `"nobody", which does not exist`},
		"in another place":    {requiring("production", "x", "base"), eval.ErrInvalid, "does not exist"},
		"itself":              {requiring("staging", "middle", "middle"), eval.ErrInvalid, "requires itself"},
		"circle":              {requiring("staging", "base", "top"), eval.ErrInvalid, "requires itself"},
		"unknown variant":     {put("staging", "base", `{"state":"ENABLED","variants":{"yes":true},"defaultVariant":"yes"}`), eval.ErrInvalid, `variant "on"`},
		"archived under them": {store.ArchiveFlag{Key: "base"}, store.ErrInUse, "flag middle"},
		"no variants": {func() store.Operation {
			op := requiring("staging", "x", "base")
			(*op.Requires)[0].Variants = nil
			return op
		}(), eval.ErrInvalid, "requires[0].variants"},
	} {
		_, err := db.Apply(t.Context(), change(c.op))
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v saying %q", name, err, c.err, c.says)
		}
	}
	if got := state(t, db, "staging"); got != before {
		t.Errorf("refusals left %+v, want %+v", got, before)
	}
	cs := change(store.SetDefaultVariant{Environment: "staging", Key: "base", Variant: "off"})
	cs.DryRun = true
	dry, err := db.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	if got := dry.Drafts["staging"].Affected; !slices.Equal(got, []string{"base", "middle", "top"}) {
		t.Errorf("affected = %q, want all three", got)
	}
	// What is archived together holds nothing up.
	apply(t, db, store.ArchiveFlag{Key: "top"}, store.ArchiveFlag{Key: "middle"}, store.ArchiveFlag{Key: "base"})
	if _, err := db.Apply(t.Context(), change(store.DeleteFlag{Key: "base"})); !errors.Is(err, store.ErrInUse) {
		t.Errorf("deleting what an archived flag requires: %v, want ErrInUse", err)
	}
	apply(t, db, store.DeleteFlag{Key: "base"}, store.DeleteFlag{Key: "middle"}, store.DeleteFlag{Key: "top"})
}

func TestEnvironmentsStaySmallEnough(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff))
	sql(t, "UPDATE environments SET bytes = 104857600 - 50 WHERE name = 'staging'")
	if _, err := db.Apply(t.Context(), change(put("staging", "b", onOff))); !errors.Is(err, eval.ErrInvalid) || !strings.Contains(err.Error(), "104857600") {
		t.Errorf("a flag that is too much: %v, want a refusal that names the limit", err)
	}
	apply(t, db, store.SetState{Environment: "staging", Key: "a", State: "DISABLED"})
}
