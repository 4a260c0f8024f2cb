package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/store"
)

const statePath = "/guidon/v1/state"

func (g *guidon) headers(key string) guidonv1connect.HeaderServiceClient {
	return guidonv1connect.NewHeaderServiceClient(http.DefaultClient, g.url, withKey(key))
}

// rootedHeader asks for a header over plain HTTP.
func (g *guidon) rootedHeader(t testing.TB, key, context string) string {
	t.Helper()
	a := g.post(t, statePath, key, context)
	var out struct {
		Header, CorrelationID, Environment string
		Revision                           int64
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != http.StatusOK {
		t.Fatalf("state: %d %s", a.status, a.body)
	}
	if a.header.Get("Guidon") != out.Header || a.header.Get("X-Correlation-Id") != out.CorrelationID || out.Environment != "staging" || out.Revision == 0 {
		t.Errorf("state %+v with header %q and correlation ID %q", out, a.header.Get("Guidon"), a.header.Get("X-Correlation-Id"))
	}
	return out.Header
}

// TestHeader: a rooted header verifies, pins what it was rooted at whatever is
// published, and is explained flag by flag.
func TestHeader(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	seen := g.apply(t, "staging", gold("staging", "new-pricing"), putFlag("staging", "plain", "on"), putFlag("staging", "doomed", "on"))
	header := g.rootedHeader(t, key, `{"targetingKey":"ann","plan":"gold"}`)
	decoded, err := propagate.Decode(header)
	if err != nil || decoded.Revision != seen || decoded.Subject != "ann" {
		t.Fatalf("header %q: %+v, %v, want ann pinned to %d", header, decoded, err, seen)
	}
	g.apply(t, "staging", setState("staging", "plain", "DISABLED"), putFlag("staging", "young", "on"))
	killed := g.kill(t, "doomed")

	verified, err := g.headers(key).Verify(t.Context(), &guidonv1.HeaderServiceVerifyRequest{Header: header})
	if err != nil || verified.GetOutcome() != "verified" || verified.GetPinned() != seen || verified.GetRevision() != killed || verified.GetKeyId() != decoded.KeyID {
		t.Errorf("Verify = %v, %v", verified, err)
	}
	forged := strings.Replace(header, ";u=\"ann\"", ";u=\"bob\"", 1)
	if refused, err := g.headers(key).Verify(t.Context(), &guidonv1.HeaderServiceVerifyRequest{Header: forged}); err != nil || refused.GetOutcome() != "bad_tag" || refused.GetDetail() == "" {
		t.Errorf("Verify of a forged header = %v, %v, want bad_tag", refused, err)
	}
	want := map[string]string{
		"doomed":      "off STATIC emergency",
		"new-pricing": "on TARGETING_MATCH root",
		"plain":       "on STATIC pin",
		"young":       " DEFAULT pin",
	}
	for _, size := range []int32{0, 1, 3} {
		got, token := map[string]string{}, ""
		for {
			res, err := g.headers(g.admin).Explain(t.Context(), &guidonv1.HeaderServiceExplainRequest{Header: header, PageSize: size, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range res.GetEvaluations() {
				got[e.GetFlag()] = e.GetVariant() + " " + e.GetReason() + " " + e.GetOrigin()
				if e.GetRule() == "" {
					t.Errorf("%s has no rule", e.GetFlag())
				}
			}
			if token = res.GetNextPageToken(); token == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", size, diff)
		}
	}
	one, err := g.headers(key).Explain(t.Context(), &guidonv1.HeaderServiceExplainRequest{Header: header, Flag: "plain"})
	if err != nil || len(one.GetEvaluations()) != 1 || one.GetEvaluations()[0].GetValue().GetBoolValue() != true || one.GetPinned() != seen {
		t.Errorf("Explain of one flag = %v, %v", one, err)
	}
}

func TestBadHeaders(t *testing.T) {
	t.Parallel()
	g := start(t)
	key, foreign := g.key(t, store.KeyServer, "staging"), g.key(t, store.KeyServer, "production")
	header := g.rootedHeader(t, key, `{}`)
	quoted, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(quoted), ";r=", ";r=1", 1)
	before := g.mark(t)
	const verify, explain = "/guidon.v1.HeaderService/Verify", "/guidon.v1.HeaderService/Explain"
	for name, tt := range map[string]struct {
		path, key, body string
		code, says      string
	}{
		"no header":                 {verify, key, `{}`, "invalid_argument", "header"},
		"no header at all":          {verify, key, `{"header":"abc"}`, "invalid_argument", "header"},
		"of another environment":    {verify, foreign, `{"header":` + string(quoted) + `}`, "permission_denied", "staging"},
		"explain, no header":        {explain, key, `{}`, "invalid_argument", "header"},
		"explain, forged":           {explain, key, `{"header":` + forged + `}`, "invalid_argument", "bad_tag"},
		"explain, other":            {explain, foreign, `{"header":` + string(quoted) + `}`, "permission_denied", "staging"},
		"explain, page":             {explain, key, `{"header":` + string(quoted) + `,"pageSize":1001}`, "invalid_argument", "page_size"},
		"explain, token":            {explain, key, `{"header":` + string(quoted) + `,"pageToken":"%"}`, "invalid_argument", "page_token"},
		"state, a list":             {statePath, key, `[]`, "invalid_argument", "context"},
		"state, half":               {statePath, key, `{"plan":`, "invalid_argument", "context"},
		"state, too long":           {statePath, key, `{"plan":"` + strings.Repeat("x", 1<<20) + `"}`, "invalid_argument", "longer"},
		"state, no key":             {statePath, "", `{}`, "unauthenticated", "Bearer"},
		"state, other environment":  {statePath + "?environment=production", key, `{}`, "permission_denied", "production"},
		"state, no environment":     {statePath, g.admin, `{}`, "invalid_argument", "environment"},
		"state, unknown":            {statePath + "?environment=nowhere", g.admin, `{}`, "not_found", "nowhere"},
		"report, no revision":       {"/guidon.v1.ChangeService/KillReport", g.admin, `{"environment":"staging"}`, "invalid_argument", "revision"},
		"report, no kill":           {"/guidon.v1.ChangeService/KillReport", g.admin, `{"environment":"staging","revision":1}`, "not_found", "no kill"},
		"report, of the future":     {"/guidon.v1.ChangeService/KillReport", g.admin, `{"environment":"staging","revision":99}`, "unavailable", "99"},
		"report, unknown":           {"/guidon.v1.ChangeService/KillReport", g.admin, `{"environment":"nowhere","revision":1}`, "not_found", "nowhere"},
		"report, with a server key": {"/guidon.v1.ChangeService/KillReport", key, `{"environment":"staging","revision":1}`, "permission_denied", ""},
	} {
		a := g.post(t, tt.path, tt.key, tt.body)
		if a.code() != tt.code || !strings.Contains(a.body, tt.says) {
			t.Errorf("%s: %d %.300q, want %s with %q", name, a.status, a.body, tt.code, tt.says)
		}
		if a.header.Get("Guidon") != "" {
			t.Errorf("%s: an error with a header", name)
		}
	}
	g.unchanged(t, before)
}

// TestKillReport counts who has the kill, how long that took, and what it
// changed under way.
func TestKillReport(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	for _, name := range []string{"x", "y", "z"} {
		stream, err := g.syncs(key).Sync(t.Context(), &guidonv1.SyncServiceSyncRequest{Client: &guidonv1.Client{Service: "cart", Instance: name}, HaveRevision: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stream.Close() })
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
	}
	killed := g.kill(t, "a")
	for _, name := range []string{"x", "y"} {
		if _, err := g.syncs(key).Ack(t.Context(), &guidonv1.SyncServiceAckRequest{
			Client: &guidonv1.Client{Service: "cart", Instance: name}, Revision: killed, Age: durationpb.New(time.Microsecond), Pierced: map[int64]int64{killed: 4},
		}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := g.changes(g.admin).KillReport(t.Context(), &guidonv1.ChangeServiceKillReportRequest{Environment: "staging", Revision: killed})
	if err != nil {
		t.Fatal(err)
	}
	if r.GetReached() != 2 || r.GetConnected() != 3 || r.GetTimed() != 2 || r.GetPierced() != 8 || r.GetPartial() {
		t.Errorf("report %v, want 2 of 3 reached, both timed, 8 requests changed", r)
	}
	if r.GetP50().AsDuration() > r.GetP99().AsDuration() || r.GetP99().AsDuration() != r.GetLast().AsDuration() || r.GetLast().AsDuration() > time.Minute {
		t.Errorf("p50 %v, p99 %v, last %v", r.GetP50().AsDuration(), r.GetP99().AsDuration(), r.GetLast().AsDuration())
	}
	if len(r.GetKills()) != 1 || r.GetKills()[0].GetKey() != "a" || r.GetKills()[0].GetVariant() != "off" || !r.GetKilledAt().IsValid() {
		t.Errorf("report of %v at %v", r.GetKills(), r.GetKilledAt())
	}
}
