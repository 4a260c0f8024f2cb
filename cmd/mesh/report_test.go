package main

import (
	"strings"
	"testing"
	"time"
)

// One group has one answer; whatever differs is seen, whoever differs.
func TestRecorder(t *testing.T) {
	t.Parallel()
	r := newRecorder(2)
	on, off, other := answer{"on", "true"}, answer{"off", "false"}, answer{"on", "false"}
	r.Evaluated(0, "web", group{flag: "a"}, on)
	r.Evaluated(0, "cart", group{flag: "a"}, on)
	r.Evaluated(0, "cart", group{flag: "b"}, off)
	r.Evaluated(0, "cart", group{flag: "a", subject: partner}, off)
	r.Evaluated(1, "web", group{flag: "a"}, off)
	if n := r.divergent.Load(); n != 0 {
		t.Errorf("%d divergent, want 0: %q", n, r.examples)
	}
	r.Evaluated(1, "cart", group{flag: "a"}, on)
	r.Evaluated(0, "mailer", group{flag: "a"}, other) // the same variant of another value
	r.Rooted(0, "1")
	r.Rooted(0, "1")
	r.Rooted(1, "2")
	r.Rooted(1, "3")
	if torn, manyRoots, _ := r.judged(); torn != 2 || manyRoots != 1 || r.divergent.Load() != 2 || r.evaluations.Load() != 7 {
		t.Errorf("torn %d, several roots %d, divergent %d of %d; want 2, 1, 2 of 7", torn, manyRoots, r.divergent.Load(), r.evaluations.Load())
	}
}

// A kill may change a request under way, to what the kill says and nothing else.
func TestRecorderKill(t *testing.T) {
	t.Parallel()
	r := newRecorder(3)
	on, off := answer{"on", "true"}, answer{"off", "false"}
	r.Evaluated(0, "web", group{flag: "a"}, on)
	r.Evaluated(0, "cart", group{flag: "a", emergency: 7}, off)
	r.Evaluated(1, "web", group{flag: "a", emergency: 7}, off)
	if torn, _, pierced := r.judged(); torn != 0 || pierced != 1 {
		t.Errorf("torn %d, pierced %d; want 0, 1: %q", torn, pierced, r.examples)
	}
	r.Evaluated(2, "web", group{flag: "a", emergency: 7}, on)
	r.Backward(2, "cart", group{flag: "a"}, 7)
	r.Ignoring(2, "cart", group{flag: "a"}, 7)
	if torn, _, _ := r.judged(); torn != 1 || r.divergent.Load() != 1 || r.backward.Load() != 1 || r.ignoring.Load() != 1 {
		t.Errorf("torn %d, divergent %d, backward %d, ignoring %d; want 1 of each", torn, r.divergent.Load(), r.backward.Load(), r.ignoring.Load())
	}
}

// A kill has arrived when the last of those has it that were there and still are.
func TestKillsArrive(t *testing.T) {
	t.Parallel()
	k := kills{published: map[emergency]bool{}}
	start := time.Unix(0, 0)
	one := func(lag time.Duration) *instance { return &instance{net: newNetwork(lag, nil)} }
	fast, slow, gone := one(0), one(time.Second), one(0)
	k.underWay = []*kill{{revision: 5, at: start, waiting: map[*instance]bool{fast: true, slow: true, gone: true}}}
	k.Reached(fast, 4, start.Add(time.Millisecond))
	k.Reached(fast, 6, start.Add(2*time.Millisecond))
	k.Reached(slow, 5, start.Add(1003*time.Millisecond))
	if len(k.last) != 0 {
		t.Errorf("it has arrived after %v, and one is still to come", k.last)
	}
	k.Gone(gone)
	if want := 1003 * time.Millisecond; len(k.last) != 1 || k.last[0] != want || len(k.underWay) != 0 {
		t.Errorf("it has arrived after %v, want %v", k.last, want)
	}
	if len(k.beyond) != 2 || k.beyond[0] != 2*time.Millisecond || k.beyond[1] != 3*time.Millisecond {
		t.Errorf("beyond the lag: %v, want 2ms and 3ms", k.beyond)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	good := func(m mode) Result {
		return Result{Mode: m, Requests: 9, Evaluations: 99, Torn: 4, Counts: map[string]int{}}
	}
	whole := func(spoil func(*Result)) Result {
		r := good(pinned)
		r.Torn = 0
		spoil(&r)
		return r
	}
	tests := []struct {
		name    string
		results []Result
		want    string // "" if it proves what it should
	}{
		{"proof", []Result{whole(func(*Result) {}), good(off), good(decisions)}, ""},
		{"divergent", []Result{whole(func(r *Result) { r.Divergent, r.Examples = 1, []string{"this"} })}, "1 of 99 evaluations diverged, for example this"},
		{"a header lost", []Result{whole(func(r *Result) { r.OrphanRoots = 3 })}, "3 headers were lost"},
		{"several roots", []Result{whole(func(r *Result) { r.ManyRoots = 2 })}, "2 requests had several roots"},
		{"back behind a kill", []Result{whole(func(r *Result) { r.Backward = 4 })}, "4 evaluations went back behind a kill"},
		{"a kill ignored", []Result{whole(func(r *Result) { r.Ignoring = 6 })}, "6 ignored one"},
		{"a kill that nobody made", []Result{whole(func(r *Result) { r.Unpublished = 1 })}, "1 kills were never made"},
		{"kills that did nothing", []Result{whole(func(r *Result) { r.Counts["kills"] = 99 })}, "no kill of 99 changed a request"},
		{"some pins out of reach", []Result{whole(func(r *Result) { r.Errors = map[string]int{pinUnavailable: 24, "FLAG_NOT_FOUND": 99} })}, ""},
		{"most pins out of reach", []Result{whole(func(r *Result) { r.Errors = map[string]int{pinUnavailable: 25} })}, "25 pins could not be had beside 99"},
		{"failures", []Result{whole(func(r *Result) { r.Counts["failed"] = 5 })}, "5 requests failed"},
		{"a whole control", []Result{{Mode: decisions, Counts: map[string]int{}}}, "mode decisions: no request was torn"},
	}
	for _, tt := range tests {
		err := Report{Results: tt.results}.verdict()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: verdict %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	if got := percentile([]time.Duration{3, 1, 2, 4}, 50); got != 3 {
		t.Errorf("p50 of 1 to 4 is %d, want 3", got)
	}
	if got := percentile([]int{5}, 99); got != 5 {
		t.Errorf("p99 of one value is %d, want it", got)
	}
	if got := percentile([]int(nil), 99); got != 0 {
		t.Errorf("p99 of nothing is %d, want 0", got)
	}
}

// The mesh is what it says: every kind of call, three calls each, five rows.
func TestTopology(t *testing.T) {
	t.Parallel()
	used, called := map[kind]bool{}, map[string]bool{"web": true}
	services := 0
	for row, names := range rows {
		services += len(names)
		for column, name := range names {
			calls := callsOf(row, column)
			if row+1 < len(rows) && len(calls) != 3 {
				t.Errorf("%s makes %d calls, want 3", name, len(calls))
			}
			for _, c := range calls {
				used[c.kind], called[c.to] = true, true
			}
		}
	}
	if services < 12 || len(called) != services || len(used) != len(kinds) {
		t.Errorf("%d services, %d of them called, over %d kinds of %d", services, len(called), len(used), len(kinds))
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args string
		says string
	}{
		{"", `required flag(s) "data"`},
		{"--data /nowhere --rate 0", "--rate 0"},
		{"--data /nowhere --rate 1001", "--rate 1001"},
		{"--data /nowhere --lag -1s", "--lag -1s"},
		{"--data /nowhere --evaluations 0", "--evaluations"},
		{"--data /nowhere --instances 0", "--instances 0"},
		{"--data /nowhere --concurrency 0", "--concurrency 0"},
		{"--data /nowhere --chaos 1ms", "--chaos 1ms"},
		{"--data /nowhere --rotate-every -1s", "--rotate-every -1s"},
		{"--data /nowhere --kill-every 1ms", "--kill-every 1ms"},
	}
	for _, tt := range tests {
		var out strings.Builder
		if code := run(t.Context(), &out, &out, strings.Fields(tt.args)...); code != 2 || !strings.Contains(out.String(), tt.says) {
			t.Errorf("mesh %s: code %d, %q; want 2 and %q in it", tt.args, code, out.String(), tt.says)
		}
	}
}
