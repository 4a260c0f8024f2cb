package relay_test

import (
	"net/http"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

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

// TestReplicasRelaysAndSDKsAgree has three servers on one database, a relay of
// the second, a relay of that one, and an application at each of them: after
// every kind of operation, whichever server carries it out, all hold the same
// revision with the same digest.
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
	for n, text := range mutations {
		operation := &guidonv1.Operation{}
		if err := protojson.Unmarshal([]byte(text), operation); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		field := operation.ProtoReflect().WhichOneof(operation.ProtoReflect().Descriptor().Oneofs().Get(0))
		tried[string(field.Name())] = true
		at := servers[n%len(servers)]
		changes := guidonv1connect.NewChangeServiceClient(http.DefaultClient, at.url(), connect.WithInterceptors(auth.Bearer(admin)))
		if _, err := changes.Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{operation}, Reason: "a test"}); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
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
			t.Errorf("after %s at revision %d the digests are %v, want one", text, want, digests)
		}
	}
	kinds := (&guidonv1.Operation{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields()
	for i := range kinds.Len() {
		if name := string(kinds.Get(i).Name()); !tried[name] {
			t.Errorf("operation %s is not tried: give it a line", name)
		}
	}
}
