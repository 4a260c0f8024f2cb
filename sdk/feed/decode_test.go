package feed

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
)

// A small payload may unpack to a large one: what it unpacks to is bounded too.
func TestDecompressIsBounded(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	if _, err := zip.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	if plain, err := decompress("gzip", zipped.Bytes(), 1000); err != nil || len(plain) != 1000 {
		t.Errorf("decompress of 1,000 bytes within 1,000 = %d bytes, %v", len(plain), err)
	}
	if _, err := decompress("gzip", zipped.Bytes(), 999); err == nil || !strings.Contains(err.Error(), "999") {
		t.Errorf("decompress of 1,000 bytes within 999: %v, want an error that names the bound", err)
	}
}

func FuzzDecodeRows(f *testing.F) {
	f.Add("identity", []byte{})
	f.Add("gzip", []byte("\x1f\x8b"))
	f.Add("identity", []byte("\x0a\x0c\x0a\x04flag\x12\x01a\x18\x01\x22\x01{"))
	f.Fuzz(func(t *testing.T, encoding string, payload []byte) {
		upserts, deletes, err := decodeRows(encoding, payload)
		if err != nil && (upserts != nil || deletes != nil) {
			t.Errorf("decodeRows returned %d upserts, %d deletes and %v", len(upserts), len(deletes), err)
		}
	})
}
