package relay_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// mutations are every kind of operation, in an order in which each of them has
// something to do.
var mutations = []string{
	`{"putSegment": {"environment": "staging", "name": "beta", "condition": {"==": [{"var": "plan"}, "gold"]}}}`,
	`{"putFlag": {"environment": "staging", "key": "checkout", "definition": {"state": "ENABLED", "variants": {"on": true, "off": false},
		"defaultVariant": "off", "targeting": {"if": [{"$ref": "beta"}, "on"]}}}}`,
	`{"putFlag": {"environment": "staging", "key": "limits", "kind": "config", "definition": {"state": "ENABLED", "variants": {"few": {"max": 3}, "many": {"max": 9}}, "defaultVariant": "few"}}}`,
	`{"putFlag": {"environment": "production", "key": "checkout", "definition": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}}}`,
	`{"putSegment": {"environment": "staging", "name": "beta", "condition": {"==": [{"var": "plan"}, "silver"]}}}`,
	`{"setState": {"environment": "staging", "key": "checkout", "state": "DISABLED"}}`,
	`{"setState": {"environment": "staging", "key": "checkout", "state": "ENABLED"}}`,
	`{"setDefaultVariant": {"environment": "staging", "key": "checkout", "variant": "on"}}`,
	`{"setDefaultVariant": {"environment": "staging", "key": "checkout", "variant": "off"}}`,
	`{"putSettings": {"environment": "staging", "settings": {"travel": [{"attribute": "plan"}], "fractional": "v3"}}}`,
	`{"setAttributes": {"environment": "staging", "key": "checkout", "attach": true, "clientVisible": true}}`,
	`{"setSchema": {"key": "limits", "schema": {"type": "object", "required": ["max"]}}}`,
	`{"describeFlag": {"key": "checkout", "owner": "shop"}}`,
	`{"killFlag": {"environment": "staging", "key": "checkout", "variant": "off"}}`,
	`{"unkillFlag": {"environment": "staging", "key": "checkout"}}`,
	`{"archiveFlag": {"key": "checkout"}}`,
	`{"restoreFlag": {"key": "checkout"}}`,
	`{"archiveFlag": {"key": "checkout"}}`,
	`{"deleteFlag": {"key": "checkout"}}`,
	`{"deleteSegment": {"environment": "staging", "name": "beta"}}`,
	`{"removeFlag": {"environment": "staging", "key": "limits"}}`,
}

// others are the calls that change an environment in another way, after as many
// of the mutations.
var others = map[int][]struct{ procedure, body string }{
	13: {
		{guidonv1connect.ChangeServiceKillProcedure, `{"environment": "staging", "kills": [{"key": "checkout", "variant": "on"}], "reason": "a test"}`},
		{guidonv1connect.ChangeServiceUnkillProcedure, `{"environment": "staging", "keys": ["checkout"], "reason": "a test"}`},
		{guidonv1connect.ChangeServicePromoteProcedure, `{"environment": "production", "to": "staging", "flags": ["checkout"], "reason": "a test"}`},
		{guidonv1connect.ChangeServiceRestoreProcedure, `{"environment": "staging", "revision": "6", "reason": "a test"}`},
		{guidonv1connect.ChangeServiceRevertProcedure, `{"environment": "staging", "revision": "6", "reason": "a test"}`},
		{guidonv1connect.EnvironmentServiceUpdateProcedure, `{"name": "staging", "protected": true, "reason": "a test"}`},
		{guidonv1connect.EnvironmentServiceRotatePropagationKeyProcedure, `{"environment": "staging", "reason": "a test"}`},
		{guidonv1connect.EnvironmentServiceCreateProcedure, `{"name": "canary", "reason": "a test"}`},
		{guidonv1connect.ChangeServiceCopyProcedure, `{"environment": "staging", "to": "canary", "reason": "a test"}`},
	},
}

// TestReplicasRelaysAndSDKsAgree has three servers on one database, a relay of
// the second, a relay of that one, and an application at each of them: after
// every kind of operation and every other call that changes an environment,
// whichever server carries it out, all hold the same revision with the same
// digest.
func TestReplicasRelaysAndSDKsAgree(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	_, admin := key(t, db, store.KeyAdmin)
	_, relays := key(t, db, store.KeyRelay)
	_, text := key(t, db, store.KeyServer)
	servers := []*process{startServer(t, db, ""), startServer(t, db, ""), startServer(t, db, "")}
	near := startRelay(t, "", servers[1].url(), relays, "")
	far := startRelay(t, "", near.url(), relays, "")
	all := append(slices.Clone(servers), near, far)
	var applications []*guidon.Client
	for _, p := range all {
		applications = append(applications, connected(t, p, text, "cart"))
	}
	for _, p := range all {
		storetest.Eventually(t, "all are ready", func() bool { return p.hub.Ready() == nil })
	}
	tried := map[string]bool{}
	calls := 0
	call := func(procedure, body string) {
		t.Helper()
		tried[procedure] = true
		calls++
		at := servers[calls%len(servers)] // whichever carries it out
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.url()+procedure, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+admin)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if answer, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %d %s, %v", procedure, body, response.StatusCode, answer, err)
		}
		agree(t, db, all, applications, procedure+" "+body)
	}
	for n, text := range mutations {
		for _, other := range others[n] {
			call(other.procedure, other.body)
		}
		operation := &guidonv1.Operation{}
		if err := protojson.Unmarshal([]byte(text), operation); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		field := operation.ProtoReflect().WhichOneof(operation.ProtoReflect().Descriptor().Oneofs().Get(0))
		tried[string(field.Name())] = true
		call(guidonv1connect.ChangeServiceApplyProcedure, `{"operations": [`+text+`], "reason": "a test"}`)
	}
	kinds := (&guidonv1.Operation{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields()
	for i := range kinds.Len() {
		if name := string(kinds.Get(i).Name()); !tried[name] {
			t.Errorf("operation %s is not tried: give it a line", name)
		}
	}
	for _, file := range []protoreflect.FileDescriptor{guidonv1.File_guidon_v1_change_proto, guidonv1.File_guidon_v1_environment_proto} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for k := range methods.Len() {
				procedure := "/" + string(methods.Get(k).Parent().FullName()) + "/" + string(methods.Get(k).Name())
				if auth.Writes(procedure) && !tried[procedure] {
					t.Errorf("%s is not tried: give it a line", procedure)
				}
			}
		}
	}
}

// agree waits until all are at the newest revision, and compares what they hold.
func agree(t *testing.T, db *store.DB, all []*process, applications []*guidon.Client, after string) {
	t.Helper()
	revisions, err := db.Revisions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := revisions["staging"]
	digests := map[string]int{}
	for _, p := range all {
		var e *hub.Environment
		storetest.Eventually(t, "a server or relay is at the newest revision", func() bool {
			e, err = p.hub.Environment("staging")
			return err == nil && e.Head().Revision() == want
		})
		digests[e.Head().Digest()]++
	}
	for _, c := range applications {
		storetest.Eventually(t, "an application is at the newest revision", holds(c, want))
		digests[c.Snapshot().Digest().String()]++
	}
	if len(digests) != 1 {
		t.Errorf("after %s at revision %d the digests are %v, want one", after, want, digests)
	}
}
