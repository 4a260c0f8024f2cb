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
			return printKilled(cmd.OutOrStdout(), out, res, res)
		},
	}
	requireEnvironment(cmd, &req.Environment)
	cmd.Flags().StringVar(&variant, "variant", "", "variant to serve (required)")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why (required)")
	cmd.Flags().StringArrayVar(&also, "also", nil, "KEY=VARIANT of another flag to kill with it; may be repeated")
	for _, name := range []string{"variant", "reason"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // it was defined just above
		}
	}
	return cmd
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
