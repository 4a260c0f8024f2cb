package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitConflict = 3
)

// usageError is an error in how a command was called that only the command
// itself can find, such as a flag whose JSON does not parse.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// run executes one command line and returns the process's exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	started := false
	root := newRootCommand() //nolint:contextcheck // commands take their context from cobra when they run
	prepare(root, &started)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)

	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if finding, ok := errors.AsType[*findingError](err); ok {
		return finding.code
	}
	cmd.PrintErrf("%s: %s\n", cmd.CommandPath(), explain(err))

	usage := !started
	if _, ok := errors.AsType[usageError](err); ok {
		usage = true
	}
	switch {
	case usage:
		cmd.PrintErrf("Run '%s --help' for its arguments and flags.\n", cmd.CommandPath())
		return exitUsage
	case connect.CodeOf(err) == connect.CodeAborted, errors.Is(err, errKeyReused):
		return exitConflict
	default:
		return exitFailed
	}
}

func newRootCommand() *cobra.Command {
	var out output
	root := &cobra.Command{
		Use:   "guidon",
		Short: "Feature flags that agree across every service of a request",
		Long: "Guidon serves feature flags from Postgres and keeps every service of one request on one\n" +
			"revision of them. Start with 'guidon dev --data DIR'.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 called wrongly, 3 conflict.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().VarP(&out, "output", "o", "how to print results: table or json")
	root.AddCommand(
		newServeCommand(),
		newDevCommand(),
		newRelayCommand(),
		newMigrateCommand(&out),
		newRecoverCommand(&out),
		newImportCommand(&out),
		newFlagCommand(&out),
		newSegmentCommand(&out),
		newEnvironmentCommand(&out),
		newProjectCommand(&out),
		newEvalCommand(&out),
		newAuditCommand(&out),
		newHeaderCommand(&out),
		newChangeCommand(&out),
		newRevertCommand(&out),
		newRestoreCommand(&out),
		newPromoteCommand(&out),
		newCopyCommand(&out),
		newCompareCommand(&out),
		newHistoryCommand(&out),
		newExportCommand(&out),
		newApplyCommand(&out),
		newDiffCommand(&out),
		newKeyCommand(&out),
		newOverrideCommand(&out),
		newFleetCommand(&out),
		newHealthCommand(),
		newVersionCommand(&out),
	)
	return root
}

// prepare makes every command of the tree note that it started: whatever fails
// before is about flags and arguments. A command that only groups others asks
// for one of them instead of printing its help as if all were well.
func prepare(cmd *cobra.Command, started *bool) {
	if runE := cmd.RunE; runE != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return runE(cmd, args)
		}
	} else {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			var names []string
			for _, sub := range cmd.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, sub.Name())
				}
			}
			choice := strings.Join(names, ", ")
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q; it is one of %s", args[0], choice)
			}
			return fmt.Errorf("a command is missing; it is one of %s", choice)
		}
		cmd.Args = cobra.ArbitraryArgs
	}
	for _, sub := range cmd.Commands() {
		prepare(sub, started)
	}
}
