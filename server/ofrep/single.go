package ofrep

import (
	"net/http"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// single evaluates one flag.
func (h *Handler) single(w http.ResponseWriter, r *http.Request) {
	b := h.buffer()
	defer h.release(b)
	key := r.PathValue("key")
	q, err := h.read(w, r, b)
	if err != nil {
		h.fail(w, r, key, err)
		return
	}
	answer := q.view.Evaluate(key, eval.Any)
	status := http.StatusOK
	switch code := answer.ErrorCode(); {
	case code == eval.CodeFlagNotFound:
		h.failure(w, http.StatusNotFound, key, string(code), "there is no flag of that key here", q.selector)
		return
	case code != eval.CodeNone && answer.Flag() == nil:
		h.failure(w, http.StatusBadRequest, key, string(code), answer.Message(), q.selector)
		return
	case code != eval.CodeNone:
		status = http.StatusBadRequest
	}
	t := h.table(q.caller.Environment, q.view.Snapshot())
	b.out = t.entryFor(answer.Flag()).append(b.out, &answer, q.selector)
	write(w, status, b.out)
}
