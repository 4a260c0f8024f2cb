package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// revision answers GET …/environments/{environment}/revisions/{revision}: all
// rows of a revision, as JSON. They never change, so whoever may have them may
// keep them. It is encoded once, and compressed as it is kept.
func (s *Server) revision(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	header := w.Header()
	header.Set("Vary", "Authorization, X-API-Key, Accept-Encoding")
	header.Set("Cache-Control", "no-store") // of errors
	etag, body, err := s.revisionBody(ctx, r)
	if err != nil {
		writeError(w, answer(callOf(ctx), err))
		return
	}
	header.Set("Cache-Control", "private, immutable, max-age=31536000")
	header.Set("ETag", etag)
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", "application/json")
	header.Set("Content-Encoding", "gzip")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) //nolint:gosec // JSON, and said to be; a client that went away hears nothing
}

// revisionBody is who may have what, then what it is.
func (s *Server) revisionBody(ctx context.Context, r *http.Request) (etag string, body []byte, err error) {
	c := callOf(ctx)
	if c.principal, err = s.auth.Authenticate(ctx, r.Header); err != nil {
		return "", nil, err
	}
	if err := auth.Authorize(c.principal, guidonv1connect.SyncServiceGetSnapshotProcedure); err != nil {
		return "", nil, err
	}
	revision, err := strconv.ParseInt(r.PathValue("revision"), 10, 64)
	if err != nil || revision < 1 || strconv.FormatInt(revision, 10) != r.PathValue("revision") {
		return "", nil, &store.FieldError{Field: "revision", Message: "must be a whole number from 1 on"}
	}
	if !acceptsGzip(r.Header.Values("Accept-Encoding")) {
		return "", nil, &store.FieldError{Field: "Accept-Encoding", Message: "must allow gzip: what is kept is compressed"}
	}
	e, err := s.environment(auth.WithPrincipal(ctx, c.principal), r.PathValue("environment"))
	if err != nil {
		return "", nil, err
	}
	exported, err := e.Export(ctx, revision)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("\"%d-%s\"", revision, exported.Digest), exported.Gzip, nil
}

// acceptsGzip reports whether a client takes gzip (RFC 9110 §12.5.3); without
// the header it takes anything.
func acceptsGzip(values []string) bool {
	if len(values) == 0 {
		return true
	}
	for coding := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		name, weight = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(weight)
		if name != "gzip" && name != "*" {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimPrefix(weight, "q="), 64)
		if weight == "" || err == nil && q > 0 {
			return true
		}
	}
	return false
}

// writeError answers a plain HTTP request as Connect answers an RPC.
func writeError(w http.ResponseWriter, err *connect.Error) {
	maps.Copy(w.Header(), err.Meta())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus(err.Code()))
	_ = json.NewEncoder(w).Encode(map[string]string{"code": err.Code().String(), "message": err.Message()}) // see above
}

// httpStatus is the status that Connect gives a code.
func httpStatus(code connect.Code) int {
	switch code {
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return http.StatusBadRequest
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeAlreadyExists, connect.CodeAborted:
		return http.StatusConflict
	case connect.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
