package ofrep

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

const (
	// epochLength is how long a client may be told that nothing changed before
	// it gets another token; a token lives for two.
	epochLength = 30 * time.Minute
	// inactivityDelay is after how many seconds in the background a client may
	// close its stream.
	inactivityDelay = 120
	// comeBack spreads the reconnects of the streams of a server that stops.
	comeBack = 5 * time.Second
)

func (h *Handler) epoch() int64 { return h.cfg.Now().Unix() / int64(epochLength/time.Second) }

// appendStreams appends where to hear of changes to what was answered. The URL
// is as good as the key it was made for, until its token ends.
func (h *Handler) appendStreams(dst []byte, q *request) []byte {
	token, ok := h.seal(q.caller)
	if !ok {
		return dst // the installation has no keys to seal with
	}
	query := url.Values{"environment": {q.caller.Environment.Name()}, "token": {token}, "since": {strconv.FormatInt(q.view.Revision(), 10)}}
	if q.selector.Key != "" {
		query.Set("selector", q.selector.String())
	}
	dst = append(dst, `,"eventStreams":[{"type":"sse","endpoint":{"requestUri":`...)
	dst = appendText(dst, eventsPath+"?"+query.Encode())
	dst = append(dst, `},"inactivityDelaySec":`...)
	dst = strconv.AppendInt(dst, inactivityDelay, 10)
	return append(dst, "}]"...)
}

// events streams word of changes to what the caller sees. What it says is only
// "evaluate again", so a slow reader misses nothing by hearing it once.
func (h *Handler) events(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	selector, err := view.ParseSelector(query.Get("selector"))
	var key string
	if err == nil {
		key, err = h.openToken(query)
	}
	var caller Caller
	if err == nil {
		caller, err = h.callerWith(r, key)
	}
	if err != nil {
		h.fail(w, r, "", err)
		return
	}
	leave, err := h.cfg.Enter(r.Context(), caller.Environment.Name())
	if err != nil {
		h.fail(w, r, "", err)
		return
	}
	defer leave()
	s := &stream{
		Handler: h, w: w, r: r, control: http.NewResponseController(w), caller: caller,
		scope: scope{selector.Within(caller.Projects), caller.ClientOnly},
	}
	s.since, _ = strconv.ParseInt(query.Get("since"), 10, 64)
	if last, ok := revisionOf(r.Header.Get("Last-Event-ID")); ok {
		s.since = last
	}
	s.run() //nolint:contextcheck // the request has it
}

// stream is one open event stream. One goroutine owns it.
type stream struct {
	*Handler
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	caller  Caller
	scope   scope
	// since is the revision that the client has, as far as it says.
	since int64
	// told is what the client was told of last, and when.
	told extent
	at   time.Time
}

func (s *stream) run() {
	header := s.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	_ = s.control.SetReadDeadline(time.Time{})
	// With the key the stream ends, and the client is refused when it comes back.
	key := s.cfg.Hold(s.r.Context(), s.caller.Principal)
	defer key.Release()
	ctx, cancel := key.Context(s.r.Context())
	defer cancel()
	defer context.AfterFunc(s.cfg.Draining, cancel)()

	for head := range s.caller.Environment.Watch(ctx, s.beat()) {
		if !s.tell(head) {
			return
		}
	}
	if s.cfg.Draining.Err() != nil {
		s.send("retry: " + strconv.FormatInt(rand.N(comeBack).Milliseconds()+1, 10) + "\n\n") //nolint:gosec // spreads load, guards nothing
	}
}

// tell sends what is due, and is false when the stream is to end.
func (s *stream) tell(head *hub.Head) bool {
	first := s.at.IsZero()
	now := s.table(s.caller.Environment, head.Snapshot()).extent(s.scope)
	news := !first && now != s.told || first && s.since > 0 && s.since < head.Revision()
	s.told = now
	switch {
	case news:
		return s.send(event(head))
	case first || time.Since(s.at) >= s.cfg.KeepAlive-s.beat()/2:
		return s.send(":\n\n")
	}
	return true
}

// beat is how often a stream without news looks whether it was silent for long.
func (s *stream) beat() time.Duration { return s.cfg.KeepAlive / 10 }

func event(head *hub.Head) string {
	tag := configTag(head.Revision())
	return "id: " + tag + "\nevent: message\ndata: {\"type\":\"refetchEvaluation\",\"etag\":\"" + tag +
		"\",\"lastModified\":" + strconv.FormatInt(head.CommittedAt().Unix(), 10) + "}\n\n"
}

// send writes at once, and is false for a client that does not take it.
func (s *stream) send(text string) bool {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.cfg.Progress))
	s.at = time.Now()
	_, err := s.w.Write([]byte(text))
	return err == nil && s.control.Flush() == nil
}
