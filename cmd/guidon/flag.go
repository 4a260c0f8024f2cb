package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newFlagCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "flag",
		Short: "Read flags, switch them on and off, kill them, choose how they are treated, archive them",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(
		newFlagListCommand(out, &r),
		newFlagGetCommand(out, &r),
		newFlagStateCommand(out, &r, "enable", "ENABLED", "Switch a flag on"),
		newFlagStateCommand(out, &r, "disable", "DISABLED", "Switch a flag off: every caller gets its own default"),
		newFlagSetDefaultCommand(out, &r),
		newFlagSetCommand(out, &r),
		newFlagDescribeCommand(out, &r),
		newFlagArchiveCommand(out, &r),
		newFlagRestoreCommand(out, &r),
		newFlagDeleteCommand(out, &r),
		newFlagKillCommand(out, &r),
		newFlagKillReportCommand(out, &r),
		newFlagUnkillCommand(out, &r),
	)
	return cmd
}

func newFlagListCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.FlagServiceListRequest
	var limit int
	var at pointInTime
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List flags by key",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if at != (pointInTime{}) && req.GetEnvironment() == "" {
				return usagef("--revision and --at are of one environment: name it with --environment")
			}
			var err error
			if req.Time, err = at.time(); err != nil {
				return err
			}
			req.Revision = at.revision
			api, err := r.open()
			if err != nil {
				return err
			}
			flags, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.Flag, string, error) {
				req.PageSize, req.PageToken = size, token
				res, err := api.flags.List(cmd.Context(), &req)
				return res.GetFlags(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			noteMore(cmd, more)
			return out.print(cmd.OutOrStdout(), list("flags", flags), func(t *table) {
				t.row("KEY", "ENVIRONMENT", "STATE", "DEFAULT", "TYPE", "KIND", "SCOPE", "PROJECT", "REVISION", "UPDATED")
				for _, f := range flags {
					t.row(f.GetKey(), f.GetEnvironment(), state(f), f.GetDefaultVariant(), f.GetType(),
						f.GetKind(), f.GetScope(), f.GetProject(), f.GetRevision(), when(f.GetUpdatedAt()))
				}
			})
		},
	}
	cmd.Flags().StringVar(&req.Environment, "environment", "", "environment to list (default all)")
	cmd.Flags().StringVar(&req.Project, "project", "", "only flags of this project")
	cmd.Flags().StringVar(&req.Query, "query", "", "only flags whose key or description contains this")
	cmd.Flags().BoolVar(&req.IncludeArchived, "archived", false, "archived flags too")
	registerLimit(cmd.Flags(), &limit, 0)
	at.register(cmd)
	return cmd
}

func newFlagGetCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.FlagServiceGetRequest
	var at pointInTime
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Show one flag of one environment",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			time, err := at.time()
			if err != nil {
				return err
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			req.Key, req.Revision, req.Time = args[0], at.revision, time
			res, err := api.flags.Get(cmd.Context(), &req)
			if err != nil {
				return err
			}
			f := res.GetFlag()
			return out.print(cmd.OutOrStdout(), message{f}, func(t *table) {
				t.row("key", f.GetKey())
				t.row("environment", f.GetEnvironment())
				t.row("project", f.GetProject())
				t.row("state", state(f))
				if k := f.GetKilled(); k != nil {
					t.row("killed", fmt.Sprintf("%s = %s since revision %d, %s by %s: %s", k.GetVariant(), compact(k.GetValue()),
						k.GetRevision(), when(k.GetAt()), k.GetBy(), k.GetReason()))
				}
				if f.GetProblem() != "" {
					t.row("problem", f.GetProblem())
				}
				t.row("default variant", f.GetDefaultVariant())
				t.row("type", f.GetType())
				t.row("kind", f.GetKind())
				t.row("scope", f.GetScope())
				t.row("revision", f.GetRevision())
				t.row("updated", when(f.GetUpdatedAt())+" by "+f.GetUpdatedBy())
				t.row("owner", f.GetOwner())
				t.row("description", f.GetDescription())
				t.row("tags", join(f.GetTags()))
				t.row("reads", join(f.GetReads()))
				t.row("not travelling", join(f.GetNotTravelling()))
				t.row("attach", f.GetAttach())
				t.row("overridable", f.GetOverridable())
				t.row("client visible", f.GetClientVisible())
				t.row("pierce", f.GetPierce())
				t.row("pin unavailable", f.GetPinUnavailable())
				t.row("definition", compact(f.GetDefinition()))
			})
		},
	}
	requireEnvironment(cmd, &req.Environment)
	at.register(cmd)
	return cmd
}

func newFlagStateCommand(out *output, r *remote, verb, state, short string) *cobra.Command {
	var c change
	op := &guidonv1.SetState{State: state}
	cmd := &cobra.Command{
		Use:   verb + " KEY",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			op.Environment, op.Key = c.environment, args[0]
			return c.apply(cmd.Context(), cmd.OutOrStdout(), out, r,
				&guidonv1.Operation{Operation: &guidonv1.Operation_SetState{SetState: op}})
		},
	}
	c.register(cmd)
	return cmd
}

func newFlagSetDefaultCommand(out *output, r *remote) *cobra.Command {
	var c change
	var op guidonv1.SetDefaultVariant
	cmd := &cobra.Command{
		Use:   "set-default KEY VARIANT",
		Short: "Choose the variant served where no rule decides",
		Long:  "Choose the variant served where no rule decides. An empty VARIANT (\"\") leaves the value to each caller.",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			op.Environment, op.Key, op.Variant = c.environment, args[0], args[1]
			return c.apply(cmd.Context(), cmd.OutOrStdout(), out, r,
				&guidonv1.Operation{Operation: &guidonv1.Operation_SetDefaultVariant{SetDefaultVariant: &op}})
		},
	}
	c.register(cmd)
	return cmd
}

func newFlagSetCommand(out *output, r *remote) *cobra.Command {
	var c change
	var attach, overridable, clientVisible bool
	var pierce, pinUnavailable string
	cmd := &cobra.Command{
		Use:   "set KEY",
		Short: "Choose how a flag is treated: carried, overridden, killed, seen by clients; what is not named stays",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			op := &guidonv1.SetAttributes{Environment: c.environment, Key: args[0]}
			if cmd.Flags().Changed("attach") {
				op.Attach = &attach
			}
			if cmd.Flags().Changed("overridable") {
				op.Overridable = &overridable
			}
			if cmd.Flags().Changed("pierce") {
				op.Pierce = &pierce
			}
			if cmd.Flags().Changed("pin-unavailable") {
				op.PinUnavailable = &pinUnavailable
			}
			if cmd.Flags().Changed("client-visible") {
				op.ClientVisible = &clientVisible
			}
			return c.apply(cmd.Context(), cmd.OutOrStdout(), out, r,
				&guidonv1.Operation{Operation: &guidonv1.Operation_SetAttributes{SetAttributes: op}})
		},
	}
	c.register(cmd)
	cmd.Flags().BoolVar(&attach, "attach", false, "carry the flag's variant in the header, for services with no evaluator")
	cmd.Flags().BoolVar(&overridable, "overridable", false, "let overrides force the flag; see 'guidon override'")
	cmd.Flags().StringVar(&pierce, "pierce", "", "never: a kill reaches new requests only, none under way; \"\" for all")
	cmd.Flags().StringVar(&pinUnavailable, "pin-unavailable", "", "nearest: requests whose pinned revision is no longer kept get the oldest that is, and are told so; \"\" for an error")
	cmd.Flags().BoolVar(&clientVisible, "client-visible", false, "let client keys, which are in browsers and apps, see the flag")
	cmd.MarkFlagsOneRequired("attach", "overridable", "pierce", "pin-unavailable", "client-visible")
	return cmd
}

func newFlagArchiveCommand(out *output, r *remote) *cobra.Command {
	return newFlagKeyCommand(out, r, "archive", "Retire a flag in every environment: each caller gets its own default", func(key string) *guidonv1.Operation {
		return &guidonv1.Operation{Operation: &guidonv1.Operation_ArchiveFlag{ArchiveFlag: &guidonv1.ArchiveFlag{Key: key}}}
	})
}

func newFlagRestoreCommand(out *output, r *remote) *cobra.Command {
	return newFlagKeyCommand(out, r, "restore", "Take an archived flag back into use; it stays off until it is switched on", func(key string) *guidonv1.Operation {
		return &guidonv1.Operation{Operation: &guidonv1.Operation_RestoreFlag{RestoreFlag: &guidonv1.RestoreFlag{Key: key}}}
	})
}

func newFlagDeleteCommand(out *output, r *remote) *cobra.Command {
	return newFlagKeyCommand(out, r, "delete", "Delete an archived flag from every environment; its key stays taken", func(key string) *guidonv1.Operation {
		return &guidonv1.Operation{Operation: &guidonv1.Operation_DeleteFlag{DeleteFlag: &guidonv1.DeleteFlag{Key: key}}}
	})
}

// newFlagKeyCommand makes a command about a key in all environments.
func newFlagKeyCommand(out *output, r *remote, verb, short string, operation func(key string) *guidonv1.Operation) *cobra.Command {
	var c change
	cmd := &cobra.Command{
		Use:   verb + " KEY",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.apply(cmd.Context(), cmd.OutOrStdout(), out, r, operation(args[0]))
		},
	}
	c.registerReason(cmd)
	return cmd
}

// change holds the flags of a command that changes one environment by one
// operation.
type change struct {
	environment string
	reason      string
	expected    expectedRevision
}

func (c *change) register(cmd *cobra.Command) {
	requireEnvironment(cmd, &c.environment)
	c.registerReason(cmd)
	c.expected.register(cmd, "the environment's newest revision")
}

// expectedRevision is the revision that an environment must be at, 0 for any.
type expectedRevision int64

func (e *expectedRevision) register(cmd *cobra.Command, what string) {
	cmd.Flags().Int64Var((*int64)(e), "expected-revision", 0, "fail with exit code 3 unless this is "+what+" (default: do not check)")
}

// of is the expectation as requests have it.
func (e *expectedRevision) of(environment string) (map[string]int64, error) {
	switch {
	case *e < 0:
		return nil, usagef("--expected-revision %d: revisions start at 1", *e)
	case *e == 0:
		return nil, nil
	}
	return map[string]int64{environment: int64(*e)}, nil
}

func (c *change) registerReason(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.reason, "reason", "", "why; required where an environment is protected")
}

func (c *change) apply(ctx context.Context, w io.Writer, out *output, r *remote, op *guidonv1.Operation) error {
	api, err := r.open()
	if err != nil {
		return err
	}
	req := &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{op}, Reason: c.reason}
	if req.ExpectedRevisions, err = c.expected.of(c.environment); err != nil {
		return err
	}
	res, err := api.apply(ctx, req)
	if err != nil {
		return err
	}
	return printApplied(w, out, res)
}

// printApplied says what a change set did.
func printApplied(w io.Writer, out *output, res *guidonv1.ChangeServiceApplyResponse) error {
	return out.print(w, message{res}, func(t *table) {
		for _, c := range res.GetChanges() {
			if revision, ok := res.GetRevisions()[c.GetEnvironment()]; ok {
				t.row(c.GetAction(), c.GetKind(), c.GetName(), c.GetEnvironment(), fmt.Sprintf("revision %d", revision))
			} else {
				t.row(c.GetAction(), c.GetKind(), c.GetName(), c.GetEnvironment())
			}
		}
		for _, warning := range res.GetWarnings() {
			t.row("warning: " + warning)
		}
	})
}

// state is a flag's state as people speak of it.
func state(f *guidonv1.Flag) string {
	if f.GetKilled() != nil {
		return "KILLED"
	}
	if f.GetArchived() {
		return "ARCHIVED"
	}
	if f.GetState() == "ENABLED" && f.GetProblem() != "" {
		return "INVALID"
	}
	return f.GetState()
}

func requireEnvironment(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "environment", "", "environment (required)")
	if err := cmd.MarkFlagRequired("environment"); err != nil {
		panic(err) // it was defined on the line above
	}
}

func registerLimit(flags *pflag.FlagSet, limit *int, def int) {
	flags.IntVar(limit, "limit", def, "print at most this many; 0 means all")
}

// noteMore says on standard error that a list was cut.
func noteMore(cmd *cobra.Command, more bool) {
	if more {
		cmd.PrintErrln("there are more: raise --limit, or 0 for all")
	}
}
