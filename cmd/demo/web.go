package main

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

//go:embed page
var files embed.FS

var page = template.Must(template.ParseFS(files, "page/index.html"))

// contentPolicy lets the page load what the shop itself serves and nothing
// else, and run no script but the file it names.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// handler is what web serves: the checkout, and the page that shows what came
// of it.
func (s *Shop) handler() http.Handler {
	static, err := fs.Sub(files, "page/static")
	if err != nil {
		panic(err) // the name is wrong: a mistake in this file
	}
	web := s.booths[0]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthy)
	mux.Handle("GET /checkout", web.receive(func(r *http.Request) (trip, error) {
		p, err := personFrom(r.URL.Query())
		return trip{s.propagation.Mode(), overHTTP, p}, err
	}, s.checkout))
	mux.HandleFunc("POST /propagation", s.switchPropagation)
	mux.HandleFunc("GET /stats", s.stats)
	mux.HandleFunc("GET /{$}", s.index)
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
	// A page of another site must not be able to switch the shop.
	guarded := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		guarded.ServeHTTP(w, r)
	})
}

// checkout answers when the last service has, and keeps what they saw.
func (s *Shop) checkout(w http.ResponseWriter, r *http.Request, t trip) {
	ctx := r.Context()
	hops, err := s.booths[0].visit(ctx, t)
	if err != nil {
		s.record.Failed(t.mode)
		refuse(w, http.StatusBadGateway, err)
		return
	}
	if state, ok := propagate.FromContext(ctx); ok {
		if header, ok := state.Header(); ok {
			s.record.Sent(header)
		}
	}
	a := newAnswer(propagate.CorrelationID(ctx), hops)
	s.record.Answered(t.mode, t.person, a, time.Now())
	reply(w, a)
}

// switchPropagation takes effect for requests that start from now on.
func (s *Shop) switchPropagation(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("body: %w", err))
		return
	}
	var m mode
	if err := m.Set(strings.TrimSpace(string(body))); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("body: %w", err))
		return
	}
	s.propagation.Set(m)
	reply(w, map[string]mode{"propagation": m})
}

// index is the page; what it shows comes from /stats.
func (s *Shop) index(w http.ResponseWriter, _ *http.Request) {
	var out bytes.Buffer
	err := page.Execute(&out, map[string]any{
		"Flag": flipped, "Guidon": s.config.Guidon, "Admin": strings.TrimRight(s.config.Guidon, "/") + "/admin/",
		"Lag": s.config.Lag, "Kept": keptRequests,
	})
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = out.WriteTo(w)
}
