package ofrep

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// The error codes of OFREP that no evaluation has.
const (
	codeParseError     = string(eval.CodeParseError)
	codeGeneral        = string(eval.CodeGeneral)
	codeInvalidContext = "INVALID_CONTEXT"
)

// refusedError is a request that cannot be answered as it is.
type refusedError struct {
	status        int
	code, details string
}

func (e *refusedError) Error() string { return e.code + ": " + e.details }

// fail answers for a request that was not evaluated. A key makes it the failure
// of one flag.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, key string, err error) {
	if refused, ok := errors.AsType[*refusedError](err); ok {
		h.failure(w, refused.status, key, refused.code, refused.details, view.Selector{})
		return
	}
	known := h.cfg.Explain(r.Context(), err)
	text, later := known.Message(), cmp.Or(known.Meta().Get("Retry-After"), "1")
	switch known.Code() {
	case connect.CodeResourceExhausted:
		w.Header().Set("Retry-After", later)
		w.WriteHeader(http.StatusTooManyRequests)
	case connect.CodeUnauthenticated:
		w.WriteHeader(http.StatusUnauthorized)
	case connect.CodePermissionDenied:
		w.WriteHeader(http.StatusForbidden)
	case connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeFailedPrecondition:
		h.failure(w, http.StatusBadRequest, key, codeGeneral, text, view.Selector{})
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled:
		w.Header().Set("Retry-After", later)
		h.failure(w, http.StatusServiceUnavailable, "", "", text, view.Selector{})
	default:
		h.failure(w, http.StatusInternalServerError, "", "", text, view.Selector{})
	}
}

// failure writes an error as OFREP shapes it; what is empty is left out. A
// selector that was followed stands in the metadata, as in all answers.
func (h *Handler) failure(w http.ResponseWriter, status int, key, code, details string, selected view.Selector) {
	b := h.buffer()
	defer h.release(b)
	out := b.out
	out = append(out, '{')
	member := func(name, value string) {
		if value == "" {
			return
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), name...), `":`...)
		out = appendText(out, value)
	}
	member("key", key)
	member("errorCode", code)
	member("errorDetails", details)
	if selected.Key != "" {
		out = append(append(append(out, `,"metadata":{"`...), selected.Key...), `":`...)
		out = append(appendText(out, selected.Project), '}')
	}
	out = append(out, '}')
	write(w, status, out)
	b.out = out
}

// write sends a body of JSON.
func write(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	if status != http.StatusOK {
		w.WriteHeader(status)
	}
	_, _ = w.Write(body) // a client that went away
}

var jsonType = []string{"application/json"}
