package hub

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// Export is a revision as JSON, compressed: what a cache keeps of it.
type Export struct {
	Digest string // in hex
	// Body is {"environment", "revision", "digest", "rows": [{"kind", "name",
	// "from_revision", "document"}]} in the coding that was asked for.
	Body []byte
}

// Coding is how an export is compressed.
type Coding string

// The codings of exports, by the names that HTTP has for them.
const (
	Zstd Coding = "zstd"
	Gzip Coding = "gzip"
)

// exported is the place of exports in the history, before their coding; no flag
// has that key.
const exported = "\x00export "

// Export returns a revision as JSON, which is encoded once for each coding and
// then kept as long as there is room. The errors are those of [Environment.At].
func (e *Environment) Export(ctx context.Context, revision int64, coding Coding) (Export, error) {
	snapshot, err := e.At(ctx, revision)
	if err != nil {
		return Export{}, err
	}
	found, err := e.hub.history.load(ctx, place{e.name, exported + string(coding)}, snapshot.Revision(), func(context.Context) (entry, error) {
		out := Export{Digest: snapshot.Digest().String(), Body: export(e.name, snapshot, coding)}
		return entry{value: out, from: snapshot.Revision(), to: snapshot.Revision() + 1, bytes: len(out.Body)}, nil
	})
	x, _ := found.(Export)
	return x, err
}

func export(environment string, s *eval.Snapshot, coding Coding) []byte {
	type row struct {
		Kind     string          `json:"kind"`
		Name     string          `json:"name"`
		From     int64           `json:"from_revision"`
		Document json.RawMessage `json:"document"`
	}
	var b bytes.Buffer
	w := compressor(&b, coding)
	fmt.Fprintf(w, `{"environment":%s,"revision":%d,"digest":%q,"rows":[`, quote(environment), s.Revision(), s.Digest())
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false) // documents are canonical, and stay so
	separator := "\n"
	for r := range s.Rows() {
		fmt.Fprint(w, separator)
		if err := lines.Encode(row{r.Kind.String(), r.Name, r.From, r.Document}); err != nil {
			panic(fmt.Sprintf("rows cannot be encoded: %v", err)) // documents are JSON: eval read them
		}
		separator = ","
	}
	fmt.Fprint(w, "]}\n")
	_ = w.Close() // a buffer takes everything
	return b.Bytes()
}

// compressor compresses what is written to it into b.
func compressor(b *bytes.Buffer, coding Coding) io.WriteCloser {
	if coding == Gzip {
		return gzip.NewWriter(b)
	}
	w, err := zstd.NewWriter(b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // no option is out of bounds
	}
	return w
}

func quote(text string) []byte {
	quoted, _ := json.Marshal(text) // strings always encode
	return quoted
}
