package ofrep

import (
	"net/http"
	"strconv"

	"github.com/klauspost/compress/gzip"

	"github.com/guidon-flags/guidon/server/hub/view"
)

// compressFrom is the answer from which compression pays: in less than that fit
// the answers of single flags, and what a connection sends in one go anyway.
const compressFrom = 4 << 10

// writeBulk sends an answer for all flags: compressed, if it is large and the
// client takes it. That leaves a tenth of it, for a tenth of the requests that a
// busy processor gets through: see BenchmarkOFREP.
func (h *Handler) writeBulk(w http.ResponseWriter, r *http.Request, b *buffer) {
	header := w.Header()
	if len(b.out) < compressFrom || view.Coding(r.Header["Accept-Encoding"], "gzip") != "gzip" {
		write(w, http.StatusOK, b.out)
		return
	}
	zip := h.zips.Get().(*gzip.Writer)
	defer h.zips.Put(zip)
	b.in = b.in[:0] // what was asked has been read
	zip.Reset((*appended)(&b.in))
	_, _ = zip.Write(b.out) // memory takes everything
	_ = zip.Close()
	header["Content-Type"], header["Content-Encoding"] = jsonType, gzipCoding
	header["Content-Length"] = []string{strconv.Itoa(len(b.in))}
	_, _ = w.Write(b.in) // a client that went away
}

var gzipCoding = []string{"gzip"}

// appended is an io.Writer that appends.
type appended []byte

func (a *appended) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

func newZip() any {
	zip, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // it is a level
	}
	return zip
}
