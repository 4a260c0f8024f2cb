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

func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("production", "flag", onOff), store.PutSegment{Environment: "production", Name: "segment", Condition: []byte(`true`)})
	other := put("production", "theirs", onOff)
	other.Project = "shop"
	apply(t, db, other)
	sql(t, `INSERT INTO flags (key, project, kind, type, scope, lifecycle, created_at, created_by)
		VALUES ('tombstone', 'default', 'release', 'boolean', 'request', 'deleted', now(), 'ada')`)
	before, installation := state(t, db, "production"), verify(t, db, audit.Installation)

	with := func(edit func(*store.PutFlag)) store.PutFlag {
		op := put("production", "flag", onOff)
		edit(&op)
		return op
	}
	for name, c := range map[string]struct {
		op   store.Operation
		err  error
		want []string // parts of the message
	}{
		"no environment":               {put("", "new", onOff), eval.ErrInvalid, []string{"operation 1", "environment: is required"}},
		"unknown environment":          {put("nowhere", "new", onOff), store.ErrNotFound, []string{"operation 1", `"new"`, `environment "nowhere"`}},
		"bad key":                      {put("production", "no spaces", onOff), eval.ErrInvalid, []string{"operation 1", "key: must be a letter"}},
		"endless key":                  {put("production", strings.Repeat("x", 1<<20), onOff), eval.ErrInvalid, []string{"operation 1", "key: must be a letter"}},
		"empty definition":             {put("production", "new", ""), eval.ErrInvalid, []string{"operation 1", "$.flag", "empty"}},
		"truncated definition":         {put("production", "new", `{"state":`), eval.ErrInvalid, []string{"operation 1"}},
		"two documents":                {put("production", "new", onOff+","+onOff), eval.ErrInvalid, []string{"operation 1"}},
		"definition that breaks out":   {put("production", "new", onOff+`,"guidon":{"archived":true}`), eval.ErrInvalid, []string{"operation 1"}},
		"duplicate member":             {put("production", "new", `{"state":"ENABLED","state":"DISABLED","variants":{"a":true}}`), eval.ErrInvalid, []string{"$.flag", "state"}},
		"definition is a list":         {put("production", "new", `[]`), eval.ErrInvalid, []string{"$.flag"}},
		"no variants":                  {put("production", "new", `{"state":"ENABLED"}`), eval.ErrInvalid, []string{"$.flag.variants"}},
		"mixed variants":               {put("production", "new", `{"state":"ENABLED","variants":{"a":true,"b":"x"}}`), eval.ErrInvalid, []string{"$.flag.variants.b", "type string"}},
		"unknown default":              {put("production", "new", `{"state":"ENABLED","variants":{"a":true},"defaultVariant":"b"}`), eval.ErrInvalid, []string{"operation 1", `"new"`, "production"}},
		"unknown operator":             {put("production", "new", `{"state":"ENABLED","variants":{"a":true},"targeting":{"nonsense":[1]}}`), eval.ErrInvalid, []string{"nonsense"}},
		"unknown segment":              {put("production", "new", `{"state":"ENABLED","variants":{"a":true},"targeting":{"$ref":"nobody"}}`), eval.ErrInvalid, []string{"nobody"}},
		"too large":                    {put("production", "new", `{"state":"ENABLED","variants":{"a":"`+strings.Repeat("x", store.MaxDocumentBytes)+`"}}`), eval.ErrInvalid, []string{"more than 524288"}},
		"unknown kind":                 {with(func(o *store.PutFlag) { o.Kind = "toggle" }), eval.ErrInvalid, []string{"kind", "release, experiment"}},
		"unknown scope":                {with(func(o *store.PutFlag) { o.Scope = "global" }), eval.ErrInvalid, []string{"scope", "neither request nor local"}},
		"unknown type":                 {with(func(o *store.PutFlag) { o.Type = "any" }), eval.ErrInvalid, []string{"type", "boolean, string"}},
		"bad project":                  {with(func(o *store.PutFlag) { o.Project = "a b" }), eval.ErrInvalid, []string{"project"}},
		"NUL in the owner":             {with(func(o *store.PutFlag) { o.Owner = "a\x00b" }), eval.ErrInvalid, []string{"owner", "UTF-8"}},
		"empty tag":                    {with(func(o *store.PutFlag) { o.Tags = []string{""} }), eval.ErrInvalid, []string{"tags"}},
		"long description":             {with(func(o *store.PutFlag) { o.Description = strings.Repeat("x", store.MaxTextBytes+1) }), eval.ErrInvalid, []string{"description", "longer than 4096"}},
		"another type":                 {put("production", "flag", `{"state":"ENABLED","variants":{"a":"x"}}`), eval.ErrInvalid, []string{"type: of an existing flag cannot change from boolean to string: use a new key"}},
		"another declared type":        {with(func(o *store.PutFlag) { o.Type = "object" }), eval.ErrInvalid, []string{"from boolean to object: use a new key"}},
		"another scope":                {with(func(o *store.PutFlag) { o.Scope = "local" }), eval.ErrInvalid, []string{"from request to local: use a new key"}},
		"type unlike the variants":     {store.PutFlag{Environment: "production", Key: "new", Type: "string", Definition: []byte(onOff)}, eval.ErrInvalid, []string{"given as string", "boolean"}},
		"key of another project":       {store.PutFlag{Environment: "production", Key: "theirs", Project: "default", Definition: []byte(onOff)}, store.ErrExists, []string{`project "shop"`}},
		"tombstone":                    {put("production", "tombstone", onOff), store.ErrExists, []string{"deleted"}},
		"state of an unknown flag":     {store.SetState{Environment: "production", Key: "nobody", State: "ENABLED"}, store.ErrNotFound, []string{"operation 1", `flag "nobody" in production`}},
		"state in another environment": {store.SetState{Environment: "staging", Key: "flag", State: "ENABLED"}, store.ErrNotFound, []string{`flag "flag" in staging`}},
		"unknown state":                {store.SetState{Environment: "production", Key: "flag", State: "on"}, eval.ErrInvalid, []string{"state", "ENABLED"}},
		"unknown variant":              {store.SetDefaultVariant{Environment: "production", Key: "flag", Variant: "nope"}, eval.ErrInvalid, []string{"variant", `"nope"`}},
		"archive of an unknown flag":   {store.ArchiveFlag{Key: "nobody"}, store.ErrNotFound, []string{"operation 1", `"nobody"`}},
		"bad segment name":             {store.PutSegment{Environment: "production", Name: "", Condition: []byte(`true`)}, eval.ErrInvalid, []string{"name"}},
		"attribute with a dot":         {store.PutSettings{Environment: "production", Settings: eval.Settings{Travel: []eval.Travel{{Attribute: "user.plan"}}}}, eval.ErrInvalid, []string{"travel[0].attribute"}},
		"attribute that cannot travel": {store.PutSettings{Environment: "production", Settings: eval.Settings{Travel: []eval.Travel{{Attribute: "Plan"}}}}, eval.ErrInvalid, []string{"travel[0]", "alias"}},
		"attribute twice":              {store.PutSettings{Environment: "production", Settings: eval.Settings{Travel: []eval.Travel{{Attribute: "plan"}, {Attribute: "plan"}}}}, eval.ErrInvalid, []string{"travel[1]", "twice"}},
		"attribute of no length":       {store.PutSettings{Environment: "production", Settings: eval.Settings{Travel: []eval.Travel{{Attribute: "plan", MaxBytes: -1}}}}, eval.ErrInvalid, []string{"travel[0].max_bytes"}},
		"attribute beyond all length":  {store.PutSettings{Environment: "production", Settings: eval.Settings{Travel: []eval.Travel{{Attribute: "plan", MaxBytes: 1025}}}}, eval.ErrInvalid, []string{"travel[0].max_bytes"}},
		"attributes that may not fit":  {store.PutSettings{Environment: "production", Settings: eval.Settings{Travel: []eval.Travel{{Attribute: "note", MaxBytes: 300}, {Attribute: "plan"}}}}, eval.ErrInvalid, []string{"$.travel", "1032 bytes of the header, 1024 are allowed", "note 906, plan 126"}},
		"unknown algorithm":            {store.PutSettings{Environment: "production", Settings: eval.Settings{Fractional: "v9"}}, eval.ErrInvalid, []string{"fractional"}},
	} {
		// The first operation is good and must not get through either.
		_, err := db.Apply(t.Context(), change(put("production", "innocent", onOff), c.op))
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
			continue
		}
		if len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d characters", name, len(err.Error()))
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", name, err, part)
			}
		}
	}
	if got := state(t, db, "production"); got != before {
		t.Errorf("refused changes left %+v, want %+v", got, before)
	}
	if got := verify(t, db, audit.Installation); got != installation {
		t.Errorf("refused changes took the installation's chain from %+v to %+v", installation, got)
	}
}

func TestBadChangeSetIsRefused(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	good := func() store.ChangeSet { return change(put("production", "flag", onOff)) }
	for want, edit := range map[string]func(*store.ChangeSet){
		"actor: is required":               func(cs *store.ChangeSet) { cs.Actor = " " },
		"operations: there are none":       func(cs *store.ChangeSet) { cs.Operations = nil },
		"operations: 40001 are more":       func(cs *store.ChangeSet) { cs.Operations = make([]store.Operation, store.MaxOperations+1) },
		"reason: is longer":                func(cs *store.ChangeSet) { cs.Reason = strings.Repeat("x", store.MaxTextBytes+1) },
		"idempotency_key: is longer":       func(cs *store.ChangeSet) { cs.IdempotencyKey = strings.Repeat("x", store.MaxNameBytes+1) },
		"correlation_id: is not plain":     func(cs *store.ChangeSet) { cs.CorrelationID = "\xff" },
		`environment "nowhere": not found`: func(cs *store.ChangeSet) { cs.Expect = map[string]int64{"nowhere": 1} },
	} {
		cs := good()
		edit(&cs)
		_, err := db.Apply(t.Context(), cs)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, eval.ErrInvalid) && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Apply: %v, want %q", err, want)
		}
	}
	if got, want := state(t, db, "production"), (written{1, 0, 0}); got != want {
		t.Errorf("refused change sets left %+v, want %+v", got, want)
	}
}

// TestProtectedEnvironmentsAskForAReason: what is protected is read under the
// lock, so it holds for every caller and at every moment.
func TestProtectedEnvironmentsAskForAReason(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("production", "a", onOff), put("staging", "b", onOff))
	before := state(t, db, "production")
	for name, op := range map[string]store.Operation{
		"named":    store.SetState{Environment: "production", Key: "a", State: "DISABLED"},
		"archived": store.ArchiveFlag{Key: "a"},
	} {
		cs := change(store.SetState{Environment: "staging", Key: "b", State: "DISABLED"}, op)
		cs.Reason = " \n"
		_, err := db.Apply(t.Context(), cs)
		if field, ok := errors.AsType[*store.FieldError](err); !ok || field.Field != "reason" || !strings.Contains(field.Message, "production") {
			t.Errorf("%s: %v, want that production asks for a reason", name, err)
		}
	}
	if got := state(t, db, "production"); got != before {
		t.Errorf("refused change sets left %+v, want %+v", got, before)
	}
	cs := change(store.ArchiveFlag{Key: "b"})
	cs.Reason = ""
	if _, err := db.Apply(t.Context(), cs); err != nil {
		t.Errorf("a change of staging alone: %v, want that it needs no reason", err)
	}
}

func TestEveryProblemIsListedWithItsOperation(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	_, err := db.Apply(t.Context(), change(
		put("production", "a", `{"state":"ENABLED","variants":{"on":true},"defaultVariant":"nope"}`),
		put("production", "b", onOff),
		put("staging", "c", `{"state":"ENABLED","variants":{"on":true},"targeting":{"nonsense":[]}}`),
	))
	refused, ok := errors.AsType[*store.RefusedError](err)
	if !ok {
		t.Fatalf("Apply: %v, want a RefusedError", err)
	}
	var got []store.OperationError
	for _, o := range refused.Operations {
		got = append(got, store.OperationError{Index: o.Index, Environment: o.Environment, Name: o.Name})
	}
	want := []store.OperationError{
		{Index: 0, Environment: "production", Name: eval.Name{Kind: eval.KindFlag, Name: "a"}},
		{Index: 2, Environment: "staging", Name: eval.Name{Kind: eval.KindFlag, Name: "c"}},
	}
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" { // one operation may have several problems
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
