package propagate

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// Outbound returns the headers that a request under ctx to host, which may have
// a port, goes out with: h itself, which may be nil, or a changed copy.
//
// To a destination inside the zone they carry the State of ctx, if there is one,
// in place of any that was copied from another request. To others go neither a
// guidon header nor what could be taken for one, but the correlation ID.
//
// Transport asks it for HTTP requests; clients of other protocols whose calls
// have a host may do so, too.
func (p *Propagator) Outbound(ctx context.Context, host string, h http.Header) http.Header {
	return p.outbound(ctx, hostname(host), h, p.Allows(host))
}

// Allows reports whether outgoing calls to host, which may have a port, carry
// the State.
func (p *Propagator) Allows(host string) bool { return p.destinations.allow(hostname(host)) }

// AllowsRequest reports whether r carries the State: it goes to an allowed
// destination and was not brought there by anybody else. Each request of a chain
// of redirects must have gone to the same host.
func (p *Propagator) AllowsRequest(r *http.Request) bool {
	for from := r.Response; from != nil && from.Request != nil; from = from.Request.Response {
		if from.Request.URL.Host != r.URL.Host {
			return false
		}
	}
	return p.destinations.allow(r.URL.Hostname())
}

func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }

// outbound is Outbound where inside is known.
func (p *Propagator) outbound(ctx context.Context, host string, h http.Header, inside bool) http.Header {
	s := stateOf(ctx)
	off := p.config.Mode == Off
	if !inside {
		if !off {
			h = stripped(h)
		}
		return withCorrelation(h, s)
	}
	if s == nil {
		return h
	}
	if h == nil {
		h = make(http.Header, 2)
	} else {
		h = maps.Clone(h) // values are shared: they are replaced, never changed
	}
	if !off {
		delete(h, canonicalName(HeaderName)) // of another request, copied by a proxy
		delete(h, canonicalName(SeenName))
	}
	p.Inject(ctx, &outgoing{HTTPCarrier: HTTPCarrier(h)})
	if into := p.baggage.allow(host); !off && (into || h["Baggage"] != nil) {
		kept, _ := strippedBaggage(h["Baggage"]) // what was copied from another request
		if value := h.Get(HeaderName); into && value != "" {
			kept = append(kept, baggageMember(value))
		}
		if h["Baggage"] = kept; len(kept) == 0 {
			delete(h, "Baggage")
		}
	}
	return h
}

// withCorrelation adds the correlation ID to what goes to services that know
// nothing of Guidon, unless the caller has put one of his own.
func withCorrelation(h http.Header, s *State) http.Header {
	name := canonicalName(correlationName)
	if s == nil || h[name] != nil {
		return h
	}
	if h = maps.Clone(h); h == nil {
		h = make(http.Header, 1)
	}
	h[name] = []string{s.correlation}
	return h
}

// Answered takes out of the headers or trailers of an answer from host what they
// tell of emergencies, and joins it to the State of ctx if host is inside the
// zone; see [Propagator.Join]. Transport does so for HTTP.
func (p *Propagator) Answered(ctx context.Context, host string, h http.Header) {
	p.answered(ctx, h, p.Allows(host))
}

func (p *Propagator) answered(ctx context.Context, h http.Header, inside bool) {
	name := canonicalName(SeenName)
	values, told := h[name]
	if !told || p.config.Mode == Off {
		return
	}
	delete(h, name)
	if inside {
		p.Join(ctx, values)
	}
}

// baggageMember is a header as a member of W3C baggage. Everything that means
// something there, or that intermediaries are known to change, is encoded.
func baggageMember(value string) string {
	return HeaderName + "=" + string(appendEscaped(make([]byte, 0, len(value)*3/2), value))
}

// inBaggage returns the values of our member in baggage, decoded. Properties of
// the member are not ours and are passed over.
func inBaggage(lines []string) (values []string) {
	for _, line := range lines {
		if !strings.Contains(line, HeaderName) {
			continue
		}
		for member := range strings.SplitSeq(line, ",") {
			key, value, _ := strings.Cut(member, "=")
			if strings.TrimSpace(key) != HeaderName {
				continue
			}
			value, _, _ = strings.Cut(value, ";")
			plain, err := url.PathUnescape(strings.TrimSpace(value))
			if err != nil {
				plain = "" // is there, and is none
			}
			values = append(values, plain)
		}
	}
	return values
}
