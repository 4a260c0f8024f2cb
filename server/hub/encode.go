package hub

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"iter"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

const (
	// chunkBytes is the largest payload of one event of a snapshot.
	chunkBytes = 256 << 10
	// maxDelta is the largest payload of a delta, which is one event: half of what
	// an SDK takes. A larger one comes as a snapshot, in chunks.
	maxDelta = 16 << 20
	// compressFrom is the payload from which gzip pays.
	compressFrom = 1 << 10
)

// Event is one event of a stream. It is shared by all clients that get it, and
// encoded once for them.
type Event struct {
	*guidonv1.SyncServiceSyncResponse
	encoded func() []byte
}

// newEvent returns an event that is encoded when it is first sent. The message
// must not change any more.
func newEvent(message *guidonv1.SyncServiceSyncResponse) *Event {
	return &Event{message, sync.OnceValue(func() []byte {
		encoded, err := proto.Marshal(message)
		if err != nil {
			panic(fmt.Sprintf("an event cannot be encoded: %v", err)) // its text is valid UTF-8: eval checked it
		}
		return encoded
	})}
}

// Encoded returns the event in protobuf. It is shared and must not be changed.
func (e *Event) Encoded() []byte { return e.encoded() }

// Heartbeat returns the event that says that h is still the newest.
func (h *Head) Heartbeat() *Event { return h.heartbeat }

// Since returns the events that lead a client from what it has to h, encoded
// once for all clients that have the same: a delta, or a snapshot where the
// client has nothing, too little, or something with another digest (in hex).
// Emergencies that are news to it come first, so that nothing large and nothing
// that the client cannot use keeps them back.
// Nothing is returned to a client that has h already or something newer.
func (h *Head) Since(have int64, digest string) []*Event {
	switch revision := h.Revision(); {
	case have > revision:
		return nil
	case have == revision && digest == h.digest:
		return nil
	}
	i, ok := slices.BinarySearchFunc(h.steps, have, func(s step, have int64) int { return cmp.Compare(s.from, have) })
	if !ok || h.steps[i].digest != digest {
		return h.encode(0, func() []*Event { return append(h.emergencies(0), h.whole()...) })
	}
	return h.encode(have, func() []*Event {
		return append(h.emergencies(have), h.encodeDelta(h.steps[i:])...)
	})
}

// encode returns what its function returned the first time it was asked for key.
func (h *Head) encode(key int64, encode func() []*Event) []*Event {
	h.mu.Lock()
	if h.encoded == nil {
		h.encoded = map[int64]func() []*Event{}
	}
	once, ok := h.encoded[key]
	if !ok {
		once = sync.OnceValue(encode)
		h.encoded[key] = once
	}
	h.mu.Unlock()
	return once()
}

// emergencies returns the emergency log, if it has grown since a revision.
func (h *Head) emergencies(since int64) []*Event {
	if h.snapshot.Emergencies().Newest() <= since {
		return nil
	}
	return []*Event{newEvent(&guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Emergencies{
		Emergencies: &guidonv1.SyncServiceGetEmergenciesResponse{Revision: h.Revision(), Rows: Rows(h.snapshot.EmergencyRows())},
	}})}
}

// encodeDelta merges steps: each row comes once, as it is now. Where most of
// the snapshot changed, the snapshot is smaller.
func (h *Head) encodeDelta(steps []step) []*Event {
	names := map[eval.Name]struct{}{}
	for _, s := range steps {
		for _, name := range s.names {
			names[name] = struct{}{}
		}
	}
	if len(names) > 16 && 2*len(names) > h.snapshot.Len() {
		return h.whole()
	}
	rows := &guidonv1.Rows{}
	for name := range names {
		if row, ok := h.snapshot.Row(name); ok {
			rows.Upserts = append(rows.Upserts, Row(row))
		} else {
			rows.Deletes = append(rows.Deletes, &guidonv1.RowName{Kind: name.Kind.String(), Name: name.Name})
		}
	}
	slices.SortFunc(rows.Upserts, compareNames[*guidonv1.Row])
	slices.SortFunc(rows.Deletes, compareNames[*guidonv1.RowName])
	payload, encoding := pack(rows)
	if len(payload) > maxDelta {
		return h.whole()
	}
	return []*Event{newEvent(&guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Delta{Delta: &guidonv1.Delta{
		FromRevision: steps[0].from, ToRevision: h.Revision(), Digest: h.digest,
		Encoding: encoding, Payload: payload, CommittedAt: timestamppb.New(h.committedAt),
	}}})}
}

// whole is the snapshot, encoded once.
func (h *Head) whole() []*Event { return h.encode(-1, h.encodeSnapshot) }

func (h *Head) encodeSnapshot() []*Event {
	payload, encoding := pack(&guidonv1.Rows{Upserts: Rows(h.snapshot.Rows())})
	var events []*Event
	for last := false; !last; {
		n := min(len(payload), chunkBytes)
		last = n == len(payload)
		events = append(events, newEvent(&guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Snapshot{
			Snapshot: &guidonv1.SnapshotChunk{
				Revision: h.Revision(), Digest: h.digest, Encoding: encoding, Payload: payload[:n:n], Last: last,
			},
		}}))
		payload = payload[n:]
	}
	return events
}

// Row returns a row as it goes over the wire. The document is shared.
func Row(r eval.Row) *guidonv1.Row {
	return &guidonv1.Row{Kind: r.Kind.String(), Name: r.Name, FromRevision: r.From, Document: r.Document}
}

// Rows returns rows as they go over the wire. The documents are shared.
func Rows(rows iter.Seq[eval.Row]) []*guidonv1.Row {
	var out []*guidonv1.Row
	for r := range rows {
		out = append(out, Row(r))
	}
	return out
}

// pack encodes rows and names the encoding.
func pack(rows *guidonv1.Rows) (payload []byte, encoding string) {
	raw, err := proto.Marshal(rows)
	if err != nil {
		panic(fmt.Sprintf("rows cannot be encoded: %v", err)) // names and documents are valid UTF-8: eval checked them
	}
	if len(raw) < compressFrom {
		return raw, "identity"
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(raw) // a buffer takes everything
	_ = w.Close()
	return b.Bytes(), "gzip"
}

// named is what rows and row names have in common.
type named interface {
	GetKind() string
	GetName() string
}

func compareNames[T named](a, b T) int {
	return cmp.Or(cmp.Compare(a.GetKind(), b.GetKind()), cmp.Compare(a.GetName(), b.GetName()))
}
