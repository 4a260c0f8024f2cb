package propagate

import (
	"maps"
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
	ctx, off := r.Context(), t.p.config.Mode == Off
	switch inside := t.inside(r); {
	case !inside && !off:
		if clean, changed := stripped(r.Header); changed {
			r = withHeader(r, clean)
		}
	case inside && stateOf(ctx) != nil:
		header := copied(r.Header)
		if !off {
			delete(header, canonicalName(HeaderName)) // of another request, copied by a proxy
		}
		t.p.Inject(ctx, HTTPCarrier(header))
		r = withHeader(r, header)
	}
	return t.base.RoundTrip(r)
}

// inside reports whether r goes to an allowed destination and was not brought
// there by anybody else: each request of a chain of redirects must have gone
// to the same host.
func (t *transport) inside(r *http.Request) bool {
	for from := r.Response; from != nil && from.Request != nil; from = from.Request.Response {
		if from.Request.URL.Host != r.URL.Host {
			return false
		}
	}
	return t.p.destinations.allow(r.URL.Hostname())
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

// copied is a copy whose values are shared: they are replaced, never changed.
func copied(h http.Header) http.Header {
	if h == nil {
		return make(http.Header, 2)
	}
	return maps.Clone(h)
}
