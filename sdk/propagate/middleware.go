package propagate

import (
	"net/http"
	"net/url"
	"strings"
)

// Middleware puts the State of each request into its context before next runs,
// and answers with the correlation ID. At an edge, and wherever the header was
// refused, next does not see it either. Applied twice, the inner one does
// nothing. A bad header never makes a bad request.
func (p *Propagator) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := stateOf(r.Context()); s != nil && s.p.same(p) {
			next.ServeHTTP(w, r)
			return
		}
		s, outcome := p.extract(HTTPCarrier(r.Header))
		r = r.WithContext(withState(r.Context(), s))
		switch {
		case p.config.Mode == Edge:
			s.overrides = p.overridesOf(r)
			r.Header = stripped(r.Header)
		case outcome != Verified && outcome != Absent && !outcome.forwardable():
			r.Header = stripped(r.Header) // baggage may hold what the header does not
		}
		if p.config.Context != nil && s.full != nil {
			_ = s.enrich(p.usable(p.config.Context(r))) // too late, and counted, if Context itself evaluated a flag
		}
		a := &answer{ResponseWriter: w, p: p, state: s, request: r, ids: [1]string{s.correlation}}
		w.Header()[canonicalName(correlationName)] = a.ids[:]
		next.ServeHTTP(a, r)
		a.finish() //nolint:contextcheck // it has the request
	})
}

// stripped returns h without anything that could be taken for a guidon header
// further down: the names themselves, spellings that some proxy or framework
// would make the same, and baggage members. It copies h only if need be.
func stripped(h http.Header) http.Header {
	changed := false
	own := func() {
		if !changed {
			h, changed = h.Clone(), true
		}
	}
	for name, values := range h {
		if looksLikeOurs(name) {
			own()
			delete(h, name)
		} else if name == "Baggage" {
			if kept, ours := strippedBaggage(values); ours {
				own()
				if h[name] = kept; len(kept) == 0 {
					delete(h, name)
				}
			}
		}
	}
	return h
}

// Reserved reports whether a header, metadata key or message property of that
// name could be taken for one of ours further down, however some proxy or
// framework may respell it: edges take such names out, and nobody copies them
// to where they were not meant to go.
func Reserved(name string) bool { return looksLikeOurs(name) }

// looksLikeOurs reports whether name, spelled without - and _ and in lower
// case, is that of one of our headers. An edge reads an override before.
func looksLikeOurs(name string) bool {
	rest, ok := cutSpelling(name, "guidon")
	if !ok {
		return false
	}
	for _, word := range [...]string{"seen", "override"} {
		if last, ok := cutSpelling(rest, word); ok && onlyJoiners(last) {
			return true
		}
	}
	return onlyJoiners(rest)
}

// cutSpelling cuts word off the start of name, whatever its case and with any
// - and _ in between.
func cutSpelling(name, word string) (rest string, ok bool) {
	for i := range len(name) {
		switch c := name[i]; {
		case c == '-' || c == '_':
		case c|0x20 != word[0]:
			return "", false
		default:
			if word = word[1:]; word == "" {
				return name[i+1:], true
			}
		}
	}
	return "", false
}

func onlyJoiners(s string) bool { return strings.Trim(s, "-_") == "" }

// strippedBaggage drops the members of W3C baggage whose key starts like ours.
func strippedBaggage(lines []string) (kept []string, ours bool) {
	for _, line := range lines {
		members := strings.Split(line, ",")
		left := members[:0]
		for _, member := range members {
			key, _, _ := strings.Cut(member, "=")
			key = strings.TrimSpace(key)
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			if _, is := cutSpelling(key, "guidon"); is {
				ours = true
				continue
			}
			left = append(left, member)
		}
		if len(left) > 0 {
			kept = append(kept, strings.Join(left, ","))
		}
	}
	return kept, ours
}
