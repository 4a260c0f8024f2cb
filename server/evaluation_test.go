package server_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// gold targets plan gold, which is not on any travel allow-list.
func gold(environment, key string) *guidonv1.Operation {
	return putDefinition(environment, key, map[string]any{
		"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
		"targeting": map[string]any{"if": []any{map[string]any{"==": []any{map[string]any{"var": "plan"}, "gold"}}, "on"}},
	})
}

func contextOf(t testing.TB, attributes map[string]any) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(attributes)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	first := g.apply(t, "staging", gold("staging", "new-pricing"), putFlag("staging", "banner", "on"))
	second := g.apply(t, "staging", setState("staging", "new-pricing", "DISABLED"))
	person := contextOf(t, map[string]any{"targetingKey": "ann", "plan": "gold"})
	for name, tt := range map[string]struct {
		request                *guidonv1.EvaluationServiceEvaluateRequest
		variant, reason, code  string
		revision               int64
		valued                 bool
		flagSet, versionMember string
	}{
		"newest":        {&guidonv1.EvaluationServiceEvaluateRequest{Key: "new-pricing", Context: person}, "", "DISABLED", "", second, false, "default", "3"},
		"at a pin":      {&guidonv1.EvaluationServiceEvaluateRequest{Key: "new-pricing", Context: person, Revision: first}, "on", "TARGETING_MATCH", "", first, true, "default", "2"},
		"static":        {&guidonv1.EvaluationServiceEvaluateRequest{Key: "banner"}, "on", "STATIC", "", second, true, "default", "2"},
		"of its type":   {&guidonv1.EvaluationServiceEvaluateRequest{Key: "banner", Type: "boolean"}, "on", "STATIC", "", second, true, "default", "2"},
		"another type":  {&guidonv1.EvaluationServiceEvaluateRequest{Key: "banner", Type: "string"}, "", "ERROR", "TYPE_MISMATCH", second, false, "default", "2"},
		"unknown flag":  {&guidonv1.EvaluationServiceEvaluateRequest{Key: "nothing"}, "", "ERROR", "FLAG_NOT_FOUND", second, false, "", ""},
		"before it was": {&guidonv1.EvaluationServiceEvaluateRequest{Key: "banner", Revision: 1}, "", "ERROR", "FLAG_NOT_FOUND", 1, false, "", ""},
	} {
		res, err := g.evaluations(key).Evaluate(t.Context(), tt.request)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r := res.GetResolution()
		version := ""
		if v := r.GetMetadata().GetFields()["version"]; v != nil {
			version = fmt.Sprint(v.GetNumberValue())
		}
		if r.GetVariant() != tt.variant || r.GetReason() != tt.reason || r.GetErrorCode() != tt.code || r.GetRevision() != tt.revision ||
			(r.GetValue() != nil) != tt.valued || r.GetKey() != tt.request.GetKey() ||
			r.GetMetadata().GetFields()["flagSetId"].GetStringValue() != tt.flagSet || version != tt.versionMember {
			t.Errorf("%s: %v, want %+v", name, r, tt)
		}
		if (r.GetErrorMessage() != "") != (tt.code != "") {
			t.Errorf("%s: message %q with code %q", name, r.GetErrorMessage(), tt.code)
		}
	}
	all, err := g.evaluations(key).EvaluateAll(t.Context(), &guidonv1.EvaluationServiceEvaluateAllRequest{Context: person, Revision: first})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range all.GetResolutions() {
		got = append(got, r.GetKey()+"="+r.GetVariant())
	}
	if fmt.Sprint(got) != "[banner=on new-pricing=on]" || all.GetRevision() != first {
		t.Errorf("EvaluateAll at %d = %v at %d, want [banner=on new-pricing=on]", first, got, all.GetRevision())
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", gold("staging", "new-pricing"))
	res, err := g.evaluations(g.admin).Explain(t.Context(), &guidonv1.EvaluationServiceExplainRequest{
		Environment: "staging", Key: "new-pricing", Context: contextOf(t, map[string]any{"plan": "gold"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.GetResolution().GetVariant() != "on" || len(res.GetSteps()) == 0 {
		t.Fatalf("Explain = %v, want variant on with steps", res)
	}
	step := res.GetSteps()[0]
	if !strings.HasPrefix(step.GetPath(), "$.flag.targeting") || step.GetSeen().GetFields()["plan"].GetStringValue() != "gold" || step.GetOutcome() == "" {
		t.Errorf("first step %v, want the condition on plan, which it saw to be gold", step)
	}
	none, err := g.evaluations(g.admin).Explain(t.Context(), &guidonv1.EvaluationServiceExplainRequest{Environment: "staging", Key: "nothing"})
	if err != nil || none.GetResolution().GetErrorCode() != "FLAG_NOT_FOUND" || len(none.GetSteps()) != 0 {
		t.Errorf("Explain of an unknown flag = %v, %v, want FLAG_NOT_FOUND", none, err)
	}
}
