package feed_test

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// odd is the row of a flag whose document is whatever the test says.
func odd(key string, from int64, document string) eval.Row {
	return eval.Row{Kind: eval.KindFlag, Name: key, From: from, Document: []byte(document)}
}

// Documents that are well signed and make no sense isolate their own flag: it
// has an error, the others have their values, and nothing panics (F12).
func TestDocumentsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	targeting := func(rule string) string {
		return `{"flag":{"defaultVariant":"on","state":"ENABLED","targeting":` + rule + `,"variants":{"off":false,"on":true}}}`
	}
	segment := func(name, rule string) eval.Row {
		return eval.Row{Kind: eval.KindSegment, Name: name, From: 3, Document: []byte(`{"segment":` + rule + `}`)}
	}
	deep := strings.Repeat(`{"!":[`, 5000) + "true" + strings.Repeat(`]}`, 5000)
	for name, rows := range map[string][]eval.Row{
		"not JSON":               {odd("bad", 3, "{")},
		"empty":                  {odd("bad", 3, "")},
		"null":                   {odd("bad", 3, "null")},
		"nulls everywhere":       {odd("bad", 3, `{"flag":{"defaultVariant":null,"metadata":null,"state":null,"targeting":null,"variants":null},"guidon":null}`)},
		"a list":                 {odd("bad", 3, "[]")},
		"a member twice":         {odd("bad", 3, `{"flag":{},"flag":{}}`)},
		"unknown operator":       {odd("bad", 3, targeting(`{"summon":["a demon"]}`))},
		"unknown type":           {odd("bad", 3, `{"flag":{"defaultVariant":"a","state":"ENABLED","variants":{"a":[1]}}}`)},
		"unknown state":          {odd("bad", 3, `{"flag":{"defaultVariant":"a","state":"MAYBE","variants":{"a":true}}}`)},
		"unknown attribute":      {odd("bad", 3, `{"flag":{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}},"guidon":{"novel":1}}`)},
		"unknown wish":           {odd("bad", 3, `{"flag":{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}},"guidon":{"pinUnavailable":"newest"}}`)},
		"unknown kind of a flag": {odd("bad", 3, `{"flag":{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}},"guidon":{"kind":"spell"}}`)},
		"unknown way to require": {odd("bad", 3, `{"flag":{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}},"guidon":{"requires":[{"flag":"search","unless":1,"variants":["on"]}]}}`)},
		"unknown part beside it": {odd("bad", 3, `{"flag":{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}},"guidon":{},"novel":{}}`)},
		"a later language":       {odd("bad", 3, `{"flag":{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}},"guidon":{"level":2}}`)},
		"a newer kind of row": {
			flag("bad", 3, true), {Kind: "flag/novel", Name: "bad", From: 3, Document: []byte(`{}`)}, {Kind: "note/novel", Name: "search", From: 3, Document: []byte(`1`)},
		},
		"too deep":        {odd("bad", 3, targeting(deep))},
		"no such segment": {odd("bad", 3, targeting(`{"$ref":"nowhere"}`))},
		"a segment of itself": {
			odd("bad", 3, targeting(`{"$ref":"a"}`)), segment("a", `{"$ref":"b"}`), segment("b", `{"$ref":"a"}`),
		},
		"a huge list": {odd("bad", 3, targeting(`{"in":[{"var":"x"},[`+strings.TrimSuffix(strings.Repeat("1,", 150_000), ",")+`]]}`))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var h history
				h.put(true, "checkout")
				h.put(true, "search")
				f, _, s := started(t, &h, feed.Config{})
				h = append(h, append(h.rows(2)[:2:2], rows...))
				h[2][0] = flag("checkout", 3, false)
				s.send(t, h.delta(t, 2, 3, "gzip"))
				if got := f.Status(); got.Revision != 3 || !got.Connected {
					t.Fatalf("Status() = %+v, want revision 3 and the stream", got)
				}
				if value(t, f, "checkout") || !value(t, f, "search") {
					t.Error("the other flags do not have their values")
				}
				if bad := f.Snapshot().Flag("bad"); bad != nil {
					if on, ok := bad.Evaluate(nil, 0).Boolean(); ok && on {
						t.Error("the flag that makes no sense has a value")
					}
				}
			})
		})
	}
}

// A payload that is a thousand times its size costs its bound and is refused.
func TestPayloadThatExplodes(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	zip, err := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 257 {
		if _, err := zip.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		f, _, s := started(t, &h, feed.Config{})
		s.send(t, deltaOf(&guidonv1.Delta{FromRevision: 1, ToRevision: 2, Encoding: "gzip", Payload: bomb.Bytes()}))
		if got := f.Status(); got.Revision != 1 || !strings.Contains(got.LastError, "larger than") {
			t.Errorf("Status() = %+v, want revision 1 and a refusal", got)
		}
	})
}

// A server that alternates between good and bad leaves the SDK on good, for as
// long as it likes (F12).
func TestFlappingServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		f, src, s := started(t, &h, feed.Config{})
		for round := range 150 {
			revision := h.put(round%2 == 0, "checkout")
			bad := h.delta(t, revision-1, revision, "gzip")
			switch round % 3 {
			case 0:
				bad.GetDelta().Digest = strconv.Itoa(round)
			case 1:
				bad.GetDelta().Payload = []byte("not what it says")
			default:
				bad = chunk(&guidonv1.SnapshotChunk{Revision: revision, Encoding: "identity", Digest: h.digest(t, revision), Last: true})
			}
			s.send(t, bad)
			if f.Snapshot().Revision() != revision-1 {
				t.Fatalf("round %d: the SDK is at revision %d, want %d kept", round, f.Snapshot().Revision(), revision-1)
			}
			s = <-src.opened
			s.send(t, hello(revision))
			s.send(t, h.snapshot(t, revision, "gzip", 1)...)
			if got := f.Status(); got.State != feed.StateReady || got.Revision != revision || value(t, f, "checkout") != (round%2 == 0) {
				t.Fatalf("round %d: Status() = %+v, want ready at revision %d", round, got, revision)
			}
		}
	})
}
