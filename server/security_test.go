package server_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v2/evaluationv2connect"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// clock is one that a test moves.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.seconds.Load()) * time.Second) }

// securityLine is a line of the security log.
type securityLine struct {
	Time      time.Time
	Level     string
	Msg       string
	Outcome   string
	Reason    string
	Procedure string
	Code      string
	KeyID     string `json:"key_id"`
	KeyKind   string `json:"key_kind"`
	Address   string
	Request   string `json:"request_id"`
	Lines     int
}

// securityLines are those that were written, in order.
func securityLines(t *testing.T, log *storetest.Log) (out []securityLine) {
	t.Helper()
	for text := range strings.Lines(log.String()) {
		var line securityLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		out = append(out, line)
	}
	return out
}

// Whatever was tried and not let in is in the security log, by whatever way it
// came, without the key that it came with; what is allowed is not, and the audit
// log knows of neither.
func TestSecurityLog(t *testing.T) {
	t.Parallel()
	var elsewhere string // a key that is good, for another installation
	t.Run("elsewhere", func(t *testing.T) { elsewhere = start(t).admin })
	log, at := &storetest.Log{}, &clock{}
	g := start(t, func(o *options) {
		o.server.Security = slog.New(slog.NewJSONHandler(log, nil))
		o.server.Now, o.server.ClientRate = at.now, 1
	})
	g.apply(t, "staging", visible(putFlag("staging", "shown", "on")))
	revoked, revokedText := g.create(t, store.NewKey{Kind: store.KeyAdmin, Name: "Ada Lovelace"})
	service, serviceText := g.create(t, store.NewKey{Kind: store.KeyServer, Environment: "staging", Name: "service"})
	client, clientText := g.create(t, store.NewKey{Kind: store.KeyClient, Environment: "staging", Name: "client", Origins: []string{"https://shop.example"}})
	if _, err := g.db.RevokeKey(t.Context(), store.Revocation{ID: revoked, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	before := g.mark(t)
	malformed := "gdn_admin_canaryOfAKeyThatIsMistyped"
	ask := func(path, key, body string, header ...string) func() {
		return func() { g.post(t, path, key, body, append(header, "X-Correlation-Id", "correlation-1234567890")...) }
	}
	const single = "POST /ofrep/v1/evaluate/flags/{key}"
	for name, tt := range map[string]struct {
		ask  func()
		want securityLine
	}{
		"no key":        {ask(evaluatePath, "", `{}`), securityLine{Outcome: "unauthenticated", Reason: "no key", Procedure: evaluatePath}},
		"two keys":      {ask(evaluatePath, elsewhere, `{}`, "X-Api-Key", malformed), securityLine{Outcome: "unauthenticated", Reason: "no key", Procedure: evaluatePath}},
		"malformed key": {ask(applyPath, malformed, `{}`), securityLine{Outcome: "unauthenticated", Reason: "key malformed", Procedure: applyPath}},
		"unknown key":   {ask(applyPath, elsewhere, `{}`), securityLine{Outcome: "unauthenticated", Reason: "key unknown", Procedure: applyPath}},
		"revoked key":   {ask(applyPath, revokedText, `{}`), securityLine{Outcome: "unauthenticated", Reason: "key revoked", Procedure: applyPath, KeyID: revoked}},
		"permission":    {ask(applyPath, serviceText, `{}`), securityLine{Outcome: "denied", Reason: "permission", Procedure: applyPath, KeyID: service, KeyKind: "server"}},
		"scope": {
			ask(evaluatePath, serviceText, `{"environment":"`+malformed+`","key":"shown"}`),
			securityLine{Outcome: "denied", Reason: "scope", Procedure: evaluatePath, KeyID: service, KeyKind: "server"},
		},
		"origin": {
			ask(ofrepSingle+"shown", clientText, `{}`, "Origin", "https://"+strings.ToLower(malformed)+".example"),
			securityLine{Outcome: "denied", Reason: "scope", Procedure: single, KeyID: client, KeyKind: "client"},
		},
		"OFREP": {ask(ofrepSingle+malformed, malformed, `{}`), securityLine{Outcome: "unauthenticated", Reason: "key malformed", Procedure: single}},
		"OFREP's bulk": {
			ask(ofrepBulk, revokedText, `{}`),
			securityLine{Outcome: "unauthenticated", Reason: "key revoked", Procedure: auth.OFREP, KeyID: revoked},
		},
		"OFREP's events": {
			func() { g.do(t, http.MethodGet, "/ofrep/v1/events?token="+malformed, "") },
			securityLine{Outcome: "unauthenticated", Reason: "no key", Procedure: "GET /ofrep/v1/events"},
		},
		"flagd over gRPC": {func() {
			stream, err := g.flagdV2(t, dialects[0], elsewhere).EventStream(t.Context(), connect.NewRequest(&evaluationv2.EventStreamRequest{}))
			if err == nil && stream.Receive() {
				t.Error("flagd's event stream opened")
			}
		}, securityLine{Outcome: "unauthenticated", Reason: "key unknown", Procedure: evaluationv2connect.ServiceEventStreamProcedure}},
		"flagd": {
			ask(evaluationv2connect.ServiceResolveBooleanProcedure, revokedText, `{}`),
			securityLine{Outcome: "unauthenticated", Reason: "key revoked", Procedure: evaluationv2connect.ServiceResolveBooleanProcedure, KeyID: revoked},
		},
		"revision": {
			func() {
				g.do(t, http.MethodGet, "/guidon/v1/environments/staging/revisions/1", "", "X-Api-Key", elsewhere)
			},
			securityLine{Outcome: "unauthenticated", Reason: "key unknown", Procedure: "GET /guidon/v1/environments/{environment}/revisions/{revision}"},
		},
		"state": {ask(auth.State, clientText, `{}`), securityLine{Outcome: "denied", Reason: "permission", Procedure: auth.State, KeyID: client, KeyKind: "client"}},
		"another site's page": {
			ask(applyPath, g.admin, `{}`, "Sec-Fetch-Site", "cross-site"),
			securityLine{Outcome: "denied", Reason: "foreign origin", Procedure: applyPath},
		},
		"failed change": {
			ask(applyPath, g.admin, `{"operations":[{"archiveFlag":{"key":"`+malformed+`"}}]}`),
			securityLine{Outcome: "failed", Reason: "not_found", Procedure: applyPath, KeyKind: "admin"},
		},
		"failed revocation": {
			ask(guidonv1connect.KeyServiceRevokeProcedure, g.admin, `{"id":"`+malformed+`"}`),
			securityLine{Outcome: "failed", Procedure: guidonv1connect.KeyServiceRevokeProcedure, KeyKind: "admin"},
		},
	} {
		at.seconds.Add(3)
		was := len(securityLines(t, log))
		tt.ask()
		storetest.Eventually(t, name+" is in the log", func() bool { return len(securityLines(t, log)) > was })
		got := securityLines(t, log)[was]
		if got.Msg != "refused" || got.Address != "127.0.0.1" || len(got.Request) < 16 || got.Time.IsZero() || got.Code == "" {
			t.Errorf("%s: %+v", name, got)
		}
		if tt.want.KeyKind == "admin" {
			tt.want.KeyID = got.KeyID
		}
		got = securityLine{Outcome: got.Outcome, Reason: got.Reason, Procedure: got.Procedure, KeyID: got.KeyID, KeyKind: got.KeyKind}
		if tt.want.Reason == "" {
			got.Reason = ""
		}
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
	at.seconds.Add(3)
	was := len(securityLines(t, log))
	for range 3 {
		g.post(t, ofrepSingle+"shown", clientText, `{}`)
	}
	storetest.Eventually(t, "one too many is in the log", func() bool { return len(securityLines(t, log)) > was })
	lines := securityLines(t, log)
	if got := lines[was]; got.Outcome != "rate_limited" || got.KeyID != client || len(lines) > was+1 {
		t.Errorf("one too many: %+v", lines[was:])
	}

	// What is allowed is not in it, nor what a read did not find.
	at.seconds.Add(3)
	g.post(t, evaluatePath, g.admin, `{"environment":"staging","key":"shown"}`)
	g.post(t, evaluatePath, g.admin, `{"environment":"nowhere","key":"shown"}`)
	g.unchanged(t, before)
	g.stop()
	if after := securityLines(t, log); len(after) != len(lines) {
		t.Errorf("calls that are allowed: %+v", after[len(lines):])
	}
	for _, secret := range []string{malformed, strings.ToLower(malformed), elsewhere, revokedText, serviceText, clientText, g.admin, "Lovelace", "canary"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the security log holds %q", secret)
		}
	}
}

// Who is refused a lot does not fill the disk, and how much was left out is
// said.
func TestSecurityLogIsCapped(t *testing.T) {
	t.Parallel()
	log, at := &storetest.Log{}, &clock{}
	begin := time.Now()
	g := start(t, func(o *options) {
		o.server.Log = slog.New(slog.NewJSONHandler(log, nil)) // what the security log goes to unless it is told
		o.server.Now = func() time.Time { return begin.Add(time.Duration(at.seconds.Load()) * time.Second) }
	})
	for range 50 {
		g.post(t, evaluatePath, "", `{}`)
	}
	at.seconds.Add(1)
	g.post(t, evaluatePath, "", `{}`)
	g.stop()
	var got []string
	for text := range strings.Lines(log.String()) {
		if !strings.Contains(text, `"log":"security"`) {
			continue
		}
		var line securityLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(line.Msg, " ", line.Lines))
	}
	want := append(slices.Repeat([]string{"refused 0"}, 10), "lines left out 40", "refused 0")
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log says %q, want %q", got, want)
	}
}
