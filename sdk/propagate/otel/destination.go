package guidonotel

import (
	"context"
	"net/http"
	"net/url"
)

// mark is a destination in a context.
type mark struct {
	url          *url.URL
	redirectedBy *http.Response
}

type markKey struct{}

// To marks ctx with the host, with or without a port, that everything goes to
// which is sent under it. Whether the host may be told is up to the Propagator
// that injects. A later mark replaces an earlier one.
func To(ctx context.Context, host string) context.Context {
	return context.WithValue(ctx, markKey{}, mark{url: &url.URL{Scheme: "http", Host: host}})
}

// Transport marks every request with its destination, then lets base send it,
// which is where the instrumentation injects. A redirect to another host ends
// what may be injected. A nil base means http.DefaultTransport.
func Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return transport{base}
}

type transport struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := context.WithValue(r.Context(), markKey{}, mark{url: r.URL, redirectedBy: r.Response})
	return t.base.RoundTrip(r.WithContext(ctx))
}

// CloseIdleConnections closes those of the base, as http.Client expects.
func (t transport) CloseIdleConnections() {
	if closer, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}
