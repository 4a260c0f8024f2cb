package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	defaultFlipEvery = 20 * time.Millisecond
	// stormTimeout bounds one request of a storm, and one flip.
	stormTimeout = 10 * time.Second
	// warmUp is how many flips come before the first request that counts.
	warmUp = 3
)

// A Storm is a bounded load on a shop while a flag flips.
type Storm struct {
	Shop        string // URL
	Guidon      string // URL
	Key         string // admin key
	Environment string
	Requests    int // in each mode
	Concurrency int
	FlipEvery   time.Duration
}

// A tally is what one mode came to.
type tally struct {
	requests, torn, pinUnavailable, failed int
	// revisions that requests were pinned to, or web was at.
	revisions map[int64]bool
	times     []time.Duration
	flips     int
	// firstError is one of those that failed counts.
	firstError error
}

// Run storms the shop with propagation on and then off, prints both and says
// what they prove. It leaves the flag's default as it found it, and
// propagation on.
func (s Storm) Run(ctx context.Context, out io.Writer) (err error) {
	if err := s.validate(); err != nil {
		return err
	}
	flips, err := newFlipper(ctx, s.Guidon, s.Key, s.Environment)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*stormTimeout)
		defer cancel()
		err = errors.Join(err, s.switchTo(ctx, on), flips.Restore(ctx))
	}()
	tallies := map[mode]*tally{}
	for _, m := range []mode{on, off} {
		if err := s.switchTo(ctx, m); err != nil {
			return err
		}
		if tallies[m], err = s.strike(ctx, flips); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx) // called off: what failed says nothing
		}
	}
	if err := s.print(out, tallies); err != nil {
		return err
	}
	return verdict(tallies[on], tallies[off])
}

func (s Storm) validate() error {
	switch {
	case s.Requests < 1 || s.Requests > 1_000_000:
		return fmt.Errorf("--requests %d: must be 1 to 1000000", s.Requests)
	case s.Concurrency < 1 || s.Concurrency > 256:
		return fmt.Errorf("--concurrency %d: must be 1 to 256", s.Concurrency)
	case s.FlipEvery < time.Millisecond:
		return fmt.Errorf("--flip-every %v: must be at least 1ms", s.FlipEvery)
	}
	return nil
}

// strike sends the requests of one mode while the flag flips.
func (s Storm) strike(ctx context.Context, flips *flipper) (*tally, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	warm, flipping := make(chan struct{}), make(chan error, 1)
	count := 0
	go func() {
		var err error
		count, err = flips.Every(ctx, s.FlipEvery, warmUp, warm)
		flipping <- err
	}()
	select {
	case <-warm:
	case err := <-flipping: // too early: it failed, or the storm was called off
		return nil, cmp.Or(err, context.Cause(ctx))
	}

	type shot struct {
		answer Answer
		took   time.Duration
		err    error
	}
	shots := make([]shot, s.Requests)
	client := &http.Client{Timeout: stormTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: s.Concurrency}}
	defer client.CloseIdleConnections()
	g, requests := errgroup.WithContext(ctx)
	g.SetLimit(s.Concurrency)
	for i := range shots {
		g.Go(func() error {
			begin := time.Now()
			shots[i].answer, shots[i].err = checkout(requests, client, s.Shop, fmt.Sprintf("storm-%d", i))
			shots[i].took = time.Since(begin)
			return nil // one that fails is counted, and stops no other
		})
	}
	_ = g.Wait() // none of them returns an error
	stop()
	if err := <-flipping; err != nil {
		return nil, err
	}

	t := &tally{revisions: map[int64]bool{}, flips: count}
	for _, shot := range shots {
		t.count(shot.answer, shot.took, shot.err)
	}
	return t, nil
}

// count judges by the hops themselves, not by what the shop makes of them.
func (t *tally) count(a Answer, took time.Duration, err error) {
	t.requests++
	torn := len(tornFlags(a.Hops)) > 0
	if err == nil && torn != a.Torn {
		err = fmt.Errorf("request %s: the answer says torn %v, its hops say %v", a.CorrelationID, a.Torn, torn)
	}
	if err != nil {
		t.failed++
		t.firstError = cmp.Or(t.firstError, err)
		return
	}
	t.times = append(t.times, took)
	t.revisions[a.Revision] = true
	if torn {
		t.torn++
	}
	if a.PinUnavailable > 0 {
		t.pinUnavailable++
	}
}

func (s Storm) print(out io.Writer, tallies map[mode]*tally) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "propagation\trequests\ttorn\terrors\tPIN_UNAVAILABLE\tflips\trevisions\tp50 ms\tp99 ms\t")
	for _, m := range []mode{on, off} {
		t := tallies[m]
		slices.Sort(t.times)
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t\n", m, t.requests, t.torn, t.failed, t.pinUnavailable,
			t.flips, len(t.revisions), milliseconds(percentile(t.times, 50)), milliseconds(percentile(t.times, 99)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	with, without := tallies[on], tallies[off]
	_, err := fmt.Fprintf(out, "%s flipped every %v. Torn with propagation: %d of %d requests. Without: %d of %d.\n",
		flipped, s.FlipEvery, with.torn, with.requests, without.torn, without.requests)
	return err
}

// verdict is nil if the storm proves that propagation keeps requests whole.
func verdict(with, without *tally) error {
	switch {
	case with.torn > 0:
		return fmt.Errorf("%d requests were torn with propagation on", with.torn)
	case with.failed+without.failed > 0:
		return fmt.Errorf("%d requests failed and prove nothing; the first: %w", with.failed+without.failed, cmp.Or(with.firstError, without.firstError))
	case without.torn == 0:
		return errors.New("no request was torn with propagation off: the comparison proves nothing")
	}
	return nil
}

// checkout sends one request to a shop.
func checkout(ctx context.Context, client *http.Client, shop, user string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(shop, "/")+"/checkout?user="+url.QueryEscape(user), nil)
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	if err := ask(client, req, &a); err != nil {
		return Answer{}, err
	}
	if len(a.Hops) == 0 {
		return Answer{}, fmt.Errorf("request %s: no hops", a.CorrelationID)
	}
	return a, nil
}

// switchTo has the shop start new requests in a mode.
func (s Storm) switchTo(ctx context.Context, m mode) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(s.Shop, "/")+"/propagation", strings.NewReader(string(m)))
	if err != nil {
		return err
	}
	var answer struct{ Propagation mode }
	return ask(&http.Client{Timeout: stormTimeout}, req, &answer)
}

// ask sends a request and reads the JSON of a 200.
func ask(client *http.Client, req *http.Request, into any) error {
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReport))
	if err != nil {
		return fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, res.Status, bytes.TrimSpace(body))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	return nil
}
