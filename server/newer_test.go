package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// written is a statement that a newer server carries out.
type written struct {
	sql  string
	args []any
}

// newer makes the next revision of production in the database, of what only a
// newer server would write.
func newer(t *testing.T, revision int64, statements ...written) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append([]written{
		{`ALTER TABLE flag_versions DROP CONSTRAINT IF EXISTS flag_versions_kind_check`, nil}, // as its migration would
		{`INSERT INTO revisions (environment, revision, actor, reason, created_at) VALUES ('production', $1, 'newer', '', now())`, []any{revision}},
		{`UPDATE environments SET revision = $1, updated_at = now() WHERE name = 'production'`, []any{revision}},
	}, statements...) {
		if _, err := tx.Exec(t.Context(), s.sql, s.args...); err != nil {
			t.Fatalf("%s: %v", s.sql, err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func begins(kind, name string, revision int64, document string) written {
	return written{`INSERT INTO flag_versions (environment, kind, name, from_revision, document, hash, refers)
		VALUES ('production', $1, $2, $3, $4, sha256($4), '{}')`, []any{kind, name, revision, []byte(document)}}
}

func ends(kind, name string, revision int64) written {
	return written{
		`UPDATE flag_versions SET to_revision = $3 WHERE environment = 'production' AND kind = $1 AND name = $2 AND to_revision IS NULL`,
		[]any{kind, name, revision},
	}
}

// TestNewerReplica has a newer server on the same database write what this one
// does not know. Whatever is of one flag makes that flag an error, in every
// protocol and through relays, and no other; what may be of any flag leaves all
// at the revision before, until it is gone.
func TestNewerReplica(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start(func(o *options) {
			o.hub.PollInterval = 20 * time.Millisecond
			if o.server.Store != nil {
				o.hub.StaleAfter = 2 * time.Second
			}
		})
		revision := g.apply(t, "production", putFlag("production", "good", "on"), putFlag("production", "odd", "on"), putFlag("production", "other", "on"))
		key := g.key(t, store.KeyServer, "production")
		f := g.follow(t, key, nil)
		f.reach(revision)
		v2 := g.flagdV2(t, dialects[0], key)
		is := func(flag, code string) {
			t.Helper()
			g.reached(t, "production", revision)
			f.reach(revision)
			if g.digest(t, "production") != f.snapshot.Digest().String() || g.origin().digest(t, "production") != g.digest(t, "production") {
				t.Errorf("digests differ at revision %d", revision)
			}
			if got := f.snapshot.Evaluate(flag, nil, 0); string(got.ErrorCode()) != code {
				t.Errorf("%s behind Sync is %q %s, want %q", flag, got.ErrorCode(), got.Message(), code)
			}
			res, err := g.evaluations(key).Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{Key: flag})
			if err != nil || res.GetResolution().GetErrorCode() != code {
				t.Errorf("%s by Evaluate is %v, %v, want %q", flag, res.GetResolution(), err, code)
			}
			_, err = v2.ResolveBoolean(t.Context(), asked(&evaluationv2.ResolveBooleanRequest{FlagKey: flag}))
			if (code == "") != (err == nil) || code != "" && connect.CodeOf(err) != connect.CodeDataLoss {
				t.Errorf("%s over flagd is %v, want %q", flag, err, code)
			}
			answer := g.post(t, ofrepSingle+flag, key, `{}`)
			if got, _ := parsed(t, answer.body)["errorCode"].(string); got != code || (answer.status == http.StatusOK) != (code == "") {
				t.Errorf("%s over OFREP is %d %s, want %q", flag, answer.status, answer.body, code)
			}
		}
		is("odd", "")
		revision++
		newer(t, revision, begins("flag/novel", "odd", revision, `{"novel":1}`))
		is("odd", "PARSE_ERROR")
		is("good", "")
		revision++
		newer(t, revision, begins("note/novel", "good", revision, `1`))
		is("good", "")
		// A client that comes now gets all of it at once.
		f.close()
		f = g.follow(t, key, nil)
		is("odd", "PARSE_ERROR")
		revision++
		newer(t, revision, ends("flag/novel", "odd", revision))
		is("odd", "")
		// An operator that is not known is a matter of its flag as well.
		revision++
		newer(t, revision, ends("flag", "other", revision), begins("flag", "other", revision,
			`{"flag":{"defaultVariant":"on","state":"ENABLED","targeting":{"novel":[1]},"variants":{"off":false,"on":true}},"guidon":{"project":"default"}}`))
		is("other", "PARSE_ERROR")
		is("good", "")

		held := revision
		newer(t, held+1, begins("novel", "odd", held+1, `{}`))
		storetest.Eventually(t, "the server says that it does not get on", func() bool { return g.origin().hub.Ready() != nil })
		if why := g.origin().hub.Ready().Error(); !strings.Contains(why, `kind "novel"`) {
			t.Errorf("not ready: %s", why)
		}
		is("good", "")
		revision = held + 2
		newer(t, revision, ends("novel", "odd", revision))
		is("good", "")
	})
}
