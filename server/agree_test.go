package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	evaluationv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v1"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"connectrpc.com/connect"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// rule is a line of sdk/eval's scenarios: a rule in a flag, and a context.
type rule struct {
	line       string
	definition []byte
	context    json.RawMessage
}

// rules reads the scenarios that are about a rule alone, at any time, and that
// may be written.
func rules(t *testing.T) (found []rule) {
	t.Helper()
	files, err := filepath.Glob("../sdk/eval/testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range archive.Files {
			for line := range strings.Lines(string(section.Data)) {
				given, want, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
				if section.Name != "rules" || !ok || strings.HasPrefix(line, "#") || strings.Contains(given, " @") {
					continue
				}
				decoder := json.NewDecoder(strings.NewReader(given))
				r := rule{line: filepath.Base(file) + ": " + given, context: json.RawMessage("{}")}
				var targeting json.RawMessage
				if err := decoder.Decode(&targeting); err != nil {
					t.Fatalf("%s: %v", r.line, err)
				}
				if decoder.More() {
					if err := decoder.Decode(&r.context); err != nil {
						t.Fatalf("%s: %v", r.line, err)
					}
				}
				variants := map[string]string{}
				for _, name := range []string{"default", "true", "false", "on", "off", "a", "b", "c", want} {
					if eval.ValidVariant(name) {
						variants[name] = name
					}
				}
				r.definition, err = json.Marshal(map[string]any{"state": "ENABLED", "variants": variants, "defaultVariant": "default", "targeting": targeting})
				if err != nil {
					t.Fatal(err)
				}
				if eval.ValidVariant(want) {
					found = append(found, r)
				}
			}
		}
	}
	return found
}

// TestProtocolsAgree: whatever way an evaluation is asked for, the variant and
// the reason are those of the evaluator.
func TestProtocolsAgree(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		all := rules(t)
		g := start()
		// Every flag is local, for what their rules read is on no list, and stands
		// isolated if it may not be written, as imports do.
		var operations []store.Operation
		for i, r := range all {
			operations = append(operations, store.PutFlag{Environment: "production", Key: fmt.Sprintf("scenario-%d", i), Scope: "local", Definition: r.definition})
		}
		applied, err := g.db.Apply(t.Context(), store.ChangeSet{Actor: "test", Reason: "scenarios", Operations: operations, IsolateInvalid: true})
		if err != nil {
			t.Fatal(err)
		}
		e, err := g.hub.Environment("production")
		if err == nil {
			g.reached(t, "production", applied.Revisions["production"])
			err = e.Await(t.Context(), applied.Revisions["production"])
		}
		if err != nil {
			t.Fatal(err)
		}
		key := g.key(t, store.KeyServer, "production")
		connectClient, v1, v2 := g.evaluations(key), g.flagdV1(t, dialects[0], key), g.flagdV2(t, dialects[2], key)
		for i, r := range all {
			flag := fmt.Sprintf("scenario-%d", i)
			context, err := eval.ContextFromJSON(r.context)
			if err != nil {
				t.Fatalf("%s: %v", r.line, err)
			}
			resolution := e.Snapshot().Evaluate(flag, context, 0)
			want := resolution.Variant() + " " + resolution.Reason().String()
			var attributes structpb.Struct
			if err := attributes.UnmarshalJSON(r.context); err != nil {
				t.Fatalf("%s: %v", r.line, err)
			}
			got := map[string]string{}
			res, err := connectClient.Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{Key: flag, Context: &attributes})
			if err != nil {
				t.Fatalf("%s: %v", r.line, err)
			}
			got["Connect"] = res.GetResolution().GetVariant() + " " + res.GetResolution().GetReason()
			got["flagd v1"] = told(v1.ResolveString(t.Context(), asked(&evaluationv1.ResolveStringRequest{FlagKey: flag, Context: &attributes})))
			got["flagd v2"] = told(v2.ResolveString(t.Context(), asked(&evaluationv2.ResolveStringRequest{FlagKey: flag, Context: &attributes})))
			answer := g.post(t, ofrepSingle+flag, key, `{"context":`+string(r.context)+`}`)
			var body struct{ Variant, Reason, ErrorCode string }
			if err := json.NewDecoder(bytes.NewBufferString(answer.body)).Decode(&body); err != nil {
				t.Fatalf("%s: %s: %v", r.line, answer.body, err)
			}
			got["OFREP"] = body.Variant + " " + body.Reason
			if body.ErrorCode != "" {
				got["OFREP"] = " ERROR"
				if body.ErrorCode != resolution.ErrorCode().String() {
					t.Errorf("%s over OFREP: %s, want %s", r.line, body.ErrorCode, resolution.ErrorCode())
				}
			}
			for protocol, outcome := range got {
				if outcome != want {
					t.Errorf("%s over %s = %q, want %q", r.line, protocol, outcome, want)
				}
			}
		}
		if len(all) < 300 {
			t.Errorf("only %d scenarios", len(all))
		}
		http.DefaultClient.CloseIdleConnections()
	})
}

// told is variant and reason of an answer of flagd's.
func told[T any](response *connect.Response[T], err error) string {
	if err != nil {
		return " ERROR"
	}
	r := any(response.Msg).(interface {
		GetVariant() string
		GetReason() string
	})
	return r.GetVariant() + " " + r.GetReason()
}
