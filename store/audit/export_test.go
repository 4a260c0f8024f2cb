package audit_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/store/audit"
)

func signer(t testing.TB, seed byte) checkpoint.Key {
	t.Helper()
	k, err := checkpoint.NewKey("guidon-test", [32]byte{seed})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// log is an export taken apart: what a forger works on.
type log struct {
	header  audit.Header
	entries []audit.Entry
	// notes are the checkpoints behind an entry, by its number.
	notes map[int64]string
}

// newLog makes a chain with a checkpoint for each 7 entries and one at the end.
func newLog(t testing.TB, k checkpoint.Key, entries []audit.Entry) (log, checkpoint.Checkpoint) {
	t.Helper()
	l := log{audit.NewHeader("production", k.VerifierText(), audit.Start{}), entries, map[int64]string{}}
	var tree audit.Tree
	var last checkpoint.Checkpoint
	for i, e := range entries {
		tree.Add(e.Hash)
		if tree.Size()%7 != 0 && i != len(entries)-1 {
			continue
		}
		last = checkpoint.Checkpoint{Origin: checkpoint.Origin(k.Name(), "production"), Size: tree.Size(), Root: tree.Root()}
		signed, err := checkpoint.Sign(last, k)
		if err != nil {
			t.Fatal(err)
		}
		l.notes[tree.Size()] = signed
	}
	return l, last
}

func (l log) file() []byte {
	b := audit.AppendHeader(nil, l.header)
	var head audit.Head
	for i, e := range l.entries {
		b = audit.AppendEntry(b, e)
		head = audit.Head{Seq: e.Seq, Hash: e.Hash}
		if note, ok := l.notes[int64(i)+1]; ok {
			b = audit.AppendCheckpoint(b, note)
		}
	}
	return audit.AppendEnd(b, head)
}

func verifyFile(file []byte, k checkpoint.Key, known ...checkpoint.Checkpoint) (audit.Verified, error) {
	x, err := audit.ReadExport(bytes.NewReader(file), k.VerifierText())
	if err != nil {
		return audit.Verified{}, err
	}
	return x.Verify(nil, known...)
}

// found reports whether an error is one of those that verification ends with.
func found(err error) bool {
	_, broken := errors.AsType[*audit.BrokenError](err)
	_, mismatch := errors.AsType[*audit.CheckpointError](err)
	return broken || mismatch
}

func TestExportIsVerified(t *testing.T) {
	t.Parallel()
	k := signer(t, 1)
	l, last := newLog(t, k, chain(t, "production", 40))
	file := l.file()
	got, err := verifyFile(file, k, last)
	want := audit.Verified{Head: audit.Head{Seq: 40, Hash: l.entries[39].Hash}, Root: last.Root, Checkpoints: 7, Covered: 40}
	if err != nil || got != want {
		t.Errorf("Verify = %+v, %v, want %+v", got, err, want)
	}
	if x, err := audit.ReadExport(bytes.NewReader(file), ""); err != nil || x.Header.Verifier != k.VerifierText() {
		t.Errorf("ReadExport without a known key: %v", err)
	}
	if _, err := verifyFile(file, signer(t, 2)); !found(err) {
		t.Errorf("Verify with another key: %v, want a checkpoint error", err)
	}
	// What remembers a checkpoint of 40 entries finds that the last are gone,
	// though the file says nothing of them.
	short, _ := newLog(t, k, l.entries[:33])
	if _, err := verifyFile(short.file(), k); err != nil {
		t.Errorf("Verify of 33 entries: %v", err)
	}
	if _, err := verifyFile(short.file(), k, last); !found(err) || !strings.Contains(err.Error(), "there are only 33 entries") {
		t.Errorf("Verify of 33 entries against a checkpoint of 40: %v", err)
	}
}

func TestExportBeginsAtAnAnchor(t *testing.T) {
	t.Parallel()
	k := signer(t, 1)
	entries := chain(t, "production", 40)
	whole, last := newLog(t, k, entries)
	var tree audit.Tree
	for _, e := range entries[:14] {
		tree.Add(e.Hash)
	}
	rest := log{audit.NewHeader("production", k.VerifierText(), audit.Start{Head: audit.Head{Seq: 14, Hash: entries[13].Hash}, Tree: tree}), entries[14:], map[int64]string{}}
	for size, note := range whole.notes {
		rest.notes[size-14] = note
	}
	got, err := verifyFile(rest.file(), k, last)
	if err != nil || got.Root != last.Root || got.Covered != 40 {
		t.Errorf("Verify = %+v, %v, want root %s", got, err, last.Root)
	}
	rest.entries = rest.entries[1:]
	if _, err := verifyFile(rest.file(), k, last); !found(err) {
		t.Errorf("Verify without the entry after the anchor: %v", err)
	}
}

// forgeries are what somebody with the file may do to it, and somebody with the
// database as well: all but sign. Each returns the new file; nil for one that
// came out as it was.
var forgeries = map[string]func(*testing.T, *rand.Rand, log, []byte) []byte{
	"flip a bit of the file": func(_ *testing.T, r *rand.Rand, _ log, file []byte) []byte {
		file[r.IntN(len(file))] ^= 1 << r.IntN(8)
		return file
	},
	"cut the file": func(_ *testing.T, r *rand.Rand, _ log, file []byte) []byte { return file[:r.IntN(len(file))] },
	"delete a line": func(_ *testing.T, r *rand.Rand, _ log, file []byte) []byte {
		lines := bytes.SplitAfter(file, []byte("\n"))
		i := 1 + r.IntN(len(lines)-2)
		for bytes.HasPrefix(lines[i], []byte(`{"checkpoint"`)) { // without it the log is as good
			i--
		}
		return bytes.Join(slices.Delete(lines, i, i+1), nil)
	},
	"repeat a line": func(_ *testing.T, r *rand.Rand, _ log, file []byte) []byte {
		lines := bytes.SplitAfter(file, []byte("\n"))
		i := r.IntN(len(lines) - 1)
		if bytes.HasPrefix(lines[i], []byte(`{"checkpoint"`)) { // says the same twice
			return nil
		}
		return bytes.Join(slices.Insert(lines, r.IntN(len(lines)), lines[i]), nil)
	},
	"swap two lines": func(_ *testing.T, r *rand.Rand, _ log, file []byte) []byte {
		lines := bytes.SplitAfter(file, []byte("\n"))
		i, j := r.IntN(len(lines)-1), r.IntN(len(lines)-1)
		lines[i], lines[j] = lines[j], lines[i]
		return bytes.Join(lines, nil)
	},
	"cut the end and write another": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		l.entries = l.entries[:r.IntN(len(l.entries))]
		return l.file()
	},
	"delete and chain again": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		i := r.IntN(len(l.entries))
		l.entries = rechained(slices.Delete(l.entries, i, i+1))
		return l.file()
	},
	"insert and chain again": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		l.entries = rechained(slices.Insert(l.entries, r.IntN(len(l.entries)), audit.Entry{Scope: "production", Payload: []byte(`{"actor":"nobody"}`)}))
		return l.file()
	},
	"change a payload and chain again": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		e := &l.entries[r.IntN(len(l.entries))]
		e.Payload = bytes.Replace(e.Payload, []byte(`"key:1"`), []byte(`"key:2"`), 1)
		l.entries = rechained(l.entries)
		return l.file()
	},
	"change a name": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		l.entries = changeText(r, l.entries, "ada")
		return l.file()
	},
	"change a reason": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		l.entries = changeText(r, l.entries, "because")
		return l.file()
	},
	"show another's texts": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		l.entries[r.IntN(len(l.entries))].Texts = l.entries[r.IntN(len(l.entries))].Texts
		return l.file()
	},
	"show a text twice": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		e := &l.entries[r.IntN(len(l.entries))]
		e.Texts = append(slices.Clone(e.Texts), e.Texts[r.IntN(len(e.Texts))])
		return l.file()
	},
	"turn the texts round": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		e := &l.entries[r.IntN(len(l.entries))]
		e.Texts = slices.Clone(e.Texts)
		slices.Reverse(e.Texts)
		return l.file()
	},
	"chain again and drop the checkpoints": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		e := &l.entries[r.IntN(len(l.entries))]
		e.Payload = []byte(`{"actor":"eve"}`)
		l.entries, l.notes = rechained(l.entries), nil
		return l.file()
	},
	"chain again and sign with another key": func(t *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		e := &l.entries[r.IntN(len(l.entries))]
		e.Payload = []byte(`{"actor":"eve"}`)
		forged, _ := newLog(t, signer(t, 9), rechained(l.entries))
		if r.IntN(2) == 0 {
			forged.header.Verifier = l.header.Verifier
		}
		return forged.file()
	},
	"replay the log of another time": func(_ *testing.T, r *rand.Rand, l log, _ []byte) []byte {
		i := 1 + r.IntN(len(l.entries)-1)
		l.entries = append(l.entries[:i:i], l.entries[:len(l.entries)-i]...)
		return l.file()
	},
	"move to another chain": func(_ *testing.T, _ *rand.Rand, l log, _ []byte) []byte {
		l.header.Scope = "staging"
		l.entries = rechainedAs("staging", l.entries)
		return l.file()
	},
}

func rechained(entries []audit.Entry) []audit.Entry { return rechainedAs("production", entries) }

func rechainedAs(scope string, entries []audit.Entry) []audit.Entry {
	var head audit.Head
	for i, e := range entries {
		entries[i] = head.Next(scope, e.Payload)
		entries[i].Texts = e.Texts
		head = audit.Head{Seq: entries[i].Seq, Hash: entries[i].Hash}
	}
	return entries
}

// TestEveryForgeryIsFound makes 10,000 forgeries of an export and, so that a
// test which finds something everywhere does not pass, reads 1,000 that are
// whole.
func TestEveryForgeryIsFound(t *testing.T) {
	t.Parallel()
	const forged, whole = 10_000, 1_000
	k := signer(t, 1)
	const size = 20
	entries := chain(t, "production", size)
	l, last := newLog(t, k, entries)
	file := l.file()
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range forgeries {
			if !yield(name) {
				return
			}
		}
	})
	r := rand.New(rand.NewPCG(5, 6))
	for made := 0; made < forged; {
		name := names[made%len(names)]
		copied := l
		copied.entries = slices.Clone(entries)
		forgery := forgeries[name](t, r, copied, bytes.Clone(file))
		if forgery == nil || bytes.Equal(forgery, file) {
			continue
		}
		made++
		if _, err := verifyFile(forgery, k, last); err == nil {
			t.Fatalf("forgery %d, %s, was not found:\n%s", made, name, cmp.Diff(string(file), string(forgery)))
		}
	}
	for i := range whole {
		n := 1 + r.IntN(size)
		kept := slices.Clone(entries[:n])
		for j := range kept { // with and without texts that were erased
			kept[j].Texts = slices.DeleteFunc(slices.Clone(kept[j].Texts), func(audit.Text) bool { return r.IntN(4) == 0 })
		}
		clean, last := newLog(t, k, kept)
		if _, err := verifyFile(clean.file(), k, last); err != nil {
			t.Fatalf("log %d, of %d entries: %v, want no alarm", i, n, err)
		}
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	operation := func(name, before, after string) audit.Operation {
		o := audit.Operation{Kind: "flag", Name: name}
		if before != "" {
			o.Before = json.RawMessage(before)
		}
		if after != "" {
			o.After = json.RawMessage(after)
		}
		return o
	}
	made := func(records ...audit.Record) iter.Seq2[audit.Entry, error] {
		return func(yield func(audit.Entry, error) bool) {
			var head audit.Head
			for _, r := range records {
				payload, err := r.Payload()
				if err != nil {
					t.Fatal(err)
				}
				e := head.Next("production", payload)
				head = audit.Head{Seq: e.Seq, Hash: e.Hash}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	at := func(revision int64, operations ...audit.Operation) audit.Record {
		return audit.Record{Revision: revision, Operations: operations}
	}
	good := []audit.Record{
		at(2, operation("a", "", `{"v":1}`), operation("b", "", `{"v":1}`)),
		at(3, operation("a", `{"v":1}`, `{"v":2}`), audit.Operation{Kind: "weather", Name: "a"}),
		at(1<<20, operation("b", `{"v":1}`, "")),
	}
	for name, c := range map[string]struct {
		records []audit.Record
		rows    map[string]string
		want    string // part of the error
	}{
		"the state":         {good, map[string]string{"flag/a": `{"v":2}`}, ""},
		"nothing":           {nil, nil, ""},
		"a lost row":        {good, nil, "flag/a was made and is not there"},
		"a row too many":    {good, map[string]string{"flag/a": `{"v":2}`, "flag/b": `{"v":1}`}, "flag/b is there"},
		"another document":  {good, map[string]string{"flag/a": `{"v":3}`}, "flag/a is not what"},
		"a missed revision": {append(good[:1:1], good[2]), map[string]string{"flag/a": `{"v":1}`}, ""},
		"a gap":             {append(good[:2:2], at(5)), nil, "it made revision 5, after revision 3"},
		"a revision twice":  {append(good[:2:2], at(3)), nil, "it made revision 3, after revision 3"},
		"a change of nothing": {
			append(good[:1:1], at(3, operation("a", `{"v":7}`, `{"v":2}`))), nil, "entry 2, differs from the state: it changed flag/a from something",
		},
	} {
		replay := audit.Replay{Kinds: []string{"flag"}}
		_, err := audit.Log{Scope: "production", Entries: made(c.records...), Replay: &replay}.Verify()
		if err == nil {
			err = replay.Compare("production", func(yield func(string, []byte) bool) {
				for name, document := range c.rows {
					if !yield(name, []byte(document)) {
						return
					}
				}
			})
		}
		if _, ok := errors.AsType[*audit.StateError](err); ok != (c.want != "") || ok && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestCSVIsSafeForSpreadsheets(t *testing.T) {
	t.Parallel()
	evil := []string{`=cmd|' /C calc'!A0`, "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "|x", "%x", `plain, "quoted"` + "\n=next line"}
	file := audit.CSVHeader()
	var head audit.Head
	for _, text := range evil {
		r := record(1)
		r.Reason = text
		payload, err := r.Payload()
		if err != nil {
			t.Fatal(err)
		}
		e := head.Next("production", payload)
		head = audit.Head{Seq: e.Seq, Hash: e.Hash}
		if file, err = audit.AppendCSV(file, e); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1+len(evil) {
		t.Fatalf("%d rows, want %d", len(rows), 1+len(evil))
	}
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r|%") {
				t.Errorf("cell %q is a formula", cell)
			}
		}
	}
}

func FuzzAuditExport(f *testing.F) {
	k := signer(f, 1)
	var entries []audit.Entry
	var head audit.Head
	for i := range 4 {
		e := texted(f, head, "production", record(i+1), byte(i))
		entries, head = append(entries, e), audit.Head{Seq: e.Seq, Hash: e.Hash}
	}
	l, last := newLog(f, k, entries)
	file := l.file()
	f.Add(file)
	for _, line := range bytes.SplitAfter(file, []byte("\n")) {
		f.Add(line)
	}
	l.notes = nil
	plain := l.file()
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := verifyFile(data, k, last)
		// Without some of its checkpoints the file says the same.
		var rest []byte
		for line := range bytes.SplitAfterSeq(data, []byte("\n")) {
			if !bytes.HasPrefix(line, []byte(`{"checkpoint"`)) {
				rest = append(rest, line...)
			}
		}
		if err == nil && !bytes.Equal(rest, plain) || err != nil && bytes.Equal(data, file) {
			t.Errorf("Verify(%q) = %v", data, err)
		}
	})
}

// TestLargeExport verifies many entries in memory that does not grow with them;
// make bench-audit does it with a million, as the program does.
func TestLargeExport(t *testing.T) {
	const entries = 20_000
	k := signer(t, 1)
	payload, err := record(1).Payload()
	if err != nil {
		t.Fatal(err)
	}
	file := &generated{left: entries, payload: payload, rest: audit.AppendHeader(nil, audit.NewHeader("production", k.VerifierText(), audit.Start{}))}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x, err := audit.ReadExport(file, k.VerifierText())
	if err != nil {
		t.Fatal(err)
	}
	v, err := x.Verify(nil)
	if err != nil || v.Head.Seq != entries {
		t.Fatalf("Verify = %+v, %v", v, err)
	}
	runtime.ReadMemStats(&after)
	grown := int64(after.Sys) - int64(before.Sys)
	if grown > 100<<20 {
		t.Errorf("verifying %d entries took %d MiB", entries, grown>>20)
	}
}

// generated is an export that is written as it is read.
type generated struct {
	left    int
	payload []byte
	head    audit.Head
	rest    []byte
}

func (g *generated) Read(b []byte) (int, error) {
	if len(g.rest) == 0 {
		switch {
		case g.left > 0:
			e := g.head.Next("production", g.payload)
			g.head = audit.Head{Seq: e.Seq, Hash: e.Hash}
			g.rest = audit.AppendEntry(g.rest, e)
		case g.left == 0:
			g.rest = audit.AppendEnd(g.rest, g.head)
		}
		g.left--
	}
	n := copy(b, g.rest)
	g.rest = g.rest[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
