package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/store/audit"
)

const (
	// A million entries are to be verified in this.
	auditTime   = 60 * time.Second
	auditMemory = 100 << 20
)

// BenchmarkAuditVerify verifies an export with the program itself: entries that
// switch a thousand flags, with names and reasons, a checkpoint for each thousand,
// and a replay of it all. It fails if a million entries take too long or too
// much. GUIDON_AUDIT_ENTRIES says how many; the floor is the SHA-256 of the file's
// bytes and nothing else. Times are those of the processor, so that what else the
// machine does is no part of them.
func BenchmarkAuditVerify(b *testing.B) {
	entries, err := strconv.Atoi(cmp.Or(os.Getenv("GUIDON_AUDIT_ENTRIES"), "20000"))
	if err != nil {
		b.Fatal(err)
	}
	bin, file := filepath.Join(b.TempDir(), "guidon"), filepath.Join(b.TempDir(), "export.ndjson")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	size, notes := writeAudit(b, file, entries)
	floor := hashFile(b, file)
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), bin, "audit", "verify", "--file", file, "--environment", "production", "--checkpoint", notes, "-o", "json")
		start := time.Now()
		out, err := cmd.Output()
		var v verification
		if err == nil {
			err = json.Unmarshal(out, &v)
		}
		if err != nil || v.Outcome != "ok" || v.Entries != int64(entries) || v.Covered != int64(entries) {
			b.Fatalf("verify says %s, %v", out, err)
		}
		wall, took := time.Since(start), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
		usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		memory := usage.Maxrss << 10 // of Linux
		b.ReportMetric(took.Seconds(), "cpu-s")
		b.ReportMetric(wall.Seconds(), "wall-s")
		b.ReportMetric(float64(took.Nanoseconds())/float64(entries), "ns/entry")
		b.ReportMetric(float64(size)/float64(entries), "B/entry")
		b.ReportMetric(float64(memory)/(1<<20), "MiB-peak")
		b.ReportMetric(floor.Seconds(), "floor-s")
		b.ReportMetric(took.Seconds()/floor.Seconds(), "of-floor")
		if limit := auditTime * time.Duration(entries) / 1_000_000; took > limit && entries >= 1_000_000 {
			b.Errorf("verifying %d entries took %v of the processor, want %v at most", entries, took, limit)
		}
		if memory > auditMemory {
			b.Errorf("verifying %d entries took %d MiB, want %d at most", entries, memory>>20, auditMemory>>20)
		}
	}
}

// writeAudit writes an export of production, and beside it a file with its last
// checkpoint.
func writeAudit(b *testing.B, path string, entries int) (size int64, notes string) {
	b.Helper()
	key, err := checkpoint.NewKey("guidon-bench", [32]byte{1})
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	out := bufio.NewWriterSize(f, 1<<20)
	write := func(line []byte) {
		if _, err := out.Write(line); err != nil {
			b.Fatal(err)
		}
		size += int64(len(line))
	}
	write(audit.AppendHeader(nil, audit.NewHeader("production", key.VerifierText(), audit.Start{})))
	var head audit.Head
	var tree audit.Tree
	var note string
	for i := range entries {
		e := switched(b, head, i)
		head = audit.Head{Seq: e.Seq, Hash: e.Hash}
		tree.Add(e.Hash)
		write(audit.AppendEntry(nil, e))
		if i%1000 != 999 && i != entries-1 {
			continue
		}
		note, err = checkpoint.Sign(checkpoint.Checkpoint{Origin: checkpoint.Origin(key.Name(), "production"), Size: tree.Size(), Root: tree.Root()}, key)
		if err != nil {
			b.Fatal(err)
		}
		write(audit.AppendCheckpoint(nil, note))
	}
	write(audit.AppendEnd(nil, head))
	if err := cmp.Or(out.Flush(), f.Close()); err != nil {
		b.Fatal(err)
	}
	notes = path + ".checkpoint"
	if err := os.WriteFile(notes, []byte(note), 0o600); err != nil {
		b.Fatal(err)
	}
	return size, notes
}

// switched is the entry that switches one of a thousand flags, or makes it, as
// the store writes it.
func switched(b *testing.B, head audit.Head, i int) audit.Entry {
	b.Helper()
	text := func(kind byte, n int, said string) audit.Text {
		salt := sha256.Sum256([]byte{kind, byte(n), byte(n >> 8), byte(n >> 16)})
		return audit.Text{Salt: [16]byte(salt[:16]), Text: said}
	}
	person := text('p', i%10, fmt.Sprintf("Person Number %d", i%10))
	reason := text('r', i, fmt.Sprintf("ticket %d: the shop's owners want to see it", i))
	document := func(round int) string {
		state := [...]string{"ENABLED", "DISABLED"}[round%2]
		return `{"flag":{"defaultVariant":"off","state":"` + state + `","targeting":{"if":[{"in":[{"var":"plan"},["pro","team"]]},"on","off"]},` +
			`"variants":{"off":false,"on":true}},"guidon":{"kind":"release","project":"shop","scope":"request","type":"boolean"}}`
	}
	before := ""
	if i >= 1000 {
		before = `"before":` + document(i/1000-1) + `,`
	}
	payload := fmt.Appendf(nil, `{"action":"flag.state","actor":"key:0192f0c1-a2b3-7c4d-8e9f-%012d","change":"0192f0c1-a2b3-7c4d-8e9f-%012d","correlation":"%032d",`+
		`"environment":"production","operations":[{"action":"flag.state","after":%s,%s"kind":"flag","name":"checkout.flag-%d"}],`+
		`"person_hash":"%s","reason_hash":"%s","revision":%d,"time":"2026-01-01T00:00:00.000001Z"}`,
		i%10, i, i, document(i/1000), before, i%1000, person.Hash(), reason.Hash(), i+2)
	if i < 2000 && i%500 == 0 {
		if canonical, err := audit.Canonical(payload); err != nil || string(canonical) != string(payload) {
			b.Fatalf("the payload %s is not canonical: %v", payload, err)
		}
	}
	e := head.Next("production", payload)
	e.Texts = []audit.Text{person, reason}
	if a, b := person.Hash(), reason.Hash(); hex.EncodeToString(a[:]) > hex.EncodeToString(b[:]) {
		e.Texts[0], e.Texts[1] = reason, person
	}
	return e
}

// hashFile takes the SHA-256 of a file, and returns how long the processor was
// at it.
func hashFile(b *testing.B, path string) time.Duration {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	before := processor(b)
	if _, err := io.Copy(sha256.New(), bufio.NewReaderSize(f, 1<<20)); err != nil {
		b.Fatal(err)
	}
	return processor(b) - before
}

// processor is how long the processor has been at this process.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
