package server

import (
	"context"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// audits answers AuditService.
type audits struct{ *Server }

func (s audits) List(ctx context.Context, req *guidonv1.AuditServiceListRequest) (*guidonv1.AuditServiceListResponse, error) {
	page, err := storePage(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	filter := store.AuditFilter{Flag: req.GetFlag(), Actor: req.GetActor()}
	if name := req.GetEnvironment(); name != "" {
		e, err := s.environment(ctx, name)
		if err != nil {
			return nil, err
		}
		filter.Environments = []string{e.Name()}
	}
	entries, next, err := s.store.Audit(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	out := &guidonv1.AuditServiceListResponse{NextPageToken: next}
	for _, e := range entries {
		entry, err := toAuditEntry(e)
		if err != nil {
			return nil, err
		}
		out.Entries = append(out.Entries, entry)
	}
	return out, nil
}
