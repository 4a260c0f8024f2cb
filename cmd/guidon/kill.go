package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newFlagKillCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.ChangeServiceKillRequest
	var variant string
	var also []string
	var watch bool
	cmd := &cobra.Command{
		Use:   "kill KEY",
		Short: "Make a flag serve a variant now, for requests under way too: an emergency",
		Long: "Make a flag serve a variant now, whatever its definition says, for requests and messages\n" +
			"that are under way too. 'guidon flag disable' and 'set-default' change new requests only.\n" +
			"Flags that require this one are killed with it: name them with --also KEY=VARIANT.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Kills = []*guidonv1.Kill{{Key: args[0], Variant: variant}}
			for _, text := range also {
				key, variant, ok := strings.Cut(text, "=")
				if !ok || key == "" || variant == "" {
					return usagef("--also %q: want KEY=VARIANT", text)
				}
				req.Kills = append(req.Kills, &guidonv1.Kill{Key: key, Variant: variant})
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			req.IdempotencyKey = uuid.NewString()
			res, err := again(cmd.Context(), &req, api.changes.Kill)
			if err != nil {
				return err
			}
			if !watch {
				return printKilled(cmd.OutOrStdout(), out, res, res)
			}
			for {
				report, err := api.changes.KillReport(cmd.Context(), &guidonv1.ChangeServiceKillReportRequest{
					Environment: req.GetEnvironment(), Revision: emergencyOf(cmd.Context(), api, req.GetEnvironment(), args[0], res.GetRevision()),
				})
				if err != nil {
					return err
				}
				if report.GetReached() >= report.GetConnected() {
					return printReport(cmd.OutOrStdout(), out, report)
				}
				select {
				case <-time.After(reportPoll):
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				}
			}
		},
	}
	requireEnvironment(cmd, &req.Environment)
	cmd.Flags().StringVar(&variant, "variant", "", "variant to serve (required)")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why (required)")
	cmd.Flags().BoolVar(&watch, "watch", false, "return when every connected instance has it, with a report")
	cmd.Flags().StringArrayVar(&also, "also", nil, "KEY=VARIANT of another flag to kill with it; may be repeated")
	for _, name := range []string{"variant", "reason"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // it was defined just above
		}
	}
	return cmd
}

// reportPoll is how often a command that watches looks how far a kill has come.
const reportPoll = 250 * time.Millisecond

// emergencyOf returns the revision that killed a flag: revision itself, unless
// the flag was killed before and the kill changed nothing.
func emergencyOf(ctx context.Context, api *api, environment, key string, revision int64) int64 {
	res, err := api.flags.Get(ctx, &guidonv1.FlagServiceGetRequest{Environment: environment, Key: key})
	if killed := res.GetFlag().GetKilled().GetRevision(); err == nil && killed != 0 {
		return killed
	}
	return revision
}

func newFlagKillReportCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.ChangeServiceKillReportRequest
	cmd := &cobra.Command{
		Use:   "kill-report KEY",
		Short: "Show how far the kill of a flag has come",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			if req.GetRevision() == 0 {
				res, err := api.flags.Get(cmd.Context(), &guidonv1.FlagServiceGetRequest{Environment: req.GetEnvironment(), Key: args[0]})
				if err != nil {
					return err
				}
				if req.Revision = res.GetFlag().GetKilled().GetRevision(); req.GetRevision() == 0 {
					return fmt.Errorf("flag %q is not killed in %s now; give --revision for an earlier kill", args[0], req.GetEnvironment())
				}
			}
			report, err := api.changes.KillReport(cmd.Context(), &req)
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), out, report)
		},
	}
	requireEnvironment(cmd, &req.Environment)
	cmd.Flags().Int64Var(&req.Revision, "revision", 0, "revision that the kill made (default the one that holds now)")
	return cmd
}

func printReport(w io.Writer, out *output, r *guidonv1.ChangeServiceKillReportResponse) error {
	return out.print(w, message{r}, func(t *table) {
		for _, k := range r.GetKills() {
			t.row("killed", k.GetKey()+" = "+k.GetVariant())
		}
		t.row("revision", r.GetRevision())
		t.row("at", when(r.GetKilledAt()))
		reached := fmt.Sprintf("%d of %d connected instances", r.GetReached(), r.GetConnected())
		if r.GetPartial() {
			reached += ", as far as this server knows"
		}
		t.row("reached", reached)
		if r.GetTimed() > 0 {
			t.row("time to effect", fmt.Sprintf("p50 %s, p99 %s, last %s",
				r.GetP50().AsDuration().Round(time.Millisecond), r.GetP99().AsDuration().Round(time.Millisecond), r.GetLast().AsDuration().Round(time.Millisecond)))
		}
		if rec := r.GetRecorded(); rec != nil {
			t.row("noted then", fmt.Sprintf("%d of %d connected instances, at %s", rec.GetReached(), rec.GetConnected(), when(rec.GetRecordedAt())))
		}
		t.row("changed under way", fmt.Sprintf("%d requests", r.GetPierced()))
	})
}

func newFlagUnkillCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.ChangeServiceUnkillRequest
	cmd := &cobra.Command{
		Use:   "unkill KEY…",
		Short: "Let killed flags serve what their definitions say again, for new requests only",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			req.Keys, req.IdempotencyKey = args, uuid.NewString()
			res, err := again(cmd.Context(), &req, api.changes.Unkill)
			if err != nil {
				return err
			}
			return printKilled(cmd.OutOrStdout(), out, res, res)
		},
	}
	requireEnvironment(cmd, &req.Environment)
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; required where the environment is protected")
	return cmd
}

// killed is what the answers to a kill and to an unkill have in common.
type killed interface {
	GetRevision() int64
	GetChanges() []*guidonv1.Change
	GetWarnings() []string
}

func printKilled(w io.Writer, out *output, m proto.Message, k killed) error {
	return out.print(w, message{m}, func(t *table) {
		for _, c := range k.GetChanges() {
			t.row(c.GetAction(), "flag", c.GetName(), c.GetEnvironment(), fmt.Sprintf("revision %d", k.GetRevision()))
		}
		for _, warning := range k.GetWarnings() {
			t.row("warning: " + warning)
		}
	})
}

// again makes a call whose request holds an idempotency key, and makes it again
// where the answer was lost.
func again[Req, Res any](ctx context.Context, req Req, call func(context.Context, Req) (Res, error)) (Res, error) {
	const attempts = 3
	wait := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		res, err := call(ctx, req)
		if connect.CodeOf(err) != connect.CodeUnavailable || attempt == attempts {
			return res, err
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return res, err
		}
	}
}
