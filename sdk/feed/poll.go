package feed

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

const (
	// fruitless streams in a row, all killed on their way, make the feed poll.
	fruitless = 3
	// streamed is how long a stream must last to count as one that stays.
	streamed = 10 * time.Second
	// pollWait is how long the server is asked to wait for news.
	pollWait = 25 * time.Second
	// pollWithin bounds one poll.
	pollWithin = pollWait + 10*time.Second
	// pollFor is for how long to poll before a stream is tried again.
	pollFor = 5 * time.Minute
	// pollApart is the least time between two polls, whatever the server answers.
	pollApart = time.Second
)

// errPolled ends polling that went well: it is time to try a stream.
var errPolled = errors.New("polled for a while")

// killed reports whether the stream ended as those do that something between
// here and the server holds back or cuts: open, and then silent or closed. One
// that the server refuses, or that is not to be had, would not be had by asking
// either.
func (s *stream) killed(err error) bool {
	if _, leaves := errors.AsType[*goingAwayError](err); leaves || s.lived() >= streamed {
		return false
	}
	return s.begun && !errors.Is(err, errDigest) || errors.Is(err, errSilent) || errors.Is(err, errClosed)
}

// poll follows the server by asking again and again, until that fails or a
// stream is due. It never returns nil.
func (s *stream) poll(ctx context.Context) error {
	f := s.feed
	until := time.Now().Add(pollFor)
	var wait time.Duration // for the first one: there is something to catch up with
	for ; ; wait = pollWait {
		start := time.Now()
		if start.After(until) {
			return errPolled
		}
		f.stats.Polls.Add(1)
		asking, cancel := context.WithTimeout(ctx, pollWithin)
		answer, err := f.config.Source.Poll(asking, &guidonv1.SyncServiceGetDeltaRequest{Have: f.have(), Wait: durationpb.New(wait)})
		cancel()
		if err != nil {
			return s.ended(ctx, err)
		}
		s.begun = false
		if len(answer.GetEvents()) == 0 {
			return s.ended(ctx, malformed("a poll was answered without hello"))
		}
		for _, event := range answer.GetEvents() {
			f.heard.Store(time.Now().UnixNano())
			if err := s.take(ctx, event); err != nil {
				return s.ended(ctx, err)
			}
		}
		select {
		case <-time.After(time.Until(start.Add(pollApart))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
