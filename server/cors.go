package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/guidon-flags/guidon/server/auth"
)

// What pages of other origins may send and see. No cookie counts here, so that
// a page can do nothing that a key it holds does not let it do.
const (
	corsMethods = "GET, POST"
	corsHeaders = "Authorization, X-API-Key, Content-Type, If-None-Match, Flagd-Selector, Guidon, Traceparent, " +
		"X-Correlation-ID, X-Request-ID, Connect-Protocol-Version, Connect-Timeout-Ms, Grpc-Timeout, X-Grpc-Web, X-User-Agent"
	corsExposed = "ETag, Retry-After, X-Correlation-ID, X-Request-ID, Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin"
	corsMaxAge  = "7200"
)

// preflight lets any page ask: the question carries no key, so it is the call
// itself that is refused. See [Server.admit].
func preflight(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	header.Set("Access-Control-Allow-Methods", corsMethods)
	header.Set("Access-Control-Allow-Headers", corsHeaders)
	header.Set("Access-Control-Max-Age", corsMaxAge)
	header.Set("Vary", "Origin")
	w.WriteHeader(http.StatusNoContent)
}

// admit authenticates a request and lets it through if its key may call a
// procedure, from the web origin that it comes from if any.
func (s *Server) admit(ctx context.Context, c *call, header http.Header, procedure string) (auth.Principal, error) {
	c.asked = procedure
	principal, err := s.auth.AuthenticateOr(ctx, header, openEnvironment(ctx, s.cfg.OpenEnvironment))
	c.principal = principal // of whom there may be no more than the ID of a key that was good
	origin := header.Get("Origin")
	if err != nil {
		// A page must be able to see that its key is not good.
		c.allowOrigin(origin)
		return principal, cmp.Or(s.paceAddress(ctx), err)
	}
	if err := auth.Authorize(principal, procedure); err != nil {
		return principal, err
	}
	if origin == "" {
		return principal, nil
	}
	if principal.AllowsOrigin(origin) {
		c.allowOrigin(origin)
	} else if principal.Kind == auth.Client {
		return principal, fmt.Errorf("%w: this key is not for pages of origin %.128q", auth.ErrDenied, origin)
	}
	return principal, nil
}

// allowOrigin lets a page see the answer.
func (c *call) allowOrigin(origin string) {
	if origin == "" || c.header == nil {
		return
	}
	c.header.Set("Access-Control-Allow-Origin", origin)
	c.header.Set("Access-Control-Expose-Headers", corsExposed)
	c.header.Add("Vary", "Origin")
}

type openKey struct{}

// narrowed lets requests that came by an open listener get at values and
// definitions, and at nothing else of the server.
func narrowed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, open := r.Context().Value(openKey{}).(string); open {
			ours := false
			for _, prefix := range []string{"/flagd.", "/ofrep/", "/grpc.health.", "/healthz", "/readyz"} {
				ours = ours || strings.HasPrefix(r.URL.Path, prefix)
			}
			if !ours {
				http.NotFound(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// openEnvironment is the environment of calls without a key: that of the
// listener they came by, or the one given.
func openEnvironment(ctx context.Context, otherwise string) string {
	if name, ok := ctx.Value(openKey{}).(string); ok {
		return name
	}
	return otherwise
}
