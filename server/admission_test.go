package server

import (
	"errors"
	"testing"
	"time"
)

// A herd of a thousand that does as it is told is let in at the rate, and asks
// little more than twice each.
func TestAdmissionQueuesAHerd(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	a := newAdmission(50, func() time.Time { return now })
	a.used = func() (float64, float64) { return 1, 100 }
	const herd = 1000
	due := make([]time.Time, herd)
	in, asked, perSecond := 0, 0, map[int64]int{}
	for in < herd {
		for i := range due {
			if due[i].After(now) {
				continue
			}
			asked++
			err := a.admit()
			if err == nil {
				in++
				perSecond[now.Unix()]++
				due[i] = now.Add(time.Hour)
				continue
			}
			refused, ok := errors.AsType[*refusedError](err)
			if !ok || !errors.Is(err, errFull) {
				t.Fatalf("admit = %v, want a refusal", err)
			}
			if refused.after <= 0 || refused.after > longestRetry {
				t.Fatalf("told to come back after %v", refused.after)
			}
			due[i] = now.Add(refused.after)
		}
		now = now.Add(10 * time.Millisecond)
	}
	for second, n := range perSecond {
		if n > 100 {
			t.Errorf("second %d let %d in, want at most the rate and the burst", second, n)
		}
	}
	if took := now.Sub(time.Unix(1_000_000, 0)); took > 25*time.Second {
		t.Errorf("all were in after %v, want about 20 s", took)
	}
	if asked > 3*herd {
		t.Errorf("a herd of %d asked %d times", herd, asked)
	}
}

func TestAdmissionStopsBeforeMemoryIsUsedUp(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	used := 95.0
	a := newAdmission(50, func() time.Time { return now })
	a.used = func() (float64, float64) { return used, 100 }
	if err := a.admit(); !errors.Is(err, errFull) {
		t.Errorf("admit at 95 %% of the memory = %v, want errFull", err)
	}
	used = 50
	now = now.Add(memoryEvery)
	if err := a.admit(); err != nil {
		t.Errorf("admit at 50 %% of the memory = %v", err)
	}
}
