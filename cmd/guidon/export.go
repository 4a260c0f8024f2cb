package main

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newExportCommand(_ *output) *cobra.Command {
	var r remote
	var environment, format string
	var at pointInTime
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write an environment as a flagd document or as Guidon's own YAML",
		Long: "Write an environment to standard output, as it is or as of a revision or a time: as a flagd document\n" +
			"(--format flagd), with segments and prerequisites inlined and killed flags as they are served; or\n" +
			"whole as YAML for 'guidon apply' (--format yaml), as it is defined, killed flags with a comment that\n" +
			"says so, archived flags left out. What describes a flag belongs to no revision: its owner,\n" +
			"description, tags, links and schema are those of now, whether it is still there or was deleted since.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			switch {
			case format == "flagd":
				return exportFlagd(cmd.Context(), cmd.OutOrStdout(), api, environment, at)
			case format != "yaml":
				return usagef("--format %q: it is yaml or flagd", format)
			}
			revision, err := at.resolve(cmd.Context(), api, environment)
			if err != nil {
				return err
			}
			d, err := api.declare(cmd.Context(), environment, revision)
			if err != nil {
				return err
			}
			text, err := d.yaml()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	r.register(cmd.Flags())
	requireEnvironment(cmd, &environment)
	cmd.Flags().StringVar(&format, "format", "yaml", "yaml or flagd")
	at.register(cmd)
	return cmd
}

func exportFlagd(ctx context.Context, w io.Writer, api *api, environment string, at pointInTime) error {
	time, err := at.time()
	if err != nil {
		return err
	}
	res, err := api.revisions.Export(ctx, &guidonv1.RevisionServiceExportRequest{Environment: environment, Revision: at.revision, Time: time})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, res.GetDocument())
	return err
}

const declaredFile = "FILE is what 'guidon export' writes, and may be - for standard input. What it declares is put as it\n" +
	"says, in one change; what it does not name stays. Fields that it cannot have are refused. With --prune\n" +
	"flags and segments of the environment that the file does not name are taken out of it: the flags stay\n" +
	"in other environments, and there a service gets its own default for them. A flag's schema is JSON\n" +
	"Schema 2020-12; as there, its format describes values and refuses none: use pattern."

func newApplyCommand(out *output) *cobra.Command {
	var r remote
	var reason string
	var expected expectedRevision
	var prune, force bool
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make an environment what a YAML file declares",
		Long: "Make an environment what a YAML file declares. " + declaredFile +
			"\nFrom a protected environment nothing is taken without --force; 'guidon diff --prune' lists it.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, operations, err := readDeclared(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			if prune {
				there, err := api.declare(cmd.Context(), d.Environment, 0)
				if err != nil {
					return err
				}
				excess := d.without(there)
				if len(excess) > 0 && there.protected && !force {
					return fmt.Errorf("%s is protected, and --prune would take %d flags and segments out of it: see them with 'guidon diff --prune', then repeat with --force",
						d.Environment, len(excess))
				}
				// What it was found to have must be what it has.
				operations, expected = append(operations, excess...), cmp.Or(expected, expectedRevision(there.revision))
			}
			req := &guidonv1.ChangeServiceApplyRequest{Operations: operations, Reason: reason}
			if req.ExpectedRevisions, err = expected.of(d.Environment); err != nil {
				return err
			}
			res := &guidonv1.ChangeServiceApplyResponse{Unchanged: true}
			if len(operations) > 0 {
				res, err = api.apply(cmd.Context(), req)
			} else {
				err = api.isAt(cmd.Context(), d.Environment, int64(expected))
			}
			if err != nil {
				return err
			}
			if !out.json {
				res.Changes = changedOnly(res.GetChanges())
				if len(res.GetChanges()) == 0 {
					_, err := fmt.Fprintln(cmd.OutOrStdout(), "unchanged")
					return err
				}
			}
			return printApplied(cmd.OutOrStdout(), out, res)
		},
	}
	r.register(cmd.Flags())
	cmd.Flags().StringVar(&reason, "reason", "", "why; required where the environment is protected")
	expected.register(cmd, "the environment's newest revision")
	registerPrune(cmd, &prune)
	cmd.Flags().BoolVar(&force, "force", false, "prune although the environment is protected")
	return cmd
}

// isAt checks what Apply would of an environment that nothing is declared for.
func (a *api) isAt(ctx context.Context, environment string, revision int64) error {
	res, err := a.environments.Get(ctx, &guidonv1.EnvironmentServiceGetRequest{Name: environment})
	if newest := res.GetEnvironment().GetRevision(); err == nil && revision != 0 && newest != revision {
		err = connect.NewError(connect.CodeAborted, fmt.Errorf("conflict: %s is at revision %d, expected %d", environment, newest, revision))
	}
	return err
}

func registerPrune(cmd *cobra.Command, prune *bool) {
	cmd.Flags().BoolVar(prune, "prune", false, "take out flags and segments that the file does not name")
}

func newDiffCommand(out *output) *cobra.Command {
	var r remote
	var prune, exitCode bool
	cmd := &cobra.Command{
		Use:   "diff FILE",
		Short: "Say what 'guidon apply' of a YAML file would change",
		Long: "Say what 'guidon apply' of a YAML file would change, and change nothing. " + declaredFile +
			"\nWith --exit-code a difference is exit code 1, so that a pipeline finds what drifted.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, operations, err := readDeclared(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			if prune {
				there, err := api.declare(cmd.Context(), d.Environment, 0)
				if err != nil {
					return err
				}
				operations = append(operations, d.without(there)...)
			}
			res := &guidonv1.ChangeServiceDryRunResponse{}
			if len(operations) > 0 {
				res, err = api.changes.DryRun(cmd.Context(), &guidonv1.ChangeServiceDryRunRequest{Operations: operations, Reason: "diff"})
			} else {
				err = api.isAt(cmd.Context(), d.Environment, 0)
			}
			if err != nil {
				return err
			}
			err = printDryRun(cmd.OutOrStdout(), out, res)
			if err == nil && exitCode && differs(res.GetChanges()) {
				err = &findingError{exitFailed}
			}
			return err
		},
	}
	r.register(cmd.Flags())
	registerPrune(cmd, &prune)
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 1 if there is a difference")
	return cmd
}

func readDeclared(file string, stdin io.Reader) (*declaration, []*guidonv1.Operation, error) {
	data, err := readFile(file, stdin)
	if err != nil {
		return nil, nil, err
	}
	d, err := readDeclaration(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	operations, err := d.operations()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return d, operations, nil
}

func changedOnly(changes []*guidonv1.Change) []*guidonv1.Change {
	var out []*guidonv1.Change
	for _, c := range changes {
		if c.GetAction() != "unchanged" {
			out = append(out, c)
		}
	}
	return out
}
