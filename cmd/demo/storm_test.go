package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTallyCount(t *testing.T) {
	t.Parallel()
	answer := func(revision int64, variants ...string) Answer {
		var hops []Hop
		for _, v := range variants {
			hops = append(hops, Hop{Revision: revision, Flags: map[string]string{flipped: v}})
		}
		return newAnswer("cid", hops)
	}
	missed := answer(3, "on", "")
	missed.Hops[1].PinUnavailable = []string{flipped}
	missed = newAnswer("cid", missed.Hops)
	lying := answer(4, "on", "off")
	lying.Torn = false

	got := tally{revisions: map[int64]bool{}}
	got.count(answer(1, "on", "on"), time.Second, nil)
	got.count(answer(2, "on", "off"), 2*time.Second, nil)
	got.count(answer(2, "off", "on"), 3*time.Second, nil)
	got.count(missed, 4*time.Second, nil)
	got.count(lying, 5*time.Second, nil)
	got.count(Answer{}, 6*time.Second, io.ErrUnexpectedEOF)

	if got.firstError == nil || !strings.Contains(got.firstError.Error(), "torn") {
		t.Errorf("the first error is %v, want that an answer belies its hops", got.firstError)
	}
	got.firstError = nil
	want := tally{
		requests: 6, torn: 2, pinUnavailable: 1, failed: 2,
		revisions: map[int64]bool{1: true, 2: true, 3: true},
		times:     []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(tally{})); diff != "" {
		t.Errorf("tally (-want +got):\n%s", diff)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	reset := errors.New("connection reset")
	tests := []struct {
		name          string
		with, without tally
		want          string // "" if it proves what it should
	}{
		{"proof", tally{requests: 9}, tally{requests: 9, torn: 4}, ""},
		{"torn with propagation", tally{requests: 9, torn: 1}, tally{requests: 9, torn: 4}, "1 requests were torn with propagation on"},
		{"the control is whole", tally{requests: 9}, tally{requests: 9}, "proves nothing"},
		{"failures with", tally{requests: 9, failed: 9, firstError: reset}, tally{requests: 9, torn: 4}, "connection reset"},
		{"failures without", tally{requests: 9}, tally{requests: 9, torn: 4, failed: 1, firstError: reset}, "connection reset"},
	}
	for _, tt := range tests {
		err := verdict(&tt.with, &tt.without)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: verdict %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestStormRefuses(t *testing.T) {
	t.Parallel()
	good := Storm{Requests: 1, Concurrency: 1, FlipEvery: time.Millisecond}
	if err := good.validate(); err != nil {
		t.Errorf("validate(%+v): %v", good, err)
	}
	for flag, spoil := range map[string]func(*Storm){
		"--requests":    func(s *Storm) { s.Requests = 0 },
		"--concurrency": func(s *Storm) { s.Concurrency = 257 },
		"--flip-every":  func(s *Storm) { s.FlipEvery = 0 },
	} {
		s := good
		spoil(&s)
		if err := s.validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("validate(%+v): %v, want an error that names %s", s, err, flag)
		}
	}
}
