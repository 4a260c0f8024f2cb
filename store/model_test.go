package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// model is what a few flags in two environments should be: for each revision
// of an environment the document of each key, and for each key its lifecycle.
type model struct {
	environments map[string][]map[string]string // index 0 is revision 1
	lifecycle    map[string]string
}

func modelDocument(state, variant string, archived bool) string {
	mark := ""
	if archived {
		mark = `"archived":true,`
	}
	return fmt.Sprintf(`{"flag":{"defaultVariant":%q,"state":%q,"variants":{"off":false,"on":true}},"guidon":{%s"kind":"release","project":"default","scope":"request","type":"boolean"}}`,
		variant, state, mark)
}

func archived(document string) bool {
	return document == modelDocument("DISABLED", "on", true) || document == modelDocument("DISABLED", "off", true)
}

// act is one thing that people do. Numbers choose among what there is.
type act struct {
	What     string
	A, B     int // environments
	Key, Rev int
	On       bool
}

var acts = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) act {
	return act{
		What: rapid.SampledFrom([]string{
			"put", "put", "put", "state", "state", "archive", "restore flag", "delete", "revert", "revert", "restore", "promote",
		}).Draw(t, "what"),
		A: rapid.IntRange(0, 1).Draw(t, "a"), B: rapid.IntRange(0, 1).Draw(t, "b"),
		Key: rapid.IntRange(0, 3).Draw(t, "key"), Rev: rapid.IntRange(0, 30).Draw(t, "rev"), On: rapid.Bool().Draw(t, "on"),
	}
}), 40, 40)

// edit is what an act does to the newest documents, or why it is refused.
func (m *model) edit(a act, env, other, key string, revision int) (next map[string]map[string]string, refused error) {
	next = map[string]map[string]string{}
	for name, revisions := range m.environments {
		next[name] = maps.Clone(revisions[len(revisions)-1])
	}
	variant, state := "off", "DISABLED"
	if a.On {
		variant, state = "on", "ENABLED"
	}
	has := func(name string) bool { _, ok := next[name][key]; return ok }
	back := func(name, key, document string) {
		if document == "" {
			delete(next[name], key)
			return
		}
		next[name][key] = document
		if !archived(document) {
			m.lifecycle[key] = "active"
		} else if m.lifecycle[key] == "deleted" {
			m.lifecycle[key] = "archived"
		}
	}
	switch a.What {
	case "put":
		switch m.lifecycle[key] {
		case "archived":
			return nil, store.ErrArchived
		case "deleted":
			return nil, store.ErrExists
		}
		m.lifecycle[key], next[env][key] = "active", modelDocument("ENABLED", variant, false)
	case "state":
		document, ok := next[env][key]
		if !ok {
			return nil, store.ErrNotFound
		} else if archived(document) || m.lifecycle[key] == "archived" {
			return nil, store.ErrArchived
		}
		variant = "off"
		if document == modelDocument("ENABLED", "on", false) || document == modelDocument("DISABLED", "on", false) {
			variant = "on"
		}
		next[env][key] = modelDocument(state, variant, false)
	case "archive", "restore flag", "delete":
		if !has(env) && !has(other) {
			return nil, store.ErrNotFound
		}
		if a.What == "delete" && m.lifecycle[key] == "active" {
			return nil, store.ErrNotArchived
		}
		for _, name := range []string{env, other} {
			document, ok := next[name][key]
			if !ok {
				continue
			}
			variant = "off"
			if document == modelDocument("ENABLED", "on", false) || document == modelDocument("DISABLED", "on", false) || document == modelDocument("DISABLED", "on", true) {
				variant = "on"
			}
			switch {
			case a.What == "delete":
				delete(next[name], key)
			case a.What == "archive":
				next[name][key] = modelDocument("DISABLED", variant, true)
			case archived(document):
				next[name][key] = modelDocument("DISABLED", variant, false)
			}
		}
		m.lifecycle[key] = map[string]string{"archive": "archived", "restore flag": "active", "delete": "deleted"}[a.What]
	case "revert":
		if revision == 1 {
			return nil, eval.ErrInvalid
		}
		before, after := m.environments[env][revision-2], m.environments[env][revision-1]
		for _, k := range keysOf(before, after) {
			if before[k] == after[k] || next[env][k] == before[k] {
				continue
			} else if next[env][k] != after[k] {
				return nil, store.ErrConflict
			}
		}
		for _, k := range keysOf(before, after) {
			if before[k] != after[k] && next[env][k] != before[k] {
				back(env, k, before[k])
			}
		}
	case "restore":
		then := m.environments[env][revision-1]
		for _, k := range keysOf(then, next[env]) {
			if then[k] != next[env][k] {
				back(env, k, then[k])
			}
		}
	case "promote":
		switch document, ok := next[env][key]; {
		case !ok:
			return nil, store.ErrNotFound
		case archived(document):
			return nil, store.ErrArchived
		case document != next[other][key]:
			back(other, key, document)
		}
	}
	return next, nil
}

func keysOf(a, b map[string]string) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// TestAgainstModel lets people do anything and compares each outcome, and in
// the end every revision there ever was, with a model without a database.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for seed := range 10 {
		envs := []string{fmt.Sprintf("m%d-a", seed), fmt.Sprintf("m%d-b", seed)}
		m := &model{environments: map[string][]map[string]string{}, lifecycle: map[string]string{}}
		for _, env := range envs {
			if err := db.CreateEnvironment(t.Context(), store.NewEnvironment{Name: env, Actor: "ada"}); err != nil {
				t.Fatal(err)
			}
			m.environments[env] = []map[string]string{{}}
		}
		for i, a := range acts.Example(seed) {
			m.perform(t, db, fmt.Sprintf("seed %d, act %d", seed, i), a, envs, fmt.Sprintf("m%d-%d", seed, a.Key))
		}
		for _, env := range envs {
			for i, want := range m.environments[env] {
				if diff := cmp.Diff(want, documents(t, db, env, int64(i+1))); diff != "" {
					t.Errorf("seed %d: %s at revision %d (-model +store):\n%s", seed, env, i+1, diff)
				}
			}
			if head := verify(t, db, env); head.Seq != int64(len(m.environments[env])-1) {
				t.Errorf("seed %d: %d audit entries of %s, want one for each of %d revisions", seed, head.Seq, env, len(m.environments[env])-1)
			}
		}
	}
	verify(t, db, audit.Installation)
}

func (m *model) perform(t *testing.T, db *store.DB, at string, a act, envs []string, key string) {
	t.Helper()
	key = "k" + key
	env, other := envs[a.A], envs[1-a.A]
	revision := a.Rev%len(m.environments[env]) + 1
	lifecycle := maps.Clone(m.lifecycle)
	next, refused := m.edit(a, env, other, key, revision)
	c := store.Change{Actor: "ada", Reason: a.What, IdempotencyKey: at}
	variant, state := "off", "DISABLED"
	if a.On {
		variant, state = "on", "ENABLED"
	}
	do := func() (store.Applied, error) {
		cs := change()
		cs.IdempotencyKey = at
		switch a.What {
		case "put":
			cs.Operations = []store.Operation{put(env, key, `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"`+variant+`"}`)}
		case "state":
			cs.Operations = []store.Operation{store.SetState{Environment: env, Key: key, State: state}}
		case "archive":
			cs.Operations = []store.Operation{store.ArchiveFlag{Key: key}}
		case "restore flag":
			cs.Operations = []store.Operation{store.RestoreFlag{Key: key}}
		case "delete":
			cs.Operations = []store.Operation{store.DeleteFlag{Key: key}}
		case "revert":
			return db.Revert(t.Context(), c, env, int64(revision))
		case "restore":
			return db.Restore(t.Context(), c, env, int64(revision))
		case "promote":
			return db.Promote(t.Context(), c, env, other, []eval.Name{{Kind: eval.KindFlag, Name: key}})
		}
		return db.Apply(t.Context(), cs)
	}
	applied, err := do()
	if !errors.Is(err, refused) {
		t.Fatalf("%s %+v: %v, want %v", at, a, err, refused)
	}
	if refused != nil {
		m.lifecycle = lifecycle
		return
	}
	unchanged := true
	for name, documents := range next {
		revisions := m.environments[name]
		if maps.Equal(documents, revisions[len(revisions)-1]) {
			continue
		}
		unchanged = false
		m.environments[name] = append(revisions, documents)
		if got := applied.Revisions[name]; got != int64(len(revisions)+1) {
			t.Fatalf("%s %+v: %s is at revision %d, want %d", at, a, name, got, len(revisions)+1)
		}
	}
	if lifecycleChanged := !maps.Equal(lifecycle, m.lifecycle); applied.Unchanged != unchanged && !lifecycleChanged {
		t.Fatalf("%s %+v: unchanged is %v, want %v", at, a, applied.Unchanged, unchanged)
	}
	// As after an answer that was lost.
	again, err := do()
	if err != nil || again.ChangeID != applied.ChangeID || !maps.Equal(again.Revisions, applied.Revisions) {
		t.Fatalf("%s %+v again: %+v, %v, want %+v", at, a, again, err, applied)
	}
}

// documents are the flags of an environment at a revision.
func documents(t *testing.T, db *store.DB, env string, revision int64) map[string]string {
	t.Helper()
	rows, _, err := db.SnapshotRows(t.Context(), env, revision)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range rows {
		out[r.Name] = string(r.Document)
	}
	return out
}
