package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
	"github.com/guidon-flags/guidon/store"
)

// revision answers GET …/environments/{environment}/revisions/{revision}: all
// rows of a revision, as JSON. They never change, so whoever may have them may
// keep them. It is encoded once, and kept as it is sent, compressed.
func (s *Server) revision(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	header := w.Header()
	header.Set("Vary", "Authorization, X-API-Key, Accept-Encoding")
	header.Set("Cache-Control", "no-store") // of errors
	coding := view.Coding(r.Header.Values("Accept-Encoding"), string(hub.Zstd), string(hub.Gzip))
	revision, exported, err := s.exported(ctx, r, coding)
	if err != nil {
		writeError(w, answer(callOf(ctx), err))
		return
	}
	etag := fmt.Sprintf("\"%d-%s-%s\"", revision, exported.Digest, coding)
	header.Set("Cache-Control", "private, immutable, max-age=31536000")
	header.Set("ETag", etag)
	if view.Matches(r.Header["If-None-Match"], etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", "application/json")
	if coding == view.Identity {
		plain, err := gzip.NewReader(bytes.NewReader(exported.Body))
		if err != nil {
			panic(err) // it was written here
		}
		_, _ = io.Copy(w, plain) //nolint:gosec // as large as what was compressed here; as below
		return
	}
	header.Set("Content-Encoding", coding)
	header.Set("Content-Length", strconv.Itoa(len(exported.Body)))
	_, _ = w.Write(exported.Body) // a client that went away hears nothing
}

// exported is who may have what, then what it is. What a client takes as it is
// comes in gzip.
func (s *Server) exported(ctx context.Context, r *http.Request, coding string) (int64, hub.Export, error) {
	principal, err := s.admit(ctx, callOf(ctx), r.Header, guidonv1connect.SyncServiceGetSnapshotProcedure)
	if err != nil {
		return 0, hub.Export{}, err
	}
	if len(principal.Projects()) > 0 {
		return 0, hub.Export{}, fmt.Errorf("%w: a key that is restricted to projects reads revisions by SyncService.GetSnapshot", auth.ErrDenied)
	}
	revision, err := strconv.ParseInt(r.PathValue("revision"), 10, 64)
	if err != nil || revision < 1 || strconv.FormatInt(revision, 10) != r.PathValue("revision") {
		return 0, hub.Export{}, &store.FieldError{Field: "revision", Message: "must be a whole number from 1 on"}
	}
	if coding == "" {
		return 0, hub.Export{}, &store.FieldError{Field: "Accept-Encoding", Message: "must allow zstd, gzip or identity"}
	}
	if coding == view.Identity {
		coding = string(hub.Gzip)
	}
	e, err := s.environment(auth.WithPrincipal(ctx, principal), r.PathValue("environment"))
	if err != nil {
		return 0, hub.Export{}, err
	}
	x, err := e.Export(ctx, revision, hub.Coding(coding))
	return revision, x, err
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
