package feed

import (
	"context"
	"errors"
	"iter"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// Source is where a [Feed] gets revisions from: [Connect] in an application,
// and whatever wraps it. Its methods are called from several goroutines.
type Source interface {
	// Sync opens a stream and yields its events in order, until the stream ends.
	// An error is yielded once, last, with a nil event; a stream that ends
	// without one was closed by the server. It must return soon after ctx ends.
	// Events belong to the receiver.
	Sync(ctx context.Context, have *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error]
	// Definition reads what one flag was at a revision.
	Definition(ctx context.Context, want *guidonv1.SyncServiceGetDefinitionRequest) (*guidonv1.SyncServiceGetDefinitionResponse, error)
	// Emergencies reads the emergency log up to a revision at least.
	Emergencies(ctx context.Context, want *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error)
	// Poll asks for the events that a stream would begin with, and may wait for
	// news.
	Poll(ctx context.Context, want *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error)
	// Ack tells what this process holds.
	Ack(ctx context.Context, held *guidonv1.SyncServiceAckRequest) (*guidonv1.SyncServiceAckResponse, error)
}

// Connect is the Source over a Guidon server. Credentials, compression and
// message limits are the client's.
func Connect(client guidonv1connect.SyncServiceClient) Source {
	return connectSource{client}
}

type connectSource struct {
	client guidonv1connect.SyncServiceClient
}

func (s connectSource) Sync(ctx context.Context, have *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := s.client.Sync(ctx, have)
		if err != nil {
			yield(nil, err)
			return
		}
		// Cancelled before it is closed, so that closing never waits for the
		// rest of a stream that has no end.
		defer func() {
			cancel()
			_ = stream.Close() // there is nothing left to read or to report
		}()
		for stream.Receive() {
			if !yield(stream.Msg(), nil) {
				return
			}
		}
		if err := stream.Err(); err != nil {
			yield(nil, err)
		}
	}
}

func (s connectSource) Definition(ctx context.Context, want *guidonv1.SyncServiceGetDefinitionRequest) (*guidonv1.SyncServiceGetDefinitionResponse, error) {
	return s.client.GetDefinition(ctx, want)
}

func (s connectSource) Poll(ctx context.Context, want *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
	return s.client.GetDelta(ctx, want)
}

func (s connectSource) Ack(ctx context.Context, held *guidonv1.SyncServiceAckRequest) (*guidonv1.SyncServiceAckResponse, error) {
	return s.client.Ack(ctx, held)
}

func (s connectSource) Emergencies(ctx context.Context, want *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error) {
	return s.client.GetEmergencies(ctx, want)
}

// nowhere is the source of a feed that has none.
type nowhere struct{}

var errNowhere = errors.New("feed: there is no server")

func (nowhere) Sync(context.Context, *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) { yield(nil, errNowhere) }
}

func (nowhere) Definition(context.Context, *guidonv1.SyncServiceGetDefinitionRequest) (*guidonv1.SyncServiceGetDefinitionResponse, error) {
	return nil, errNowhere
}

func (nowhere) Emergencies(context.Context, *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error) {
	return nil, errNowhere
}

func (nowhere) Poll(context.Context, *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
	return nil, errNowhere
}

func (nowhere) Ack(context.Context, *guidonv1.SyncServiceAckRequest) (*guidonv1.SyncServiceAckResponse, error) {
	return nil, errNowhere
}
