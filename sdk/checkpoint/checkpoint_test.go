package checkpoint_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
)

func key(t testing.TB, name string, seed byte) checkpoint.Key {
	t.Helper()
	k, err := checkpoint.NewKey(name, [32]byte{seed})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// tree keeps every hash of a log of n entries, as tlog stores them.
func tree(t testing.TB, n int64, entry func(int64) []byte) tlog.HashReader {
	t.Helper()
	var stored []checkpoint.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]checkpoint.Hash, error) {
		out := make([]checkpoint.Hash, len(indexes))
		for i, index := range indexes {
			out[i] = stored[index]
		}
		return out, nil
	})
	for i := range n {
		hashes, err := tlog.StoredHashes(i, entry(i), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	return reader
}

func at(t testing.TB, reader tlog.HashReader, size int64) checkpoint.Checkpoint {
	t.Helper()
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		t.Fatal(err)
	}
	return checkpoint.Checkpoint{Origin: "guidon/environment/production", Size: size, Root: root}
}

func TestSignedCheckpointIsRead(t *testing.T) {
	t.Parallel()
	k := key(t, "guidon-1", 1)
	want := checkpoint.Checkpoint{Origin: checkpoint.Origin("guidon-1", "production"), Size: 41, Root: checkpoint.Hash{1, 2}}
	signed, err := checkpoint.Sign(want, k)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := checkpoint.Open(signed, k.VerifierText()); err != nil || got != want {
		t.Errorf("Open = %+v, %v, want %+v", got, err, want)
	}
	for name, c := range map[string]struct {
		signed, verifier string
		want             error
	}{
		"another key":          {signed, key(t, "guidon-1", 2).VerifierText(), checkpoint.ErrSignature},
		"another name":         {signed, key(t, "guidon-2", 1).VerifierText(), checkpoint.ErrSignature},
		"another size":         {strings.Replace(signed, "\n41\n", "\n42\n", 1), k.VerifierText(), checkpoint.ErrSignature},
		"another chain":        {strings.Replace(signed, "production", "staging", 1), k.VerifierText(), checkpoint.ErrSignature},
		"no signature":         {strings.SplitAfter(signed, "\n\n")[0], k.VerifierText(), checkpoint.ErrSignature},
		"nothing":              {"", k.VerifierText(), checkpoint.ErrSignature},
		"a long text":          {strings.Repeat("x", 5000), k.VerifierText(), checkpoint.ErrMalformed},
		"a verifier that none": {signed, "guidon-1", checkpoint.ErrMalformed},
	} {
		if _, err := checkpoint.Open(c.signed, c.verifier); !errors.Is(err, c.want) {
			t.Errorf("Open with %s: %v, want %v", name, err, c.want)
		}
	}
}

func TestExtends(t *testing.T) {
	t.Parallel()
	const size = 70
	entry := func(i int64) []byte { return fmt.Append(nil, "entry ", i) }
	reader := tree(t, size, entry)
	forged := tree(t, size, func(i int64) []byte {
		if i == 20 {
			return []byte("forged")
		}
		return entry(i)
	})
	for m := range int64(size) + 1 {
		for _, n := range []int64{m, (m + size) / 2, size} {
			older, newer := at(t, reader, m), at(t, reader, n)
			prove := func(r tlog.HashReader) []checkpoint.Hash {
				if m == 0 || m == n {
					return nil
				}
				proof, err := tlog.ProveTree(n, m, r)
				if err != nil {
					t.Fatal(err)
				}
				return proof
			}
			if err := newer.Extends(older, prove(reader)); err != nil {
				t.Errorf("%d entries after %d: %v", n, m, err)
			}
			if err := older.Extends(newer, nil); m < n && !errors.Is(err, checkpoint.ErrInconsistent) {
				t.Errorf("%d entries after %d: %v, want ErrInconsistent", m, n, err)
			}
			rewritten := at(t, forged, n)
			if err := rewritten.Extends(older, prove(forged)); m > 20 && !errors.Is(err, checkpoint.ErrInconsistent) {
				t.Errorf("%d forged entries after %d: %v, want ErrInconsistent", n, m, err)
			}
			rewritten.Origin = "guidon/environment/staging"
			if err := rewritten.Extends(older, prove(forged)); !errors.Is(err, checkpoint.ErrInconsistent) {
				t.Errorf("another chain: %v, want ErrInconsistent", err)
			}
		}
	}
}

func TestKeyNeverPrintsItsSecret(t *testing.T) {
	t.Parallel()
	k := key(t, "guidon-1", 42)
	raw, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v", k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), string(raw), slog.AnyValue(k).Resolve().String()} {
		if want := "checkpoint key guidon-1"; !strings.Contains(text, want) || len(text) > len(want)+2 {
			t.Errorf("the key prints as %q", text)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k := key(f, "guidon-1", 1)
	signed, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: "guidon-1/installation", Size: 7}, k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := checkpoint.Open(text, k.VerifierText())
		if err == nil && (c.Size != 7 || c.Origin != "guidon-1/installation") {
			t.Errorf("Open(%q) = %+v, which nobody signed", text, c)
		}
	})
}
