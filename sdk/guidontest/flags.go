// Package guidontest gives applications flags of their own for unit tests: no
// server, no network, and values that the test sets.
//
// The one idea: the client is the real one, over a source in memory. What an
// application's code does with flags (OpenFeature, requests pinned to a
// revision, headers) is what it does in production.
package guidontest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// Environment is the name of the environment that the flags are of.
const Environment = "test"

// Flags is a client whose flags the test sets. Make one with [Open] and close
// it at the end of the test. It is safe for concurrent use.
type Flags struct {
	*guidon.Client
	source *source
}

// Open returns a client with flags that have those values: booleans, strings,
// numbers, or maps. Options are those of [guidon.Open].
func Open(ctx context.Context, values map[string]any, opts ...guidon.Option) (*Flags, error) {
	s := &source{revisions: []map[eval.Name]eval.Row{{}}, changed: make(chan struct{}), applied: make(chan struct{})}
	rows := make([]eval.Row, 0, len(values))
	for key, value := range values {
		row, err := fixed(key, value)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	if _, err := s.put(rows...); err != nil {
		return nil, err
	}
	client, err := guidon.Open(ctx, "", append(slices.Clone(opts), guidon.WithSource(func(feed.Source) feed.Source { return s }))...)
	if err != nil {
		return nil, err
	}
	if err := client.WaitReady(ctx); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &Flags{client, s}, nil
}

// Set publishes a value for a flag, in a revision of its own, and returns when
// the client has it. Requests that are under way keep the value they had.
func (f *Flags) Set(ctx context.Context, key string, value any) error {
	row, err := fixed(key, value)
	if err != nil {
		return err
	}
	return f.publish(ctx, row)
}

// Define is [Flags.Set] for a whole flagd definition, with targeting.
func (f *Flags) Define(ctx context.Context, key, definition string) error {
	row, err := defined(key, json.RawMessage(definition))
	if err != nil {
		return err
	}
	return f.publish(ctx, row)
}

// Request returns a context as the middleware would give it to the handler of a
// request that enters the system with those attributes: pinned to the newest
// revision.
func (f *Flags) Request(ctx context.Context, attributes map[string]any) context.Context {
	return f.Propagator().Root(ctx, attributes)
}

func (f *Flags) publish(ctx context.Context, row eval.Row) error {
	revision, err := f.source.put(row)
	if err != nil {
		return err
	}
	return f.source.await(ctx, revision)
}

// fixed is a flag that always has one value.
func fixed(key string, value any) (eval.Row, error) {
	definition, err := json.Marshal(map[string]any{
		"state": "ENABLED", "variants": map[string]any{"set": value}, "defaultVariant": "set",
	})
	if err != nil {
		return eval.Row{}, fmt.Errorf("guidontest: flag %q: %w", key, err)
	}
	return defined(key, definition)
}

func defined(key string, definition json.RawMessage) (eval.Row, error) {
	document, err := json.Marshal(map[string]any{"flag": definition, "guidon": map[string]any{"project": "default"}})
	if err == nil {
		document, err = eval.Canonical(document)
	}
	if err != nil {
		return eval.Row{}, fmt.Errorf("guidontest: flag %q: %w", key, err)
	}
	return eval.Row{Kind: eval.KindFlag, Name: key, Document: document}, nil
}

// source is a server in memory.
type source struct {
	mu        sync.Mutex
	revisions []map[eval.Name]eval.Row // by revision; 0 has none
	changed   chan struct{}            // closed, and replaced, by each revision
	took      int64                    // the newest revision that the client has applied
	applied   chan struct{}            // closed, and replaced, when it applies one
}

// put makes the next revision.
func (s *source) put(rows ...eval.Row) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	revision := int64(len(s.revisions))
	next := maps.Clone(s.revisions[revision-1])
	var names []eval.Name
	for _, row := range rows {
		row.From = revision
		name := eval.Name{Kind: row.Kind, Name: row.Name}
		next[name] = row
		names = append(names, name)
	}
	snapshot, err := eval.Compile(revision, slices.Collect(maps.Values(next)))
	if err == nil && len(names) > 0 {
		err = snapshot.Validate(names...)
	}
	if err != nil {
		return 0, fmt.Errorf("guidontest: %w", err)
	}
	s.revisions = append(s.revisions, next)
	close(s.changed)
	s.changed = make(chan struct{})
	return revision, nil
}

// await waits until the client has applied a revision.
func (s *source) await(ctx context.Context, revision int64) error {
	for {
		s.mu.Lock()
		took, applied := s.took, s.applied
		s.mu.Unlock()
		if took >= revision {
			return nil
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *source) newest() (revision int64, rows []eval.Row, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	revision = int64(len(s.revisions)) - 1
	return revision, slices.Collect(maps.Values(s.revisions[revision])), s.changed
}

// Sync implements [feed.Source]: a snapshot of each revision.
func (s *source) Sync(ctx context.Context, _ *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) {
		revision, rows, changed := s.newest()
		hello := &guidonv1.Hello{Environment: Environment, Revision: revision, PropagationKeys: keys}
		if !yield(&guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Hello{Hello: hello}}, nil) {
			return
		}
		for {
			event, err := snapshot(revision, rows)
			if !yield(event, err) || err != nil {
				return
			}
			s.mu.Lock()
			s.took = max(s.took, revision)
			close(s.applied)
			s.applied = make(chan struct{})
			s.mu.Unlock()
			select {
			case <-changed:
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
			revision, rows, changed = s.newest()
		}
	}
}

// keys sign the headers of tests, and of nothing else.
var keys = &guidonv1.PropagationKeys{Signer: "test", Keys: []*guidonv1.PropagationKey{{
	Id: "test", Secret: []byte("guidontest is open to everybody!"),
}}}

func snapshot(revision int64, rows []eval.Row) (*guidonv1.SyncServiceSyncResponse, error) {
	compiled, err := eval.Compile(revision, rows)
	if err != nil {
		return nil, err
	}
	payload, err := proto.Marshal(&guidonv1.Rows{Upserts: wire(rows)})
	if err != nil {
		return nil, err
	}
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Snapshot{Snapshot: &guidonv1.SnapshotChunk{
		Revision: revision, Digest: compiled.Digest().String(), Encoding: "identity", Payload: payload, Last: true,
	}}}, nil
}

func wire(rows []eval.Row) []*guidonv1.Row {
	sent := make([]*guidonv1.Row, 0, len(rows))
	for _, row := range rows {
		sent = append(sent, &guidonv1.Row{Kind: row.Kind.String(), Name: row.Name, FromRevision: row.From, Document: row.Document})
	}
	return sent
}

// Definition implements [feed.Source]: what a flag was at a revision.
func (s *source) Definition(_ context.Context, want *guidonv1.SyncServiceGetDefinitionRequest) (*guidonv1.SyncServiceGetDefinitionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	revision := want.GetRevision()
	if revision < 1 || revision >= int64(len(s.revisions)) {
		return nil, fmt.Errorf("guidontest: there is no revision %d", revision)
	}
	answer := &guidonv1.SyncServiceGetDefinitionResponse{FromRevision: revision, ToRevision: revision + 1}
	if row, ok := s.revisions[revision][eval.Name{Kind: eval.KindFlag, Name: want.GetKey()}]; ok {
		answer.Rows = wire([]eval.Row{row})
	}
	return answer, nil
}

// Emergencies implements [feed.Source]: there are none.
func (s *source) Emergencies(context.Context, *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error) {
	revision, _, _ := s.newest()
	return &guidonv1.SyncServiceGetEmergenciesResponse{Revision: revision}, nil
}

var errNoPolls = errors.New("guidontest: there is a stream")

// Poll implements [feed.Source].
func (s *source) Poll(context.Context, *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
	return nil, errNoPolls
}

// Ack implements [feed.Source].
func (s *source) Ack(context.Context, *guidonv1.SyncServiceAckRequest) (*guidonv1.SyncServiceAckResponse, error) {
	return &guidonv1.SyncServiceAckResponse{}, nil
}
