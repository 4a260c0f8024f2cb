package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

const (
	// helloWithin bounds the time from opening a stream to its first event,
	// which the server sends at once.
	helloWithin = 10 * time.Second
	// missed heartbeats in a row mean that the stream is dead, though nobody
	// closed it.
	missed = 3
	// The heartbeat interval a server names is held in these bounds; the default
	// is for one that names none.
	defaultHeartbeat, leastHeartbeat, mostHeartbeat = 15 * time.Second, 10 * time.Millisecond, time.Minute
)

var (
	errClosed = errors.New("the server closed the stream")
	errSilent = errors.New("nothing was heard for three heartbeat intervals")
	errBehind = errors.New("the stream falls behind the server's revision")
	errDigest = errors.New("the content does not have the digest it was sent with")
)

type goingAwayError struct {
	retryAfter time.Duration
}

func (e *goingAwayError) Error() string { return "the server is going away" }

// stream is one connection's life.
type stream struct {
	feed         *Feed
	begun        bool
	limit        time.Duration // of silence
	currentSince time.Time
	chunks       chunks
	announced    int64 // revision of the last heartbeat that was ahead of us
	// age is for how long the server has not known whether it has the newest.
	age time.Duration
}

// lived is how long the stream has been current.
func (s *stream) lived() time.Duration {
	if s.currentSince.IsZero() {
		return 0
	}
	return time.Since(s.currentSince)
}

// follow applies what the stream brings until it ends, and says why it did.
// It never returns nil.
func (s *stream) follow(ctx context.Context) error {
	f := s.feed
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.limit = helloWithin
	silence := time.AfterFunc(s.limit, func() { cancel(errSilent) })
	defer silence.Stop()
	f.stats.Streams.Add(1)
	for event, err := range f.config.Source.Sync(ctx, f.have()) {
		if err == nil {
			silence.Stop() // what is being applied is not silence
			f.heard.Store(time.Now().UnixNano())
			err = s.take(ctx, event)
			silence.Reset(s.limit)
		}
		if err != nil {
			return s.ended(ctx, err)
		}
	}
	return s.ended(ctx, errClosed)
}

// ended counts and names the end of the stream. A cancellation of our own hides
// behind whatever error it made the source return.
func (s *stream) ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		s.feed.stats.Silent.Add(1)
		return cause
	}
	if _, ok := errors.AsType[*malformedError](err); ok {
		s.feed.stats.Malformed.Add(1)
	}
	if errors.Is(err, eval.ErrUnknownKind) {
		s.feed.stats.TooNew.Add(1)
	}
	return err
}

// have tells the server where to start from.
func (f *Feed) have() *guidonv1.SyncServiceSyncRequest {
	request := &guidonv1.SyncServiceSyncRequest{Client: f.config.Client, HaveCheckpoint: f.witness.newest.Size}
	if snapshot := f.Snapshot(); snapshot != nil && !f.distrust && !f.provisional.Load() {
		request.HaveRevision = snapshot.Revision()
		request.HaveDigest = snapshot.Digest().String()
	}
	return request
}

// take applies one event. Kinds of event it does not know are passed over: they
// come from a newer server.
func (s *stream) take(ctx context.Context, event *guidonv1.SyncServiceSyncResponse) error {
	if hello := event.GetHello(); hello != nil {
		return s.hello(ctx, hello)
	}
	if !s.begun {
		return malformed("the stream does not begin with hello")
	}
	switch e := event.GetEvent().(type) {
	case *guidonv1.SyncServiceSyncResponse_Snapshot:
		return s.chunk(ctx, e.Snapshot)
	case *guidonv1.SyncServiceSyncResponse_Delta:
		s.age = 0 // the server has news
		return s.delta(ctx, e.Delta)
	case *guidonv1.SyncServiceSyncResponse_PropagationKeys:
		s.feed.takeKeys(e.PropagationKeys)
	case *guidonv1.SyncServiceSyncResponse_OverrideKeys:
		s.feed.takeOverrideKeys(e.OverrideKeys)
	case *guidonv1.SyncServiceSyncResponse_ApiKeys:
		s.feed.takeAPIKeys(e.ApiKeys)
	case *guidonv1.SyncServiceSyncResponse_Emergencies:
		log, err := decodeEmergencies(e.Emergencies, 0)
		if err != nil {
			return err
		}
		s.feed.emergencies.take(log)
	case *guidonv1.SyncServiceSyncResponse_Heartbeat:
		s.age = e.Heartbeat.GetAge().AsDuration()
		return s.heartbeat(ctx, e.Heartbeat.GetRevision())
	case *guidonv1.SyncServiceSyncResponse_GoingAway:
		return &goingAwayError{retryAfter: e.GoingAway.GetRetryAfter().AsDuration()}
	}
	return nil
}

func (s *stream) hello(ctx context.Context, hello *guidonv1.Hello) error {
	f := s.feed
	if hello.GetEnvironment() == "" {
		return malformed("hello names no environment")
	}
	if known := f.condition.Load().environment; known != "" && known != hello.GetEnvironment() {
		if !f.unconfirmed {
			return malformed("the stream is of environment %q, and was of %q", hello.GetEnvironment(), known)
		}
		// What the feed began with is of another environment: it holds until the
		// flags of this one are here, for which the next stream asks.
		f.stats.Foreign.Add(1)
		f.provisional.Store(true)
		f.foreign, f.unconfirmed = true, false
		f.witness.forget()
		f.begin(hello.GetEnvironment())
		return fmt.Errorf("the flags to begin with are of environment %q, the stream is of %q", known, hello.GetEnvironment())
	}
	f.unconfirmed = false
	s.begun = true
	s.age = hello.GetAge().AsDuration()
	interval := defaultHeartbeat
	if named := hello.GetHeartbeatInterval(); named != nil {
		interval = min(max(named.AsDuration(), leastHeartbeat), mostHeartbeat)
	}
	s.limit = missed * interval
	f.ackSpread.Store(int64(hello.GetAckSpread().AsDuration()))
	f.begin(hello.GetEnvironment())
	if keys := hello.GetPropagationKeys(); keys != nil {
		f.takeKeys(keys)
	}
	if keys := hello.GetOverrideKeys(); keys != nil {
		f.takeOverrideKeys(keys)
	}
	f.takeCheckpoint(ctx, hello.GetEnvironment(), hello.GetAuditCheckpoint())
	s.agree(ctx, hello.GetRevision())
	return nil
}

// heartbeat looks whether the stream kept up. Twice in a row ahead of us by the
// same or more, with nothing in between, means that it lost its place.
func (s *stream) heartbeat(ctx context.Context, revision int64) error {
	if s.agree(ctx, revision) {
		return nil
	}
	held := s.feed.Snapshot()
	ahead := held == nil || revision > held.Revision()
	if ahead && s.announced > 0 && (held == nil || s.announced > held.Revision()) {
		return errBehind
	}
	s.announced = 0
	if ahead {
		s.announced = revision
	}
	return nil
}

// agree says whether the server's newest revision is the one held.
func (s *stream) agree(ctx context.Context, revision int64) bool {
	snapshot := s.feed.Snapshot()
	if snapshot == nil || snapshot.Revision() != revision || s.feed.distrust || s.feed.provisional.Load() {
		return false
	}
	s.current(ctx)
	return true
}

func (s *stream) current(ctx context.Context) {
	if s.currentSince.IsZero() {
		s.currentSince = time.Now()
		s.feed.acks.wake()
		snapshot := s.feed.Snapshot()
		s.feed.config.Log.LogAttrs(ctx, slog.LevelInfo, "flags are current",
			slog.String("environment", s.feed.condition.Load().environment), slog.Int64("revision", snapshot.Revision()), slog.Int("flags", snapshot.Len()))
	}
	if s.age <= s.feed.config.StaleAfter || s.feed.condition.Load().state == StateConnecting {
		s.feed.current()
	}
	if s.age > s.feed.config.StaleAfter {
		s.feed.outdate(s.age)
	}
}

// chunks are the parts of a snapshot that came so far.
type chunks struct {
	revision int64
	digest   string
	encoding string
	payload  []byte
}

// chunk collects a snapshot and applies it with its last part.
func (s *stream) chunk(ctx context.Context, chunk *guidonv1.SnapshotChunk) error {
	if len(s.chunks.payload) == 0 {
		s.chunks = chunks{revision: chunk.GetRevision(), digest: chunk.GetDigest(), encoding: chunk.GetEncoding()}
	}
	c := &s.chunks
	if chunk.GetRevision() != c.revision || chunk.GetDigest() != c.digest || chunk.GetEncoding() != c.encoding {
		return malformed("chunks of revisions %d and %d in one snapshot", c.revision, chunk.GetRevision())
	}
	if len(c.payload)+len(chunk.GetPayload()) > MaxPayload {
		return malformed("snapshot is larger than %d bytes", MaxPayload)
	}
	c.payload = append(c.payload, chunk.GetPayload()...)
	if !chunk.GetLast() {
		return nil
	}
	whole := *c
	s.chunks = chunks{}
	return s.snapshot(ctx, whole)
}

// snapshot replaces what is held with a whole revision.
func (s *stream) snapshot(ctx context.Context, whole chunks) error {
	f := s.feed
	held := f.Snapshot()
	if f.provisional.Load() {
		held = nil // its revision says nothing
	}
	if held != nil && whole.revision < held.Revision() {
		f.stats.Lower.Add(1)
		return nil
	}
	rows, deletes, err := decodeRows(whole.encoding, whole.payload)
	if err != nil {
		return fmt.Errorf("snapshot of revision %d: %w", whole.revision, err)
	}
	if len(deletes) > 0 {
		return malformed("snapshot of revision %d deletes rows", whole.revision)
	}
	if err := within(rows, 0, whole.revision); err != nil {
		return err
	}
	next, err := eval.Compile(whole.revision, rows)
	if err != nil {
		return malformed("snapshot of revision %d: %w", whole.revision, err)
	}
	if next.Digest().String() != whole.digest {
		return s.mismatch(fmt.Errorf("snapshot of revision %d: %w", whole.revision, errDigest))
	}
	if before := f.Snapshot(); before != nil && before.Len() > 0 && next.Len() == 0 && !f.foreign {
		f.stats.Emptied.Add(1)
		return malformed("snapshot of revision %d has no flags, and %d are held", whole.revision, before.Len())
	}
	if held != nil && whole.revision == held.Revision() && next.Digest() != held.Digest() {
		return s.mismatch(fmt.Errorf("revision %d is not what it was: %w", whole.revision, errDigest))
	}
	f.stats.Snapshots.Add(1)
	f.noteNewer(ctx, rows)
	f.committedAt.Store(0)
	f.distrust = false
	f.publish(next)
	s.current(ctx)
	return nil
}

// delta leads from the revision held to a newer one.
func (s *stream) delta(ctx context.Context, delta *guidonv1.Delta) error {
	f := s.feed
	held := f.Snapshot()
	from, to := delta.GetFromRevision(), delta.GetToRevision()
	switch {
	case held == nil:
		return malformed("delta from revision %d, and nothing is held", from)
	case to <= held.Revision():
		f.stats.Lower.Add(1)
		return nil
	case from != held.Revision():
		return malformed("delta from revision %d, and %d is held", from, held.Revision())
	}
	upserts, deletes, err := decodeRows(delta.GetEncoding(), delta.GetPayload())
	if err != nil {
		return fmt.Errorf("delta to revision %d: %w", to, err)
	}
	if err := within(upserts, from+1, to); err != nil {
		return err
	}
	next, err := held.With(to, upserts, deletes)
	if err != nil {
		return malformed("delta to revision %d: %w", to, err)
	}
	if next.Digest().String() != delta.GetDigest() {
		return s.mismatch(fmt.Errorf("delta to revision %d: %w", to, errDigest))
	}
	f.stats.Deltas.Add(1)
	f.noteNewer(ctx, upserts)
	if at := delta.GetCommittedAt(); at.IsValid() {
		f.committedAt.Store(at.AsTime().UnixNano())
	} else {
		f.committedAt.Store(0)
	}
	f.publish(next)
	s.current(ctx)
	return nil
}

// noteNewer counts the rows of kinds that this version does not know, and says so
// once for what came together.
func (f *Feed) noteNewer(ctx context.Context, rows []eval.Row) {
	n := int64(0)
	var first eval.Row
	for _, row := range rows {
		if !row.Kind.Known() {
			if n++; n == 1 {
				first = row
			}
		}
	}
	if n == 0 {
		return
	}
	f.stats.Newer.Add(n)
	f.config.Log.LogAttrs(ctx, slog.LevelWarn, "the server knows kinds of rows that this version does not: flags that depend on them are errors until it is updated",
		slog.Int64("rows", n), slog.String("kind", first.Kind.String()), slog.String("name", first.Name))
}

// mismatch makes the next stream start from a whole snapshot.
func (s *stream) mismatch(err error) error {
	s.feed.stats.DigestMismatches.Add(1)
	s.feed.distrust = true
	return err
}
