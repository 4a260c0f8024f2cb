package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// derived holds the flags of a command whose change the server makes up.
type derived struct {
	remote
	environment, reason string
	expected            expectedRevision
	dryRun              bool
}

func (d *derived) register(cmd *cobra.Command) {
	d.remote.register(cmd.Flags())
	requireEnvironment(cmd, &d.environment)
	cmd.Flags().StringVar(&d.reason, "reason", "", "why; required where an environment is protected")
	d.expected.register(cmd, "the newest revision of the environment that is written")
	cmd.Flags().BoolVar(&d.dryRun, "dry-run", false, "say what would happen and change nothing")
}

// run makes the change in an environment under a key of its own, so that it is
// made once.
func (d *derived) run(cmd *cobra.Command, out *output, environment string, do func(ctx context.Context, api *api, c derivedCall) (*guidonv1.ChangeResult, error)) error {
	expected, err := d.expected.of(environment)
	if err != nil {
		return err
	}
	api, err := d.open()
	if err != nil {
		return err
	}
	c := derivedCall{expected: expected}
	if !d.dryRun {
		c.key = uuid.NewString()
	}
	res, err := again(cmd.Context(), c, func(ctx context.Context, c derivedCall) (*guidonv1.ChangeResult, error) { return do(ctx, api, c) })
	if err != nil {
		return err
	}
	return out.print(cmd.OutOrStdout(), message{res}, func(t *table) {
		rowChanges(t, res.GetChanges())
		for _, warning := range res.GetWarnings() {
			t.row("warning: " + warning)
		}
		for environment, revision := range res.GetRevisions() {
			switch {
			case res.GetUnchanged():
			case d.dryRun:
				t.row(fmt.Sprintf("%s would be at revision %d; this was a dry run, nothing was changed", environment, revision))
			default:
				t.row(fmt.Sprintf("%s is at revision %d", environment, revision))
			}
		}
		if res.GetUnchanged() {
			t.row("unchanged")
		}
	})
}

// derivedCall is what all such requests have in common beside the flags.
type derivedCall struct {
	key      string
	expected map[string]int64
}

func newRevertCommand(out *output) *cobra.Command {
	var d derived
	cmd := &cobra.Command{
		Use:   "revert REVISION",
		Short: "Undo what one revision did, as a new change",
		Long: "Undo what one revision did, as a new change. What was changed again since then is a conflict\n" +
			"(exit code 3), and named; nothing is changed then.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			revision, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return usagef("%q is not a revision", args[0])
			}
			return d.run(cmd, out, d.environment, func(ctx context.Context, api *api, c derivedCall) (*guidonv1.ChangeResult, error) {
				res, err := api.changes.Revert(ctx, &guidonv1.ChangeServiceRevertRequest{
					Environment: d.environment, Revision: revision, Reason: d.reason, IdempotencyKey: c.key, ExpectedRevisions: c.expected, DryRun: d.dryRun,
				})
				return res.GetResult(), err
			})
		},
	}
	d.register(cmd)
	return cmd
}

func newRestoreCommand(out *output) *cobra.Command {
	var d derived
	var at pointInTime
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Make an environment what it was at a revision or a time, as a new change",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.run(cmd, out, d.environment, func(ctx context.Context, api *api, c derivedCall) (*guidonv1.ChangeResult, error) {
				revision, err := at.resolve(ctx, api, d.environment)
				if err != nil {
					return nil, err
				}
				res, err := api.changes.Restore(ctx, &guidonv1.ChangeServiceRestoreRequest{
					Environment: d.environment, Revision: revision, Reason: d.reason, IdempotencyKey: c.key, ExpectedRevisions: c.expected, DryRun: d.dryRun,
				})
				return res.GetResult(), err
			})
		},
	}
	d.register(cmd)
	at.register(cmd)
	cmd.Flags().Lookup("revision").Usage = "make it what it was at this revision"
	cmd.Flags().Lookup("at").Usage = "make it what it was at this time, such as 2026-03-01T14:02:00Z"
	cmd.MarkFlagsOneRequired("revision", "at")
	return cmd
}

// pointInTime holds the flags that name a revision or a time.
type pointInTime struct {
	revision int64
	at       string
}

func (p *pointInTime) register(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&p.revision, "revision", 0, "as of this revision (default the newest)")
	cmd.Flags().StringVar(&p.at, "at", "", "as of this time, such as 2026-03-01T14:02:00Z")
	cmd.MarkFlagsMutuallyExclusive("revision", "at")
}

// time is nil if none was given.
func (p *pointInTime) time() (*timestamppb.Timestamp, error) {
	if p.at == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339, p.at)
	if err != nil {
		return nil, usagef("--at %q: want a time such as 2026-03-01T14:02:00Z", p.at)
	}
	return timestamppb.New(t), nil
}

// resolve finds the revision that was the newest at the time.
func (p *pointInTime) resolve(ctx context.Context, api *api, environment string) (int64, error) {
	at, err := p.time()
	if err != nil || at == nil {
		return p.revision, err
	}
	res, err := api.revisions.Get(ctx, &guidonv1.RevisionServiceGetRequest{Environment: environment, Time: at})
	return res.GetRevision().GetRevision(), err
}

func newPromoteCommand(out *output) *cobra.Command {
	var d derived
	req := &guidonv1.ChangeServicePromoteRequest{}
	cmd := &cobra.Command{
		Use:   "promote [FLAG…]",
		Short: "Make flags of one environment what they are in another",
		Long: "Make flags of the environment --to what they are in --environment, in one change, with the\n" +
			"segments and prerequisites that they need.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.run(cmd, out, req.To, func(ctx context.Context, api *api, c derivedCall) (*guidonv1.ChangeResult, error) {
				req.Environment, req.Flags, req.Reason, req.DryRun = d.environment, args, d.reason, d.dryRun
				req.IdempotencyKey, req.ExpectedRevisions = c.key, c.expected
				res, err := api.changes.Promote(ctx, req)
				return res.GetResult(), err
			})
		},
	}
	d.register(cmd)
	cmd.Flags().StringVar(&req.To, "to", "", "environment to promote to (required)")
	cmd.Flags().StringSliceVar(&req.Segments, "segment", nil, "segments to promote")
	cmd.Flags().BoolVar(&req.Settings, "settings", false, "promote the environment's settings")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic(err) // it was defined above
	}
	return cmd
}

func newCopyCommand(out *output) *cobra.Command {
	var d derived
	var to string
	cmd := &cobra.Command{
		Use:   "copy",
		Short: "Fill an environment that was just created with all that another one holds",
		Long: "Fill the environment --to, in which nothing was ever published, with all that --environment holds:\n" +
			"flags, segments and settings, in one change. Archived flags and kills are left out.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.run(cmd, out, to, func(ctx context.Context, api *api, c derivedCall) (*guidonv1.ChangeResult, error) {
				res, err := api.changes.Copy(ctx, &guidonv1.ChangeServiceCopyRequest{
					Environment: d.environment, To: to, Reason: d.reason, IdempotencyKey: c.key, ExpectedRevisions: c.expected, DryRun: d.dryRun,
				})
				return res.GetResult(), err
			})
		},
	}
	d.register(cmd)
	cmd.Flags().StringVar(&to, "to", "", "environment to copy to (required)")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic(err) // it was defined above
	}
	return cmd
}

func newCompareCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "compare ENVIRONMENT OTHER",
		Short: "List what leads from one environment to another, or to what it was, field by field",
		Long: "List what leads from one environment to another, field by field. Each is as it is now, or with\n" +
			"@REVISION or @TIME as it was then: 'guidon compare production@41 production'.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &guidonv1.EnvironmentServiceCompareRequest{}
			var err error
			if req.Environment, req.Revision, req.Time, err = readMoment(args[0]); err != nil {
				return err
			}
			if req.Other, req.OtherRevision, req.OtherTime, err = readMoment(args[1]); err != nil {
				return err
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			diffs, _, err := pages(0, func(size int32, token string) ([]*guidonv1.RowDiff, string, error) {
				req.PageSize, req.PageToken = size, token
				res, err := api.environments.Compare(cmd.Context(), req)
				if err == nil { // all pages are of what the first one was
					req.Revision, req.Time = res.GetRevision(), nil
					req.OtherRevision, req.OtherTime = res.GetOtherRevision(), nil
				}
				return res.GetDiffs(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			compared := list("diffs", diffs)
			compared["revision"], compared["otherRevision"] = req.GetRevision(), req.GetOtherRevision()
			return out.print(cmd.OutOrStdout(), compared, func(t *table) {
				for _, d := range diffs {
					t.row(d.GetAction(), d.GetKind(), d.GetName())
					if d.GetAction() == "changed" {
						fieldRows(t, d.GetFields())
					}
				}
				if len(diffs) == 0 {
					t.row("no difference")
				}
			})
		},
	}
	r.register(cmd.Flags())
	return cmd
}

// readMoment reads ENVIRONMENT, ENVIRONMENT@REVISION or ENVIRONMENT@TIME.
func readMoment(text string) (environment string, revision int64, at *timestamppb.Timestamp, err error) {
	environment, moment, named := strings.Cut(text, "@")
	if !named {
		return environment, 0, nil, nil
	}
	if revision, err = strconv.ParseInt(moment, 10, 64); err == nil && revision > 0 {
		return environment, revision, nil, nil
	}
	t, err := time.Parse(time.RFC3339, moment)
	if err != nil {
		return "", 0, nil, usagef("%q: want ENVIRONMENT, ENVIRONMENT@41 or ENVIRONMENT@2026-03-01T14:02:00Z", text)
	}
	return environment, 0, timestamppb.New(t), nil
}
