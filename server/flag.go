package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// flags answers FlagService.
type flags struct{ *Server }

func (s flags) Get(ctx context.Context, req *guidonv1.FlagServiceGetRequest) (*guidonv1.FlagServiceGetResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	revision, err := s.revisionOf(ctx, e, req.GetRevision(), req.GetTime())
	if err != nil {
		return nil, err
	}
	d, err := e.Definition(ctx, req.GetKey(), revision)
	if errors.Is(err, hub.ErrBehind) {
		return nil, fmt.Errorf("%w: %v", store.ErrRevisionAhead, err) //nolint:errorlint // for this call it is not a matter of time
	}
	if err != nil {
		return nil, err
	}
	if d.Flag() == nil {
		return nil, fmt.Errorf("flag %q in environment %q: %w", req.GetKey(), e.Name(), store.ErrNotFound)
	}
	out, err := toFlag(e.Name(), d.Flag())
	if err != nil {
		return nil, err
	}
	reading := ctx
	if revision == 0 {
		var cancel context.CancelFunc
		reading, cancel = s.fallback(ctx)
		defer cancel()
	}
	described, err := s.store.Flag(reading, e.Name(), req.GetKey(), revision)
	if err != nil && (!errors.Is(err, store.ErrUnavailable) || revision != 0) {
		return nil, err
	}
	// Without Postgres the flag is shown without what describes it.
	describe(out, described)
	if killed := out.GetKilled(); killed != nil {
		made, err := s.store.Revision(reading, e.Name(), killed.GetRevision())
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			return nil, err
		}
		killed.At, killed.By, killed.Reason = toTime(made.Time), made.Actor, made.Reason
	}
	return &guidonv1.FlagServiceGetResponse{Flag: out}, nil
}

func (s flags) History(ctx context.Context, req *guidonv1.FlagServiceHistoryRequest) (*guidonv1.FlagServiceHistoryResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	ended, token, err := historyToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	page, err := storePage(req.GetPageSize(), token)
	if err != nil {
		return nil, err
	}
	versions, next, err := s.store.FlagHistory(ctx, e.Name(), req.GetKey(), page)
	if err != nil {
		return nil, err
	}
	out := &guidonv1.FlagServiceHistoryResponse{}
	for _, v := range versions {
		if v.After != nil { // else the flag was deleted: an end, and no version
			f, err := compile(req.GetKey(), v.Revision, v.After, v.Emergencies)
			if err != nil {
				return nil, err
			}
			version := &guidonv1.FlagVersion{ToRevision: ended, Reason: v.Reason, ChangeId: v.ChangeID}
			if version.Flag, err = toFlag(e.Name(), f); err != nil {
				return nil, err
			}
			if version.Fields, err = toFields(v.Before, v.After); err != nil {
				return nil, err
			}
			version.Flag.UpdatedAt, version.Flag.UpdatedBy = toTime(v.Time), v.Actor
			out.Versions = append(out.Versions, version)
		}
		ended = v.Revision
	}
	if next != "" {
		out.NextPageToken = strconv.FormatInt(ended, 10) + "." + next
	}
	return out, nil
}

// historyToken splits the token of a page of history: the revision at which the
// page before began, which ended the first version of this one, and the
// store's token.
func historyToken(token string) (ended int64, rest string, err error) {
	if token == "" {
		return 0, "", nil
	}
	revision, rest, ok := strings.Cut(token, ".")
	if ended, err = strconv.ParseInt(revision, 10, 64); err != nil || !ok || ended < 1 {
		return 0, "", &store.FieldError{Field: "page_token", Message: "is not one that this list returned"}
	}
	return ended, rest, nil
}
