package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestSetStateAndDefaultVariantEditTheDefinition(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", `{"state":"DISABLED","variants":{"on":true,"off":false},"defaultVariant":"off","metadata":{"team":"x"}}`))
	apply(t, db,
		store.SetState{Environment: "staging", Key: "a", State: "ENABLED"},
		store.SetDefaultVariant{Environment: "staging", Key: "a", Variant: "on"},
	)
	f, err := db.Flag(t.Context(), "staging", "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"flag":{"defaultVariant":"on","metadata":{"team":"x"},"state":"ENABLED","variants":{"off":false,"on":true}},` +
		`"guidon":{"kind":"release","project":"default","scope":"request","type":"boolean"}}`
	if string(f.Document) != want || f.FromRevision != 3 {
		t.Errorf("document = %s from %d, want %s from 3", f.Document, f.FromRevision, want)
	}
	apply(t, db, store.SetDefaultVariant{Environment: "staging", Key: "a"})
	if got := variant(t, snapshot(t, db, "staging", 0), "a"); got != "/DEFAULT" {
		t.Errorf("without a default variant a is %s, want the code default", got)
	}
}

func TestSegmentAndSettings(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	targeted := `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"insiders"},"on","off"]}}`
	applied := apply(t, db,
		store.PutSegment{Environment: "staging", Name: "insiders", Condition: []byte(`{"==":[{"var":"plan"},"pro"]}`)},
		put("staging", "a", targeted),
	)
	if len(applied.Warnings) != 1 || !strings.Contains(applied.Warnings[0], "plan") {
		t.Errorf("warnings = %q, want one that names plan, which does not travel", applied.Warnings)
	}
	applied = apply(t, db, store.PutSettings{Environment: "staging", Settings: eval.Settings{Travel: []eval.Travel{{Attribute: "plan"}}}})
	if len(applied.Warnings) != 0 {
		t.Errorf("warnings once plan travels = %q", applied.Warnings)
	}
	s := snapshot(t, db, "staging", 0)
	if diff := cmp.Diff(eval.Settings{Travel: []eval.Travel{{Attribute: "plan"}}, Fractional: "v2"}, s.Settings()); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	c, err := eval.NewContext(map[string]any{"plan": "pro"})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Evaluate("a", c, 0).Variant(); got != "on" {
		t.Errorf("a for an insider is %q, want on", got)
	}
	// A segment that would break the flag that reads it is refused.
	before := state(t, db, "staging")
	_, err = db.Apply(t.Context(), change(store.PutSegment{Environment: "staging", Name: "insiders", Condition: []byte(`{"no-such-operator":[1]}`)}))
	if !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("a segment with an unknown operator: %v, want ErrInvalid", err)
	}
	if got := state(t, db, "staging"); got != before {
		t.Errorf("the refused segment left %+v, want %+v", got, before)
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("development", "a", onOff), put("production", "a", onOff), put("staging", "b", onOff))
	applied := apply(t, db, store.ArchiveFlag{Key: "a"})
	if diff := cmp.Diff(map[string]int64{"development": 3, "production": 3}, applied.Revisions); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
	for _, env := range []string{"development", "production"} {
		if got := variant(t, snapshot(t, db, env, 0), "a"); got != "/DISABLED" {
			t.Errorf("archived flag in %s is %s, want DISABLED", env, got)
		}
		if got := variant(t, snapshot(t, db, env, 2), "a"); got != "off/STATIC" {
			t.Errorf("the flag in %s before it was archived is %s, want off/STATIC", env, got)
		}
	}
	f, err := db.Flag(t.Context(), "production", "a", 0)
	if err != nil || f.Lifecycle != "archived" {
		t.Errorf("lifecycle = %q, %v, want archived", f.Lifecycle, err)
	}
	if again := apply(t, db, store.ArchiveFlag{Key: "a"}); !again.Unchanged {
		t.Errorf("archiving again = %+v, want unchanged", again)
	}
	for _, op := range []store.Operation{
		put("development", "a", onOff), put("staging", "a", onOff),
		store.SetState{Environment: "development", Key: "a", State: "DISABLED"},
	} {
		if _, err := db.Apply(t.Context(), change(op)); !errors.Is(err, store.ErrArchived) {
			t.Errorf("Apply(%+v) to an archived flag: %v, want ErrArchived", op, err)
		}
	}
}

func TestDescriptionIsOutsideRevisions(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	op := put("development", "a", onOff)
	apply(t, db, op)
	before := state(t, db, "development")
	op.Owner, op.Description, op.Tags = "checkout team", "the new <pricing>", []string{"shop", "beta", "shop"}
	applied := apply(t, db, op)
	if applied.Unchanged || applied.Changes[0].Action != store.ActionChanged {
		t.Errorf("Apply = %+v, want a change", applied)
	}
	if got := state(t, db, "development"); got != before {
		t.Errorf("the environment went from %+v to %+v", before, got)
	}
	if head := verify(t, db, audit.Installation); head.Seq != 1 {
		t.Errorf("the installation's chain has %d entries, want 1", head.Seq)
	}
	apply(t, db, put("staging", "a", onOff)) // says nothing of them: leaves them
	f, err := db.Flag(t.Context(), "staging", "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{f.Owner, f.Description, f.Tags}
	if diff := cmp.Diff([]any{"checkout team", "the new <pricing>", []string{"beta", "shop"}}, got); diff != "" {
		t.Errorf("owner, description, tags (-want +got):\n%s", diff)
	}
}

func TestCreateOnlyLeavesWhatIsThere(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("development", "a", onOff))
	apply(t, db, store.SetState{Environment: "development", Key: "a", State: "DISABLED"})
	again, other := put("development", "a", onOff), put("development", "b", onOff)
	again.CreateOnly, other.CreateOnly = true, true
	applied := apply(t, db, again, other)
	actions := names(applied.Changes, func(c store.Changed) string { return string(c.Action) })
	if diff := cmp.Diff([]string{"unchanged", "created"}, actions); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
	another := put("development", "a", `{"state":"ENABLED","variants":{"x":"x"},"defaultVariant":"x"}`)
	another.CreateOnly, another.Project, another.Kind = true, "elsewhere", "ops"
	if applied := apply(t, db, another); !applied.Unchanged {
		t.Errorf("a flag that is there with another project and type became %+v, want it left alone", applied.Changes)
	}
	if got := variant(t, snapshot(t, db, "development", 0), "a"); got != "/DISABLED" {
		t.Errorf("a is %s, want it left alone", got)
	}

	segment := store.PutSegment{Environment: "development", Name: "people", Condition: []byte(`true`)}
	apply(t, db, segment)
	segment.Condition, segment.CreateOnly = []byte(`false`), true
	if applied := apply(t, db, segment); !applied.Unchanged {
		t.Errorf("a segment that is there became %+v, want it left alone", applied.Changes)
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	yes, no := true, false
	attached := func(mark *bool) bool {
		op := put("development", "a", onOff)
		op.Attach = mark
		apply(t, db, op)
		return snapshot(t, db, "development", 0).Flag("a").Attach()
	}
	for i, step := range []struct {
		mark *bool
		want bool
	}{{nil, false}, {&yes, true}, {nil, true}, {&no, false}} {
		if got := attached(step.mark); got != step.want {
			t.Errorf("step %d: Attach() = %v, want %v", i, got, step.want)
		}
	}
}

func TestKindGivesScope(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	op := put("development", "breaker", onOff)
	op.Kind = "ops"
	number := put("development", "ratio", `{"state":"ENABLED","variants":{"a":1,"b":0.5},"defaultVariant":"a"}`)
	apply(t, db, op, number)
	for key, want := range map[string]string{"breaker": "ops local boolean", "ratio": "release request float"} {
		f, err := db.Flag(t.Context(), "development", key, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s %s %s", f.Kind, f.Scope, f.Type); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	// A float flag may have whole values only.
	apply(t, db, put("staging", "ratio", `{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a"}`))
}

func TestIsolateInvalid(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	cs := change(
		put("development", "good", onOff),
		put("development", "bad", `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"nonsense":[]}}`),
		put("development", "mixed", `{"state":"ENABLED","variants":{"a":true,"b":"x"},"defaultVariant":"a"}`),
	)
	if _, err := db.Apply(t.Context(), cs); !errors.Is(err, eval.ErrInvalid) {
		t.Fatalf("Apply: %v, want ErrInvalid", err)
	}
	cs.IsolateInvalid = true
	applied, err := db.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(applied.Warnings, "\n"); !strings.Contains(text, "flag/bad") || !strings.Contains(text, "flag/mixed") {
		t.Errorf("warnings = %q, want one each for bad and mixed", applied.Warnings)
	}
	s := snapshot(t, db, "development", 0)
	for key, want := range map[string]string{"good": "off/STATIC", "bad": "/ERROR", "mixed": "/ERROR"} {
		if got := variant(t, s, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	// Made whole, the key gets its type.
	apply(t, db, put("development", "mixed", onOff))
	if f, err := db.Flag(t.Context(), "development", "mixed", 0); err != nil || f.Type != "boolean" {
		t.Errorf("type of the mended flag = %q, %v, want boolean", f.Type, err)
	}
}

func TestSegmentThatAFlagReadsIsCheckedWithTheFlag(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	reads := `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"s"},"on","off"]}}`
	apply(t, db, store.PutSegment{Environment: "staging", Name: "s", Condition: []byte(`true`)}, put("staging", "good", reads))
	// A flag that is isolated already does not stand in the segment's way.
	cs := change(put("staging", "bad", strings.Replace(reads, `"on","off"]`, `"on",{"nonsense":[]}]`, 1)))
	cs.IsolateInvalid = true
	if _, err := db.Apply(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	applied := apply(t, db, store.PutSegment{Environment: "staging", Name: "s", Condition: []byte(`{"==":[1,2]}`)})
	if len(applied.Warnings) == 0 || !strings.Contains(applied.Warnings[0], "flag/bad in staging is isolated") {
		t.Errorf("warnings = %q, want one about the isolated flag", applied.Warnings)
	}
	s := snapshot(t, db, "staging", 0)
	if got := variant(t, s, "good"); got != "off/TARGETING_MATCH" {
		t.Errorf("good is %s, want off/TARGETING_MATCH", got)
	}
	// Nobody can make the good one read what is not there.
	before := state(t, db, "staging")
	_, err := db.Apply(t.Context(), change(store.PutSegment{Environment: "staging", Name: "s", Condition: []byte(`{"$ref":"s"}`)}))
	if !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("a segment that reads itself: %v, want ErrInvalid", err)
	}
	if got := state(t, db, "staging"); got != before {
		t.Errorf("the refused segment left %+v, want %+v", got, before)
	}
}
