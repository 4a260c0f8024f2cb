package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
)

// audits answers AuditService.
type audits struct{ *Server }

func (s audits) List(ctx context.Context, req *guidonv1.AuditServiceListRequest) (*guidonv1.AuditServiceListResponse, error) {
	page, err := storePage(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	filter := store.AuditFilter{
		Flag: req.GetFlag(), Actor: req.GetActor(), Action: req.GetAction(), ChangeID: req.GetChangeId(), Key: req.GetKey(),
		Revision: req.GetRevision(), CorrelationID: req.GetCorrelationId(), Text: req.GetText(),
	}
	if at := req.GetAfter(); at != nil {
		filter.After = at.AsTime()
	}
	if at := req.GetBefore(); at != nil {
		filter.Before = at.AsTime()
	}
	switch name := req.GetEnvironment(); {
	case name != "" && req.GetInstallation():
		return nil, &store.FieldError{Field: "installation", Message: "and environment: want one of them"}
	case name == "" && req.GetRevision() != 0:
		return nil, &store.FieldError{Field: "revision", Message: "needs an environment"}
	case req.GetInstallation():
		filter.Environments = []string{audit.Installation}
	case name != "":
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

func (s audits) Get(ctx context.Context, req *guidonv1.AuditServiceGetRequest) (*guidonv1.AuditServiceGetResponse, error) {
	name, number, ok := strings.Cut(req.GetId(), "/")
	seq, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || seq < 1 || strconv.FormatInt(seq, 10) != number {
		return nil, &store.FieldError{Field: "id", Message: `must be "<environment>/<sequence>"`}
	}
	if name, err = s.chain(ctx, name); err != nil {
		return nil, err
	}
	e, err := s.store.AuditEntry(ctx, name, seq)
	if err != nil {
		return nil, err
	}
	entry, err := toAuditEntry(e)
	return &guidonv1.AuditServiceGetResponse{Entry: entry, Payload: e.Payload}, err
}

// chain is the one that a call is about: an environment's, or the
// installation's for those whose key belongs to no environment.
func (s audits) chain(ctx context.Context, name string) (string, error) {
	name, err := auth.FromContext(ctx).Environment(name)
	if err != nil || name == audit.Installation {
		return name, err
	}
	e, err := s.environment(ctx, name)
	if err != nil {
		return "", err
	}
	return e.Name(), nil
}

// exportPart is how much of an export is sent at a time.
const exportPart = 256 << 10

func (s audits) Export(ctx context.Context, req *guidonv1.AuditServiceExportRequest, out *connect.ServerStream[guidonv1.AuditServiceExportResponse]) error {
	if err := checkText("", req.ProtoReflect()); err != nil {
		return err
	}
	name, err := s.chain(ctx, req.GetEnvironment())
	if err != nil {
		return err
	}
	export := s.store.ExportAudit
	switch req.GetFormat() {
	case "", "ndjson":
	case "csv":
		export = s.store.CSVAudit
	default:
		return &store.FieldError{Field: "format", Message: "must be ndjson or csv"}
	}
	// The whole may take long; each part has a time of its own.
	control := callOf(ctx).control
	_ = control.SetReadDeadline(time.Time{})
	var part []byte
	send := func() error {
		_ = control.SetWriteDeadline(s.now().Add(s.cfg.Progress))
		if err := out.Send(&guidonv1.AuditServiceExportResponse{Data: part}); err != nil {
			return fmt.Errorf("%w: %w", context.Canceled, err)
		}
		part = part[:0]
		return nil
	}
	_ = control.SetWriteDeadline(time.Time{})
	for lines, err := range export(ctx, name) {
		if err != nil {
			return err
		}
		if part = append(part, lines...); len(part) >= exportPart {
			if err := send(); err != nil {
				return err
			}
			_ = control.SetWriteDeadline(time.Time{})
		}
	}
	return send()
}

// Outcomes of a verification, as the API says them.
const (
	outcomeOK         = "ok"
	outcomeBroken     = "broken"
	outcomeState      = "state"
	outcomeCheckpoint = "checkpoint"
)

// maxVerifying bounds the verifications under way, each of which keeps a core
// and a connection to the database busy; others are refused.
const maxVerifying = 2

// errVerifying refuses a verification that is one too many.
var errVerifying = fmt.Errorf("this server verifies %d chains already; try again when one of them is done", maxVerifying)

func (s audits) Verify(ctx context.Context, req *guidonv1.AuditServiceVerifyRequest) (*guidonv1.AuditServiceVerifyResponse, error) {
	name, err := s.chain(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	select {
	case s.verifying <- struct{}{}:
		defer func() { <-s.verifying }()
	default:
		return nil, errVerifying
	}
	if deadline, ok := ctx.Deadline(); ok {
		control := callOf(ctx).control
		_ = control.SetReadDeadline(time.Time{})
		_ = control.SetWriteDeadline(deadline.Add(callTimeout)) // to say that it is over
	}
	verifier, err := s.store.CheckpointVerifier(ctx)
	if err != nil {
		return nil, err
	}
	out := &guidonv1.AuditServiceVerifyResponse{Outcome: outcomeOK, Verifier: verifier}
	var v audit.Verified
	known, err := openCheckpoints(req.GetCheckpoints(), verifier, name)
	if err == nil {
		v, err = s.store.VerifyAudit(ctx, name, verifier, known...)
	}
	out.Entries, out.Head, out.Covered = v.Head.Seq, v.Head.Hash.String(), v.Covered
	for _, finding := range []struct {
		outcome string
		is      bool
	}{
		{outcomeBroken, is[*audit.BrokenError](err)},
		{outcomeState, is[*audit.StateError](err)},
		{outcomeCheckpoint, is[*audit.CheckpointError](err)},
	} {
		if finding.is {
			out.Outcome, out.Detail = finding.outcome, err.Error()
			return out, nil
		}
	}
	return out, err
}

// openCheckpoints opens the checkpoints that a caller remembers of a chain, by size.
// One that another key signed, or that is of another chain, is not of this log.
func openCheckpoints(notes []string, verifier, scope string) ([]checkpoint.Checkpoint, error) {
	var known []checkpoint.Checkpoint
	for i, note := range notes {
		if verifier == "" {
			return nil, &audit.CheckpointError{Scope: scope, Reason: "it has no key that signs checkpoints"}
		}
		c, err := checkpoint.Open(note, verifier)
		switch {
		case errors.Is(err, checkpoint.ErrSignature):
			return nil, &audit.CheckpointError{Scope: scope, Reason: fmt.Sprintf("checkpoints[%d]: %v", i, err)}
		case err != nil:
			return nil, &store.FieldError{Field: fmt.Sprintf("checkpoints[%d]", i), Message: err.Error()}
		case !c.Of(scope):
			return nil, &audit.CheckpointError{Scope: scope, Size: c.Size, Reason: fmt.Sprintf("checkpoints[%d] is of another chain", i)}
		}
		known = append(known, c)
	}
	slices.SortStableFunc(known, func(a, b checkpoint.Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	return known, nil
}

// is reports whether an error is of a type.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func (s audits) Erase(ctx context.Context, req *guidonv1.AuditServiceEraseRequest) (*guidonv1.AuditServiceEraseResponse, error) {
	erased, err := s.store.Erase(ctx, store.Erasure{
		Person: req.GetPerson(), DryRun: req.GetDryRun(), Reason: req.GetReason(),
		Actor: auth.FromContext(ctx).String(), CorrelationID: callOf(ctx).correlationID,
	})
	if err != nil {
		return nil, err
	}
	if !req.GetDryRun() {
		s.log.LogAttrs(ctx, slog.LevelInfo, "person erased", slog.Int("reasons", erased.Reasons), slog.Int64("rows", erased.Rows),
			slog.String("key_id", auth.FromContext(ctx).KeyID))
	}
	return &guidonv1.AuditServiceEraseResponse{Names: int32(erased.Names), Reasons: int32(erased.Reasons), Origins: erased.Origins, Rows: erased.Rows}, nil
}
