package propagate

import (
	"io"
	"net/http"
)

// Transport returns a RoundTripper that sends the State of each request's
// context along, to destinations inside the zone only, and never after a
// redirect came from another host. The request it is given is left alone; what
// goes out is a copy. To hosts outside the zone no guidon header goes, not
// even one that the caller copied from an inbound request. A nil base means
// http.DefaultTransport.
func (p *Propagator) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{p: p, base: base}
}

type transport struct {
	p    *Propagator
	base http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, inside := r.Context(), t.p.AllowsRequest(r)
	r = withHeader(r, t.p.outbound(ctx, r.URL.Hostname(), r.Header, inside))
	answer, err := t.base.RoundTrip(r)
	if err != nil || answer == nil {
		return answer, err
	}
	t.p.answered(ctx, answer.Header, inside)
	if inside && stateOf(ctx) != nil && answer.ContentLength < 0 && answer.Body != nil && answer.StatusCode != http.StatusSwitchingProtocols {
		answer.Body = &body{ReadCloser: answer.Body, end: func() { t.p.answered(ctx, answer.Trailer, inside) }}
	}
	return answer, nil
}

// body calls end when it has been read, just before its reader hears of it.
type body struct {
	io.ReadCloser
	end func()
}

// Read implements io.Reader.
func (b *body) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if err != nil && b.end != nil {
		b.end()
		b.end = nil
	}
	return n, err
}

// CloseIdleConnections closes those of the base, as http.Client expects.
func (t *transport) CloseIdleConnections() {
	if closer, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

func withHeader(r *http.Request, h http.Header) *http.Request {
	r = r.WithContext(r.Context())
	r.Header = h
	return r
}
