package propagate

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
)

// answer writes the response of a request that Middleware handles: just before
// its headers go out it sees to it that they have one correlation ID, and tell
// of emergencies to a caller of the zone and to nobody else. What became known
// later goes into a trailer, where there may be one.
type answer struct {
	http.ResponseWriter
	p       *Propagator
	state   *State
	request *http.Request
	started bool
	told    string    // the value that the headers carry under SeenName
	ids     [1]string // the value of X-Correlation-ID
}

// seenTrailer is how net/http is told of a trailer that was not announced.
var seenTrailer = http.TrailerPrefix + canonicalName(SeenName)

func (a *answer) start() {
	if a.started {
		return
	}
	a.started = true
	h := a.Header()
	if ids := h[canonicalName(correlationName)]; len(ids) != 1 || ids[0] != a.state.correlation {
		a.ids[0] = a.state.correlation
		h[canonicalName(correlationName)] = a.ids[:] // a proxy adds that of the answer it hands on
	}
	if a.p.config.Mode == Off {
		return
	}
	a.take(canonicalName(SeenName), canonicalName(HeaderName))
	if announced := h["Trailer"]; announced != nil {
		h["Trailer"] = withoutSeen(announced)
	}
	if value, ok := a.p.Seen(a.request.Context()); ok {
		a.told = value
		h[canonicalName(SeenName)] = []string{value}
	}
}

// take takes out what the answer of somebody further down, handed on by a proxy,
// says under our names, and joins it if it came from the zone.
func (a *answer) take(names ...string) {
	h := a.Header()
	for _, name := range names {
		for _, value := range h[name] {
			if a.p.config.Mode == Internal && value != a.told {
				a.p.Join(a.request.Context(), []string{value})
			}
		}
		delete(h, name)
	}
}

// finish runs after the handler.
func (a *answer) finish() {
	if a.p.config.Mode == Off {
		a.start()
		return
	}
	a.take(seenTrailer)
	if !a.started { // the headers still go out: all is said there
		a.start()
		return
	}
	a.take(canonicalName(SeenName))
	if value, ok := a.p.Seen(a.request.Context()); ok && value != a.told {
		a.Header()[seenTrailer] = []string{value}
	}
}

// withoutSeen returns the announcements of trailers without ours.
func withoutSeen(announced []string) []string {
	return slices.DeleteFunc(slices.Clone(announced), func(line string) bool { return strings.EqualFold(strings.TrimSpace(line), SeenName) })
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols { // others come before the real one
		a.start()
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.start()
	return a.ResponseWriter.Write(b)
}

// ReadFrom implements io.ReaderFrom, so that files are still sent by the kernel.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	a.start()
	return io.Copy(a.ResponseWriter, r)
}

// Flush implements http.Flusher, which frameworks ask for by type.
func (a *answer) Flush() { _ = a.FlushError() }

// FlushError is what http.ResponseController calls.
func (a *answer) FlushError() error {
	a.start()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(a.ResponseWriter).Hijack()
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
