package audit_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/store/audit"
)

func record(i int) audit.Record {
	return audit.Record{
		Actor: "ada", Action: audit.ActionSetState, Reason: "because", Change: strconv.Itoa(i), Environment: "production",
		Revision: int64(i), Correlation: "c", Time: time.Unix(1_700_000_000, 123_456_000).UTC(),
		Operations: []audit.Operation{{
			Action: audit.ActionSetState, Kind: "flag", Name: "a",
			Before: json.RawMessage(`{"state":"ENABLED"}`), After: json.RawMessage(`{"state":"DISABLED"}`),
		}},
	}
}

func chain(t *testing.T, scope string, n int) []audit.Entry {
	t.Helper()
	var entries []audit.Entry
	var head audit.Head
	for i := range n {
		e := texted(t, head, scope, record(i+1), byte(i))
		entries = append(entries, e)
		head = audit.Head{Seq: e.Seq, Hash: e.Hash}
	}
	return entries
}

// texted makes the entry of a record whose name and reason are texts of their own.
func texted(t testing.TB, head audit.Head, scope string, r audit.Record, salt byte) audit.Entry {
	t.Helper()
	texts := []audit.Text{{Salt: [16]byte{salt}, Text: r.Reason}, {Salt: [16]byte{15: 1}, Text: r.Actor}}
	r.ReasonHash, r.PersonHash, r.Reason, r.Actor = texts[0].Hash().String(), texts[1].Hash().String(), "", "key:1"
	payload, err := r.Payload()
	if err != nil {
		t.Fatal(err)
	}
	e := head.Next(scope, payload)
	slices.SortFunc(texts, func(a, b audit.Text) int { return strings.Compare(a.Hash().String(), b.Hash().String()) })
	e.Texts = texts
	return e
}

func yield(entries []audit.Entry) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// The vector was computed outside Go from the definition of EntryHash: a change
// to it would make every log there is fail.
func TestEntryHashIsPinned(t *testing.T) {
	t.Parallel()
	prev := audit.Hash{0: 1, 31: 2}
	got := audit.EntryHash("production", 7, prev, []byte(`{"actor":"ada"}`))
	if want := "65acafb194556c12f58f234f3d3077243098bb5d304e15f610d22fdf0e97db93"; got.String() != want {
		t.Errorf("EntryHash = %s, want %s", got, want)
	}
}

func TestPayloadIsCanonicalAndRoundTrips(t *testing.T) {
	t.Parallel()
	r := record(1)
	r.Reason = "a < b & \"c\"\u2028"
	payload, err := r.Payload()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"action":"flag.state","actor":"ada","change":"1","correlation":"c","environment":"production","operations":` +
		`[{"action":"flag.state","after":{"state":"DISABLED"},"before":{"state":"ENABLED"},"kind":"flag","name":"a"}],` +
		`"reason":"a < b & \"c\"` + "\u2028" + `","revision":1,"time":"2023-11-14T22:13:20.123456Z"}`
	if string(payload) != want {
		t.Errorf("payload = %s\nwant      %s", payload, want)
	}
	got, err := audit.Entry{Payload: payload}.Record()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Errorf("record after a round trip (-want +got):\n%s", diff)
	}
	if _, err := (audit.Entry{Scope: "production", Seq: 3, Payload: []byte("{")}).Record(); err == nil || !strings.Contains(err.Error(), "entry 3") {
		t.Errorf("Record of half a payload: %v, want an error that names the entry", err)
	}
}

func TestVerifyFollowsAChainFromAnyHead(t *testing.T) {
	t.Parallel()
	entries := chain(t, "production", 10)
	last := audit.Head{Seq: 10, Hash: entries[9].Hash}
	for from := range 11 {
		head := audit.Head{}
		if from > 0 {
			head = audit.Head{Seq: int64(from), Hash: entries[from-1].Hash}
		}
		if got, err := audit.Verify("production", head, yield(entries[from:])); err != nil || got != last {
			t.Errorf("Verify from %d = %d, %v, want 10", from, got.Seq, err)
		}
	}
	if got, err := audit.Verify(audit.Installation, audit.Head{}, yield(nil)); err != nil || got != (audit.Head{}) {
		t.Errorf("Verify of nothing = %v, %v", got, err)
	}
	failed := errors.New("disk on fire")
	broken := func(yield func(audit.Entry, error) bool) {
		_ = yield(entries[0], nil) && yield(audit.Entry{}, failed)
	}
	if got, err := audit.Verify("production", audit.Head{}, broken); !errors.Is(err, failed) || got.Seq != 1 {
		t.Errorf("Verify of what cannot be read = %d, %v, want 1 and the cause", got.Seq, err)
	}
}

// tampering is what somebody may do to a log between entries lo and hi.
var tamperings = map[string]func(r *rand.Rand, entries []audit.Entry) []audit.Entry{
	"flip a bit of a payload": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		e := &es[r.IntN(len(es))]
		e.Payload = bytes.Clone(e.Payload)
		e.Payload[r.IntN(len(e.Payload))] ^= 1 << r.IntN(8)
		return es
	},
	"flip a bit of a hash": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		es[r.IntN(len(es))].Hash[r.IntN(32)] ^= 1 << r.IntN(8)
		return es
	},
	"flip a bit of a link": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		es[r.IntN(len(es))].Prev[r.IntN(32)] ^= 1 << r.IntN(8)
		return es
	},
	"change a number": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		es[r.IntN(len(es))].Seq += 1 + r.Int64N(5)
		return es
	},
	"move to another chain": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		es[r.IntN(len(es))].Scope = "staging"
		return es
	},
	"delete": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		i := r.IntN(len(es) - 1) // the last one takes a copy of the head to miss
		return slices.Delete(es, i, i+1)
	},
	"insert a copy": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		return slices.Insert(es, r.IntN(len(es)), es[r.IntN(len(es))])
	},
	"swap": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		i := r.IntN(len(es) - 1)
		es[i], es[i+1] = es[i+1], es[i]
		return es
	},
	"change a name":   func(r *rand.Rand, es []audit.Entry) []audit.Entry { return changeText(r, es, "ada") },
	"change a reason": func(r *rand.Rand, es []audit.Entry) []audit.Entry { return changeText(r, es, "because") },
	"swap the texts of two entries": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		i := r.IntN(len(es) - 1)
		es[i].Texts, es[i+1].Texts = es[i+1].Texts, es[i].Texts
		return es
	},
	"rewrite one entry with a right hash": func(r *rand.Rand, es []audit.Entry) []audit.Entry {
		i := r.IntN(len(es) - 1) // as above
		e := &es[i]
		e.Payload = []byte(`{"actor":"nobody"}`)
		e.Hash = audit.EntryHash(e.Scope, e.Seq, e.Prev, e.Payload)
		return es
	},
}

// changeText puts another text in the place of one, with the right salt.
func changeText(r *rand.Rand, es []audit.Entry, text string) []audit.Entry {
	e := &es[r.IntN(len(es))]
	e.Texts = slices.Clone(e.Texts)
	for i := range e.Texts {
		if e.Texts[i].Text == text {
			e.Texts[i].Text = "eve"
		}
	}
	return es
}

func TestErasedTextsKeepTheChain(t *testing.T) {
	t.Parallel()
	entries := chain(t, "production", 10)
	r, err := entries[3].Record()
	if err != nil || r.Actor != "key:1 ada" || r.Reason != "because" || r.PersonHash != "" || r.ReasonHash != "" {
		t.Errorf("record = %+v, %v, want its texts in their places", r, err)
	}
	for i := range entries {
		entries[i].Texts = slices.DeleteFunc(slices.Clone(entries[i].Texts), func(text audit.Text) bool { return i%3 == 0 || text.Text == "ada" })
	}
	if head, err := audit.Verify("production", audit.Head{}, yield(entries)); err != nil || head.Seq != 10 {
		t.Errorf("Verify = %d, %v, want 10", head.Seq, err)
	}
	for i, want := range map[int]string{3: audit.Erased, 4: "because"} {
		if r, err := entries[i].Record(); err != nil || r.Actor != "key:1 erased" || r.Reason != want {
			t.Errorf("record %d = %+v, %v, want reason %q", i, r, err, want)
		}
	}
	named := audit.Record{Operations: []audit.Operation{{Kind: "key", Name: "1", After: json.RawMessage(`{"hint":"abcd","name_hash":"00"}`)}}}
	payload, err := named.Payload()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := (audit.Entry{Payload: payload}).Record(); err != nil || string(r.Operations[0].After) != `{"hint":"abcd","name":"erased"}` {
		t.Errorf("a key whose name was erased: %s, %v", r.Operations[0].After, err)
	}
}

// The vector was computed outside Go from the definition of Text.Hash.
func TestTextHashIsPinned(t *testing.T) {
	t.Parallel()
	got := audit.Text{Salt: [16]byte{0: 1, 15: 2}, Text: "Ada Lovelace"}.Hash()
	if want := "1431c46485575e1df64007dc73100a1a02b7ff7f35437fc7ea64ea68ba54e222"; got.String() != want {
		t.Errorf("Hash = %s, want %s", got, want)
	}
}

func TestSplitActor(t *testing.T) {
	t.Parallel()
	for actor, want := range map[string][2]string{
		"guidon":               {"guidon", ""},
		"database: guidon dev": {"database: guidon dev", ""},
		"key:1 Ada Lovelace":   {"key:1", "Ada Lovelace"},
		"key:1 erased":         {"key:1 erased", ""},
		"key:1":                {"key:1", ""},
		"ada":                  {"", "ada"},
		"erased":               {"erased", ""},
	} {
		if principal, person := audit.SplitActor(actor); principal != want[0] || person != want[1] {
			t.Errorf("SplitActor(%q) = %q, %q, want %q", actor, principal, person, want)
		}
	}
}

func TestVerifyFindsEveryTampering(t *testing.T) {
	t.Parallel()
	entries := chain(t, "production", 40)
	r := rand.New(rand.NewPCG(1, 2))
	for name, tamper := range tamperings {
		for i := range 300 {
			forged := tamper(r, slices.Clone(entries))
			_, err := audit.Verify("production", audit.Head{}, yield(forged))
			broken, ok := errors.AsType[*audit.BrokenError](err)
			if !ok {
				t.Fatalf("%s, round %d: %v, want it found", name, i, err)
			}
			// The place is named: everything before it is as it was, but for
			// an entry that got a hash of its own.
			for j := range broken.Seq - 2 {
				if was, is := entries[j], forged[j]; was.Hash != is.Hash || !bytes.Equal(was.Payload, is.Payload) || !slices.Equal(was.Texts, is.Texts) {
					t.Fatalf("%s, round %d: named %d, but %d differs", name, i, broken.Seq, j+1)
				}
			}
		}
	}
}

func TestBrokenErrorSaysWhere(t *testing.T) {
	t.Parallel()
	entries := chain(t, audit.Installation, 3)
	entries[1].Payload = []byte(`{}`)
	_, err := audit.Verify(audit.Installation, audit.Head{}, yield(entries))
	if want := "audit log of the installation is broken at entry 2: its hash is not that of its content"; err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after string
		want          []string
	}{
		"nothing":           {`{"a":1}`, `{"a":1}`, nil},
		"a field":           {`{"a":1,"b":2}`, `{"a":1,"b":3}`, []string{"$.b 2 3"}},
		"added and removed": {`{"a":1}`, `{"b":2}`, []string{"$.a 1 ", "$.b  2"}},
		"nested":            {`{"flag":{"state":"on","v":{"x":1}}}`, `{"flag":{"state":"off","v":{"x":2}}}`, []string{`$.flag.state "on" "off"`, "$.flag.v.x 1 2"}},
		"strange names":     {`{"a b":1,"":2,"9":3}`, `{}`, []string{`$[""] 2 `, `$["9"] 3 `, `$["a b"] 1 `}},
		"items":             {`{"a":[1,{"x":2}]}`, `{"a":[1,{"x":3}]}`, []string{"$.a[1].x 2 3"}},
		"length":            {`{"a":[1]}`, `{"a":[1,2]}`, []string{"$.a [1] [1,2]"}},
		"type":              {`{"a":[1]}`, `{"a":{"x":1}}`, []string{`$.a [1] {"x":1}`}},
		"created":           {``, `{"a":1}`, []string{`$  {"a":1}`}},
		"deleted":           {`{"a":1}`, ``, []string{`$ {"a":1} `}},
		"null":              {`{"a":null}`, `{}`, []string{"$.a null "}},
	} {
		changes, err := audit.Diff([]byte(c.before), []byte(c.after))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range changes {
			got = append(got, fmt.Sprintf("%s %s %s", f.Path, f.Before, f.After))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := audit.Diff([]byte(`{"a":{"b":1}}`), []byte(`{"a":{"b"`)); err == nil || !strings.Contains(err.Error(), "after") {
		t.Errorf("Diff with half a document: %v, want an error that says which", err)
	}
}

func FuzzAuditVerify(f *testing.F) {
	var head audit.Head
	var entries []audit.Entry
	for i := range 4 {
		payload, err := record(i + 1).Payload()
		if err != nil {
			f.Fatal(err)
		}
		e := head.Next("production", payload)
		entries, head = append(entries, e), audit.Head{Seq: e.Seq, Hash: e.Hash}
		f.Add(i, e.Seq, e.Payload, e.Prev[:], e.Hash[:])
	}
	f.Fuzz(func(t *testing.T, i int, seq int64, payload, prev, hash []byte) {
		if i < 0 || i >= len(entries) || len(prev) != 32 || len(hash) != 32 {
			return
		}
		forged := slices.Clone(entries)
		forged[i].Seq, forged[i].Payload = seq, payload
		forged[i].Prev, forged[i].Hash = audit.Hash(prev), audit.Hash(hash)
		same := cmp.Equal(forged[i], entries[i])
		got, err := audit.Verify("production", audit.Head{}, yield(forged))
		if same != (err == nil && got == head) {
			t.Errorf("Verify of entry %d as (%d, %q, %s, %s): %v", i, seq, payload, hex.EncodeToString(prev), hex.EncodeToString(hash), err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	payload, err := record(1).Payload()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var head audit.Head
		if _, err := audit.Verify("production", audit.Head{}, func(yield func(audit.Entry, error) bool) {
			for range 1000 {
				e := head.Next("production", payload)
				head = audit.Head{Seq: e.Seq, Hash: e.Hash}
				if !yield(e, nil) {
					return
				}
			}
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
}
