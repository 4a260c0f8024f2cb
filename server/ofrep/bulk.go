package ofrep

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// bulk evaluates all flags that the caller sees.
func (h *Handler) bulk(w http.ResponseWriter, r *http.Request) {
	b := h.buffer()
	defer h.release(b)
	q, err := h.read(w, r, b)
	if err == nil && r.URL.RawQuery != "" {
		err = h.await(r, &q)
	}
	if err != nil {
		h.fail(w, r, "", err)
		return
	}
	t := h.table(q.caller.Environment, q.view.Snapshot())
	header := w.Header()
	header["Cache-Control"] = noCache
	header.Add("Vary", "Accept-Encoding")
	// Flags that read the clock, and pins, make a body that the request alone
	// does not foretell.
	early := !q.view.Pinned() && !t.timeDependent
	if early {
		tag := h.tag(&q, b)
		header["Etag"] = []string{tag}
		if view.Matches(r.Header["If-None-Match"], tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		b.out = b.out[:0]
	}
	b.out = h.appendBulk(r.Context(), b.out, &q, t)
	if !early {
		tag := h.tagOf(b.out)
		header["Etag"] = []string{tag}
		if view.Matches(r.Header["If-None-Match"], tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if !q.view.Pinned() {
		b.out = h.appendStreams(b.out, &q)
	}
	b.out = append(b.out, '}')
	h.writeBulk(w, r, b)
}

// noCache makes caches ask each time, with the ETag.
var noCache = []string{"private, no-cache"}

// appendBulk appends the answer but for where to hear of changes, and its end.
func (h *Handler) appendBulk(ctx context.Context, dst []byte, q *request, t *table) []byte {
	dst = append(dst, `{"flags":[`...)
	first := len(dst)
	if q.view.Pinned() {
		for _, f := range q.view.Flags(ctx) {
			answer := q.view.Evaluate(f.Key(), eval.Any)
			if answer.ErrorCode() == eval.CodeFlagNotFound {
				continue // of local scope and gone since
			}
			if len(dst) > first {
				dst = append(dst, ',')
			}
			if answer.Flag() != nil {
				f = answer.Flag()
			}
			dst = t.entryFor(f).append(dst, &answer, q.selector)
		}
	} else {
		for _, e := range t.entries {
			if !q.view.Sees(e.flag) {
				continue
			}
			answer := q.view.EvaluateFlag(e.flag)
			if len(dst) > first {
				dst = append(dst, ',')
			}
			dst = e.append(dst, &answer, q.selector)
		}
	}
	dst = append(dst, `],"metadata":{"environment":`...)
	dst = appendText(dst, q.caller.Environment.Name())
	dst = strconv.AppendInt(append(dst, `,"revision":`...), q.view.Revision(), 10)
	if q.selector.Key != "" {
		dst = append(append(append(dst, `,"`...), q.selector.Key...), `":`...)
		dst = appendText(dst, q.selector.Project)
	}
	return append(dst, '}')
}

// tag is the ETag of an answer that is a function of the request. It also ends
// with the half hour, so that clients get a new token for the event stream
// before theirs ends.
func (h *Handler) tag(q *request, b *buffer) string {
	s := q.view.Snapshot()
	digest := s.Digest()
	out := b.out[:0]
	out = append(out, digest[:]...)
	out = strconv.AppendInt(out, s.Revision(), 10)
	out = strconv.AppendInt(append(out, ' '), h.epoch(), 10)
	out = strconv.AppendBool(append(out, ' '), q.caller.ClientOnly)
	out = strconv.AppendBool(append(out, ' '), q.caller.Propagates)
	out = append(append(out, ' '), q.caller.Environment.Name()...)
	out = append(append(out, ' '), q.selector.String()...)
	out = append(append(out, ' '), q.caller.Projects.String()...)
	out = q.view.Context().AppendCanonical(append(out, 0))
	sum := sha256.Sum256(out)
	b.out = out
	return quoted(sum[:])
}

// tagOf is the ETag of an answer that is not: it is of what the flags came to.
func (h *Handler) tagOf(answer []byte) string {
	sum := sha256.New()
	_, _ = sum.Write(answer)
	_, _ = sum.Write(strconv.AppendInt(nil, h.epoch(), 10))
	return quoted(sum.Sum(nil))
}

// quoted is a weak tag: the same answer comes with another token each time, and
// compressed or not.
func quoted(sum []byte) string {
	var text [len(`W/""`) + 2*16]byte
	copy(text[:], `W/"`)
	hex.Encode(text[3:], sum[:16])
	text[len(text)-1] = '"'
	return string(text[:])
}

// await waits until the environment is where an event said it was: a client
// that was told of a change must not be given the state before it.
func (h *Handler) await(r *http.Request, q *request) error {
	query := r.URL.Query()
	e := q.caller.Environment
	if revision, ok := revisionOf(query.Get("flagConfigEtag")); ok {
		if err := e.Reach(r.Context(), revision); err != nil {
			return err
		}
	} else if at, ok := timeOf(query.Get("flagConfigLastModified")); ok {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		for head := range e.Watch(ctx, 0) {
			if !head.CommittedAt().Before(at) {
				break
			}
		}
		if e.Head().CommittedAt().Before(at) {
			return hub.ErrBehind
		}
	}
	q.view.Renew()
	return nil
}

// configTag is what events and flagConfigEtag call a revision.
func configTag(revision int64) string { return "r" + strconv.FormatInt(revision, 10) }

// revisionOf reads a configTag. Another server's is no hint of ours.
func revisionOf(tag string) (int64, bool) {
	text, ok := strings.CutPrefix(strings.Trim(tag, `"`), "r")
	revision, err := strconv.ParseInt(text, 10, 64)
	return revision, ok && err == nil && revision > 0
}

// timeOf reads a time to the second: since the epoch, or in ISO's form.
func timeOf(text string) (time.Time, bool) {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0), true
	}
	at, err := time.Parse(time.RFC3339, text)
	return at.Truncate(time.Second), err == nil
}
