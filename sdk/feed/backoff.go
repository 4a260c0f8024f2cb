package feed

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
)

const (
	firstWindow = 100 * time.Millisecond
	lastWindow  = 30 * time.Second
	// healthy is how long a stream must have been current for the next loss to
	// start from the first window again. A stream that dies sooner, over and
	// over, is a fault of the server that retries must not feed.
	healthy = time.Minute
	// longestWait bounds what a server may ask for, so that a wrong header
	// never silences a process for good.
	longestWait = 5 * time.Minute
)

// backoff spaces the attempts to open a stream: full jitter over a window that
// doubles. It never gives up, whatever the error: a key that was revoked by
// mistake comes back, and only retrying finds that out.
type backoff struct {
	attempts int
}

// after says how long to wait when a stream that was current for lived ended
// with err. What the server asked for is a floor, to which the jitter is added
// lest everyone it asked comes back in the same moment. One that was any good
// and says that it goes away has not failed: the next is asked soon, however
// often servers are replaced.
func (b *backoff) after(err error, lived time.Duration) time.Duration {
	if lived >= healthy {
		b.attempts = 0
	}
	window := min(firstWindow<<min(b.attempts, 20), lastWindow)
	if _, leaves := errors.AsType[*goingAwayError](err); leaves && lived > 0 {
		window = firstWindow
	} else {
		b.attempts++
	}
	return min(max(asked(err), 0), longestWait) + rand.N(window) //nolint:gosec // jitter, not a secret
}

// asked is the delay the server named, in a going-away event or in Retry-After
// (RFC 9110 §10.2.3, seconds or a date), else 0.
func asked(err error) time.Duration {
	if leave, ok := errors.AsType[*goingAwayError](err); ok {
		return leave.retryAfter
	}
	refused, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return 0
	}
	value := refused.Meta().Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return time.Until(date)
	}
	return 0
}
