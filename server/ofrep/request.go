package ofrep

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// request is one evaluation, single or bulk.
type request struct {
	caller   Caller
	selector view.Selector
	view     view.View
}

// maxBody bounds the body of a request.
const maxBody = 1 << 20

// read finds out who asks what, into r. What is wrong is an error that fail
// knows.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, b *buffer) (q request, err error) {
	if q.caller, err = h.cfg.Caller(r, true); err != nil {
		return q, err
	}
	if q.selector, err = selectorOf(r); err != nil {
		return q, err
	}
	q.selector = q.selector.Within(q.caller.Projects)
	if err = b.read(w, r); err != nil {
		return q, err
	}
	context, err := eval.ContextFromMember(b.in, "context")
	switch {
	case errors.Is(err, eval.ErrNotObject):
		return q, &refusedError{http.StatusBadRequest, codeParseError, "body: " + err.Error()}
	case err != nil:
		return q, &refusedError{http.StatusBadRequest, codeInvalidContext, err.Error()}
	}
	q.view = h.cfg.Contexts.Open(r.Context(), view.Request{
		Environment: q.caller.Environment, Header: r.Header, Context: context, Selector: q.selector,
		ClientOnly: q.caller.ClientOnly, Propagates: q.caller.Propagates, Now: h.cfg.Now(),
	})
	return q, nil
}

func selectorOf(r *http.Request) (view.Selector, error) {
	values := r.Header[view.SelectorHeader]
	if len(values) == 0 {
		return view.Selector{}, nil
	}
	return view.ParseSelector(values[0])
}

// read reads the body, within bounds.
func (b *buffer) read(w http.ResponseWriter, r *http.Request) error {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return &refusedError{http.StatusUnsupportedMediaType, codeParseError, fmt.Sprintf("body: encoding %.32q is not taken; send it as it is", encoding)}
	}
	if r.ContentLength > maxBody {
		return errTooLong
	}
	if n := int(r.ContentLength); n >= cap(b.in) {
		b.in = make([]byte, 0, n+1) // room for the end to be found without growing
	}
	body := r.Body
	if r.ContentLength < 0 {
		body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	for {
		if len(b.in) == cap(b.in) {
			b.in = append(b.in, 0)[:len(b.in)]
		}
		n, err := body.Read(b.in[len(b.in):cap(b.in)])
		b.in = b.in[:len(b.in)+n]
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				return errTooLong
			}
			return &refusedError{http.StatusBadRequest, codeParseError, "body: it ended too early"}
		}
	}
}

var errTooLong = &refusedError{http.StatusRequestEntityTooLarge, codeParseError, "body: is longer than " + strconv.Itoa(maxBody) + " bytes"}
