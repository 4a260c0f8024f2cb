package server_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// scenario is what the clients of package clients are asked, too.
type scenario struct {
	Flags map[string]json.RawMessage
	Cases []struct {
		Key, Type, Variant, Reason, Code string
		Context, Value                   json.RawMessage
	}
}

// resolved is an answer, whatever the protocol: the members that its JSON has.
type resolved struct {
	Key, Variant, Reason, ErrorCode                         string
	Value, BoolValue, StringValue, DoubleValue, ObjectValue json.RawMessage
}

// String is the value as canonical JSON, the variant and the reason; or the
// error.
func (r resolved) String() string {
	if r.ErrorCode != "" {
		return r.ErrorCode
	}
	for _, value := range []json.RawMessage{r.Value, r.BoolValue, r.StringValue, r.DoubleValue, r.ObjectValue} {
		if value == nil {
			continue
		}
		var any any
		if err := json.Unmarshal(value, &any); err != nil {
			return err.Error()
		}
		text, _ := json.Marshal(any) // it was JSON
		return fmt.Sprintf("%s %s %s", text, r.Variant, r.Reason)
	}
	return r.Variant + " " + r.Reason
}

// TestScenariosAgree asks every protocol of ours and of flagd's, and OFREP, for
// one flag and for all of them, what the clients that we did not write are
// asked: the value, the variant and the reason are those of the evaluator.
func TestScenariosAgree(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		text, err := os.ReadFile("clients/scenario.json")
		if err != nil {
			t.Fatal(err)
		}
		var s scenario
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		g := start()
		var operations []store.Operation
		for key, definition := range s.Flags {
			operations = append(operations, store.PutFlag{Environment: "production", Key: key, Scope: "local", Definition: definition})
		}
		applied, err := g.db.Apply(t.Context(), store.ChangeSet{Actor: "test", Reason: "scenario", Operations: operations})
		if err != nil {
			t.Fatal(err)
		}
		g.reached(t, "production", applied.Revisions["production"])
		e, err := g.hub.Environment("production")
		if err == nil {
			err = e.Await(t.Context(), applied.Revisions["production"])
		}
		if err != nil {
			t.Fatal(err)
		}
		key := g.key(t, store.KeyServer, "production")
		ask := func(path, body string, into any) {
			t.Helper()
			if a := g.post(t, path, key, body); json.Unmarshal([]byte(a.body), into) != nil {
				t.Fatalf("%s %s: %d %s", path, body, a.status, a.body)
			}
		}
		for _, c := range s.Cases {
			context, err := eval.ContextFromJSON(c.Context)
			if err != nil {
				t.Fatal(err)
			}
			want := resolved{Value: c.Value, Variant: c.Variant, Reason: c.Reason, ErrorCode: c.Code}
			got := map[string]resolved{}
			resolution := e.Snapshot().Evaluate(c.Key, context, 0)
			ours := resolved{Variant: resolution.Variant(), Reason: resolution.Reason().String(), ErrorCode: resolution.ErrorCode().String()}
			if value := resolution.Value(); value != nil {
				if ours.Value, err = json.Marshal(value); err != nil {
					t.Fatal(err)
				}
			}
			var one struct{ Resolution resolved }
			ask("/guidon.v1.EvaluationService/Evaluate", fmt.Sprintf(`{"key":%q,"context":%s}`, c.Key, c.Context), &one)
			var single resolved
			ask(ofrepSingle+c.Key, fmt.Sprintf(`{"context":%s}`, c.Context), &single)
			if c.Code != "TYPE_MISMATCH" { // these ask for no type
				got["the evaluator"], got["Evaluate"], got["OFREP"] = ours, one.Resolution, single
			}
			method := map[string]string{"boolean": "ResolveBoolean", "string": "ResolveString", "number": "ResolveFloat", "object": "ResolveObject"}[c.Type]
			const v1, v2 = "/flagd.evaluation.v1.Service/", "/flagd.evaluation.v2.Service/"
			for _, service := range []string{v1, v2} {
				flag := resolved{}
				a := g.post(t, service+method, key, fmt.Sprintf(`{"flagKey":%q,"context":%s}`, c.Key, c.Context))
				switch {
				case c.Code != "", service == v1 && c.Value == nil && c.Reason == "DEFAULT": // v1 has no word for it
					if a.status < 400 {
						t.Errorf("%s over %s%s: %d %s, want an error", c.Key, service, method, a.status, a.body)
					}
				case json.Unmarshal([]byte(a.body), &flag) != nil || a.status != 200:
					t.Fatalf("%s%s: %d %s", service, method, a.status, a.body)
				case c.Value == nil:
					flag.Value = nil // v1 cannot leave it out
					got[service+method] = flag
				default:
					got[service+method] = flag
				}
			}
			if c.Value != nil {
				var all struct{ Flags map[string]resolved }
				ask(v1+"ResolveAll", fmt.Sprintf(`{"context":%s}`, c.Context), &all)
				got[v1+"ResolveAll"] = all.Flags[c.Key]
			}
			var every struct{ Resolutions, Flags []resolved }
			if c.Code == "" {
				ask("/guidon.v1.EvaluationService/EvaluateAll", fmt.Sprintf(`{"context":%s}`, c.Context), &every)
				ask(ofrepBulk, fmt.Sprintf(`{"context":%s}`, c.Context), &every)
				for protocol, list := range map[string][]resolved{"EvaluateAll": every.Resolutions, "OFREP bulk": every.Flags} {
					for _, r := range list {
						if r.Key == c.Key {
							got[protocol] = r
						}
					}
					if _, ok := got[protocol]; !ok {
						t.Errorf("%s is not in the answer of %s", c.Key, protocol)
					}
				}
			}
			for protocol, r := range got {
				if r.String() != want.String() {
					t.Errorf("%s with %s over %s = %s, want %s", c.Key, c.Context, protocol, r, want)
				}
			}
		}
	})
}
