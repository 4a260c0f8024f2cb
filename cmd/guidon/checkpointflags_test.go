package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/server/notary"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// verifies runs audit verify, and wants an exit code.
func verifies(t *testing.T, want int, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	got := run(t.Context(), append([]string{"audit", "verify"}, args...), strings.NewReader(""), &out, &out)
	if got != want {
		t.Errorf("audit verify %v: exit code %d, want %d: %s", args, got, want, out.String())
	}
	return out.String()
}

// What a server publishes finds a log that was rewritten since.
func TestPublishedCheckpointsFindARewrittenLog(t *testing.T) {
	t.Parallel()
	db, dir := storetest.New(t), t.TempDir()
	published := filepath.Join(dir, "checkpoints")
	file, err := notary.NewFile(published)
	if err != nil {
		t.Fatal(err)
	}
	n := notary.New(notary.Config{Store: db, Entries: 1, Interval: 10 * time.Millisecond, Publish: []notary.Destination{file}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	for _, key := range []string{"a", "b", "c"} {
		if _, err := db.Apply(t.Context(), store.ChangeSet{Actor: "test", Operations: []store.Operation{store.PutFlag{
			Environment: "staging", Key: key, Definition: []byte(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`),
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	storetest.Eventually(t, "all is published", func() bool {
		c := n.Newest(t.Context(), "staging", 0)
		text, _ := os.ReadFile(published)
		return c != nil && c.Size() == 3 && strings.Contains(string(text), c.Note) && n.Stats().Waiting == 0
	})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	export := filepath.Join(dir, "export.ndjson")
	var whole []byte
	for lines, err := range db.ExportAudit(t.Context(), "staging") {
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, lines...)
	}
	write := func(path string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(export, whole)
	if out := verifies(t, exitOK, "--file", export, "--checkpoint", published); !strings.Contains(out, "covered by a checkpoint  3") {
		t.Errorf("verify says %s", out)
	}
	verifier, err := db.CheckpointVerifier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	verifies(t, exitOK, "--environment", "staging", "--database-url", storetest.URL(t), "--checkpoint", published, "--verifier", verifier)
	verifies(t, exitOK, "--installation", "--database-url", storetest.URL(t), "--checkpoint", published, "--verifier", verifier)
	verifies(t, exitCheckpoint, "--environment", "production", "--database-url", storetest.URL(t), "--checkpoint", published, "--verifier", verifier)

	// A file that was cut short somewhere serves with what is left.
	text, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut")
	for at := range text {
		write(cut, text[:at])
		torn, err := notary.NewFile(cut)
		if err == nil {
			err = torn.Publish(t.Context(), notary.Publication{Environment: "staging", Size: 3, Note: n.Newest(t.Context(), "staging", 0).Note})
		}
		if err != nil {
			t.Fatal(err)
		}
		verifies(t, exitOK, "--file", export, "--checkpoint", cut)
	}

	// Whoever rewrites the log makes a chain that is whole.
	x, err := audit.ReadExport(bytes.NewReader(whole), "")
	if err != nil {
		t.Fatal(err)
	}
	var entries []audit.Entry
	for e, err := range db.Entries(t.Context(), "staging", 0, 3) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	rewritten := func(verifier string, note func(audit.Tree) string, keep int) []byte {
		out := audit.AppendHeader(nil, audit.NewHeader("staging", verifier, audit.Start{}))
		var head audit.Head
		var tree audit.Tree
		for i, e := range entries[:keep] {
			if i == 1 {
				e.Payload = bytes.Replace(e.Payload, []byte(`"b"`), []byte(`"x"`), 1)
			}
			e.Prev = head.Hash
			e.Hash = audit.EntryHash("staging", e.Seq, e.Prev, e.Payload)
			head = audit.Head{Seq: e.Seq, Hash: e.Hash}
			tree.Add(e.Hash)
			out = audit.AppendEntry(out, e)
		}
		if note != nil {
			out = audit.AppendCheckpoint(out, note(tree))
		}
		return audit.AppendEnd(out, head)
	}
	forged := filepath.Join(dir, "forged.ndjson")
	write(forged, rewritten(x.Header.Verifier, nil, 3))
	verifies(t, exitOK, "--file", forged) // with nothing known from elsewhere
	verifies(t, exitCheckpoint, "--file", forged, "--checkpoint", published)
	write(forged, rewritten(x.Header.Verifier, nil, 1)) // its end was cut off
	verifies(t, exitCheckpoint, "--file", forged, "--checkpoint", published)
	key, err := checkpoint.NewKey("guidon-forged", [32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	write(forged, rewritten(key.VerifierText(), func(tree audit.Tree) string {
		note, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: checkpoint.Origin(key.Name(), "staging"), Size: 3, Root: tree.Root()}, key)
		if err != nil {
			t.Fatal(err)
		}
		return note
	}, 3))
	verifies(t, exitOK, "--file", forged)
	verifies(t, exitCheckpoint, "--file", forged, "--checkpoint", published)

	// A server that starts publishes what is newest.
	masterKey := filepath.Join(dir, "master.key")
	write(masterKey, []byte(hex.EncodeToString(append([]byte{1}, make([]byte, 31)...))))
	again := filepath.Join(dir, "again")
	start(t, "serve", "--listen", "127.0.0.1:0", "--database-url", storetest.URL(t), "--master-key-file", masterKey, "--checkpoint-file", again)
	storetest.Eventually(t, "the server to publish", func() bool {
		text, _ := os.ReadFile(again)
		return strings.Contains(string(text), n.Newest(t.Context(), "staging", 0).Note)
	})
	verifies(t, exitOK, "--file", export, "--checkpoint", again)
}

func TestCheckpointFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "token")
	if err := os.WriteFile(secret, []byte("canary-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := checkpointFlags{file: filepath.Join(dir, "file"), url: "https://store.example/{chain}/{size}", tokenFile: secret}
	to, err := f.destinations()
	if err != nil || len(to) != 2 || to[0].String() != f.file || to[1].String() != "https://store.example" {
		t.Errorf("destinations() = %v, %v", to, err)
	}
	for _, f := range []checkpointFlags{
		{file: dir},
		{url: "nonsense"},
		{url: "http://store.example/", tokenFile: secret},
		{url: "https://store.example/", tokenFile: filepath.Join(dir, "none")},
	} {
		if to, err := f.destinations(); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("destinations() of %+v = %v, %v; want an error", f, to, err)
		}
	}
}
