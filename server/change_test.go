package server_test

import (
	"fmt"
	"strings"
	"testing"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// TestNothingChangedSaysSo: an answer without a change has no ID of one, with an
// idempotency key too, and says that it is unchanged.
func TestNothingChangedSaysSo(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := g.changes(g.admin)
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	applied, err := client.Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{
		Operations: []*guidonv1.Operation{putFlag("staging", "a", "on")}, IdempotencyKey: "once",
	})
	if err != nil || applied.GetChangeId() != "" || !applied.GetUnchanged() {
		t.Errorf("Apply of what is there: %v, %v, want unchanged and no ID", applied, err)
	}
	restored, err := client.Restore(t.Context(), &guidonv1.ChangeServiceRestoreRequest{Environment: "staging", Revision: 2, IdempotencyKey: "twice"})
	if result := restored.GetResult(); err != nil || result.GetChangeId() != "" || !result.GetUnchanged() {
		t.Errorf("Restore of what is there: %v, %v, want unchanged and no ID", restored, err)
	}
	kills := []*guidonv1.Kill{{Key: "a", Variant: "off"}}
	for _, want := range []bool{false, true} {
		killed, err := client.Kill(t.Context(), &guidonv1.ChangeServiceKillRequest{Environment: "staging", Kills: kills, Reason: "a test"})
		if err != nil || killed.GetUnchanged() != want || (killed.GetChangeId() == "") != want {
			t.Errorf("Kill: %v, %v, want that it is unchanged to be %v", killed, err, want)
		}
	}
}

// TestConflictSaysWhatBecameOfEachRow: created, changed and deleted.
func TestConflictSaysWhatBecameOfEachRow(t *testing.T) {
	t.Parallel()
	g := start(t)
	remove := &guidonv1.Operation{Operation: &guidonv1.Operation_RemoveFlag{RemoveFlag: &guidonv1.RemoveFlag{Environment: "staging", Key: "gone"}}}
	seen := g.apply(t, "staging", putFlag("staging", "other", "on"), putFlag("staging", "gone", "on"))
	g.apply(t, "staging", putFlag("staging", "other", "off"), putFlag("staging", "new", "on"), remove)
	_, err := g.changes(g.admin).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{
		Operations: []*guidonv1.Operation{putFlag("staging", "a", "on")}, ExpectedRevisions: map[string]int64{"staging": seen},
	})
	conflict := detail[*guidonv1.Conflict](t, err)
	var b strings.Builder
	for _, c := range conflict.GetChanged() {
		fmt.Fprintln(&b, c.GetAction(), c.GetKind(), c.GetName())
	}
	if want := "deleted flag gone\ncreated flag new\nchanged flag other\n"; b.String() != want {
		t.Errorf("conflict:\n%swant\n%s", b.String(), want)
	}
}

// TestProblemsThatAreLeftOutAreCounted: of both environments some are shown.
func TestProblemsThatAreLeftOutAreCounted(t *testing.T) {
	t.Parallel()
	g := start(t)
	var operations []*guidonv1.Operation
	for i := range 80 {
		for _, environment := range []string{"development", "staging"} {
			operations = append(operations, putFlag(environment, fmt.Sprintf("f%d", i), "maybe"))
		}
	}
	check := func(what string, problems []*guidonv1.Problem, more int32) {
		shown := map[string]int{}
		for _, p := range problems {
			shown[p.GetEnvironment()]++
		}
		if shown["development"] != 50 || shown["staging"] != 50 || more != 60 {
			t.Errorf("%s shows %v and %d more, want 50 of each and 60", what, shown, more)
		}
	}
	_, err := g.changes(g.admin).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{Operations: operations})
	invalid := detail[*guidonv1.Invalid](t, err)
	check("Apply", invalid.GetProblems(), invalid.GetMore())
	dry, err := g.changes(g.admin).DryRun(t.Context(), &guidonv1.ChangeServiceDryRunRequest{Operations: operations})
	if err != nil {
		t.Fatal(err)
	}
	check("DryRun", dry.GetProblems(), dry.GetMore())
}
