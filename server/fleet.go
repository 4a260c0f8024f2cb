package server

import (
	"context"
	"errors"
	"slices"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// fleets answers FleetService.
type fleets struct{ *Server }

func (s fleets) List(ctx context.Context, req *guidonv1.FleetServiceListRequest) (*guidonv1.FleetServiceListResponse, error) {
	environments, err := s.all()
	if req.GetEnvironment() != "" {
		e, named := s.environment(ctx, req.GetEnvironment())
		environments, err = append(environments[:0], e), named
	}
	if err != nil {
		return nil, err
	}
	reading, cancel := s.fallback(ctx)
	defer cancel()
	connected, err := s.fleet.Instances(reading, req.GetEnvironment())
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		return nil, err
	}
	out := &guidonv1.FleetServiceListResponse{Partial: err != nil}
	if out.Streams, err = s.fleet.Streams(reading, req.GetEnvironment()); err != nil && !errors.Is(err, store.ErrUnavailable) {
		return nil, err
	}
	for _, e := range environments {
		seen := &guidonv1.Seen{Environment: e.Name(), Revision: e.Head().Revision()}
		for _, i := range connected {
			if i.GetEnvironment() != e.Name() {
				continue
			}
			i.Lag = max(0, seen.GetRevision()-i.GetRevision())
			switch {
			case i.GetLag() == 0:
				seen.Connected++
				seen.Instances++
			case s.silent(i):
				seen.Silent++
			default:
				seen.Connected++
			}
		}
		out.Seen = append(out.Seen, seen)
	}
	out.Instances, out.NextPageToken, err = pageOf(connected, func(i *guidonv1.Instance) string {
		return i.GetEnvironment() + "/" + i.GetService() + "/" + i.GetInstance()
	}, req.GetPageSize(), req.GetPageToken())
	out.Instances = slices.Clip(out.GetInstances())
	return out, err
}

// silentAfter is how long an instance may be connected without acknowledging
// anything before nobody waits for it any more: longer than SDKs spread that over.
const silentAfter = time.Minute

// silent reports whether an instance does not acknowledge, as some client that is
// no SDK may not: what it says that it holds would stay as it was for ever.
func (s fleets) silent(i *guidonv1.Instance) bool {
	return i.GetProtocol() == "sync" && i.GetAcknowledgedAt() == nil && s.now().Sub(i.GetConnectedAt().AsTime()) > silentAfter
}
