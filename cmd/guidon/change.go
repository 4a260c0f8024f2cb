package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newChangeCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "change",
		Short: "Make changes of many operations at once, or see what they would do",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(newChangeApplyCommand(out, &r), newChangeDryRunCommand(out, &r))
	return cmd
}

const changeFile = "FILE holds the JSON of a ChangeServiceApplyRequest:\n" +
	`  {"reason": "…", "operations": [{"setState": {"environment": "staging", "key": "a", "state": "ENABLED"}}]}` +
	"\nand may be - for standard input. Fields that it cannot have are refused."

// errKeyReused says that the file's idempotency key is another change set's.
var errKeyReused = errors.New("conflict, nothing was changed")

func newChangeApplyCommand(out *output, r *remote) *cobra.Command {
	return &cobra.Command{
		Use:   "apply FILE",
		Short: "Carry out a change set: whole or not at all",
		Long:  "Carry out a change set: whole or not at all. " + changeFile,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := readChange(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			named := req.GetIdempotencyKey() != ""
			res, err := api.apply(cmd.Context(), req)
			if call, ok := errors.AsType[*connect.Error](err); ok && named && call.Code() == connect.CodeAlreadyExists && len(call.Details()) == 0 {
				return fmt.Errorf("%w: %w", errKeyReused, err) // what an operation finds taken is a detail
			}
			if err != nil {
				return err
			}
			return printApplied(cmd.OutOrStdout(), out, res)
		},
	}
}

func newChangeDryRunCommand(out *output, r *remote) *cobra.Command {
	var contexts []string
	cmd := &cobra.Command{
		Use:   "dry-run FILE",
		Short: "Say what a change set would do, and change nothing",
		Long:  "Say what a change set would do, and change nothing. " + changeFile,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := readChange(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			req := &guidonv1.ChangeServiceDryRunRequest{
				Operations: change.GetOperations(), ExpectedRevisions: change.GetExpectedRevisions(), Reason: change.GetReason(),
				IsolateInvalid: change.GetIsolateInvalid(),
			}
			for _, text := range contexts {
				c := &structpb.Struct{}
				if err := protojson.Unmarshal([]byte(text), c); err != nil {
					return usagef("--context: want a JSON object: %w", err)
				}
				req.Contexts = append(req.Contexts, c)
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			res, err := api.changes.DryRun(cmd.Context(), req)
			if err != nil {
				return err
			}
			return printDryRun(cmd.OutOrStdout(), out, res)
		},
	}
	cmd.Flags().StringArrayVar(&contexts, "context", nil, "evaluation context to try the change with, as JSON; may be given 100 times")
	return cmd
}

// printDryRun says what a change set would do. One that would be refused is an
// error, so that a pipeline stops.
func printDryRun(w io.Writer, out *output, res *guidonv1.ChangeServiceDryRunResponse) error {
	if len(res.GetProblems()) > 0 && !out.json {
		return fmt.Errorf("%s", explainInvalid(&guidonv1.Invalid{Problems: res.GetProblems(), More: res.GetMore()}))
	}
	err := out.print(w, message{res}, func(t *table) {
		rowChanges(t, res.GetChanges())
		if !differs(res.GetChanges()) {
			t.row("no difference")
		}
		for _, i := range res.GetImpacts() {
			t.row(fmt.Sprintf("%s in %s changes for %d contexts", i.GetFlag(), i.GetEnvironment(), i.GetContexts()))
		}
		for _, warning := range res.GetWarnings() {
			t.row("warning: " + warning)
		}
		t.row("this was a dry run, nothing was changed")
	})
	if err == nil && len(res.GetProblems()) > 0 {
		err = fmt.Errorf("it would be refused")
	}
	return err
}

// differs reports whether anything would change.
func differs(changes []*guidonv1.RowChange) bool {
	return slices.ContainsFunc(changes, func(c *guidonv1.RowChange) bool { return c.GetChange().GetAction() != "unchanged" })
}

// rowChanges adds a line for each row that changes and each of its fields.
func rowChanges(t *table, changes []*guidonv1.RowChange) {
	for _, c := range changes {
		row := c.GetChange()
		if row.GetAction() == "unchanged" {
			continue
		}
		t.row(row.GetAction(), row.GetKind(), row.GetName(), row.GetEnvironment())
		if row.GetAction() == "changed" {
			fieldRows(t, c.GetFields())
		}
	}
}

func fieldRows(t *table, fields []*guidonv1.FieldChange) {
	for _, f := range fields {
		t.row("", "", f.GetPath(), brief(f.GetBefore())+" → "+brief(f.GetAfter()))
	}
}

func readChange(file string, stdin io.Reader) (*guidonv1.ChangeServiceApplyRequest, error) {
	data, err := readFile(file, stdin)
	if err != nil {
		return nil, err
	}
	req := &guidonv1.ChangeServiceApplyRequest{}
	if err := protojson.Unmarshal(data, req); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return req, nil
}

// readFile reads a file of bounded size, or stdin if it is called -.
func readFile(file string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was read only
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxImport+1))
	if err == nil && len(data) > maxImport {
		err = fmt.Errorf("%s: more than %d MiB", file, maxImport>>20)
	}
	return data, err
}
