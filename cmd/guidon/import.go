package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newImportCommand(out *output) *cobra.Command {
	var r remote
	var into target
	var isolate, dryRun bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Bring the flags and segments of a flagd document into an environment",
		Long: "Bring the flags and segments of a flagd document into an environment, in one change set:\n" +
			"whole or not at all. FILE may be - for standard input. Flags that exist are overwritten,\n" +
			"others stay; every difference is printed. The document's own metadata becomes part of each\n" +
			"flag's, except flagSetId: that is the project.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			set, err := readImportSet(args[0], cmd.InOrStdin(), into)
			if err != nil {
				return err
			}
			before, err := api.documents(cmd.Context(), into.environment)
			if err != nil {
				return err
			}
			res, err := set.apply(cmd.Context(), api, isolate, dryRun)
			if err != nil {
				return fmt.Errorf("%s: %w", set.file, err)
			}
			result := set.result(res, before)
			result.DryRun = dryRun
			return out.print(cmd.OutOrStdout(), result, result.table)
		},
	}
	r.register(cmd.Flags())
	requireEnvironment(cmd, &into.environment)
	cmd.Flags().StringVar(&into.project, "project", "",
		"project that owns the flags (default: a flag keeps its own, a new one goes to \"default\")")
	cmd.Flags().StringVar(&into.reason, "reason", "", "why; required where the environment is protected")
	cmd.Flags().BoolVar(&isolate, "isolate-invalid", false,
		"import flags that do not compile too: they resolve to PARSE_ERROR; leave out what is refused even so")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would happen and change nothing")
	return cmd
}

// documents reads what an environment holds now, by kind and name.
func (a *api) documents(ctx context.Context, environment string) (map[string]json.RawMessage, error) {
	res, err := a.sync.GetSnapshot(ctx, &guidonv1.SyncServiceGetSnapshotRequest{Environment: environment})
	if err != nil {
		return nil, err
	}
	rows := make(map[string]json.RawMessage, len(res.GetRows()))
	for _, r := range res.GetRows() {
		rows[r.GetKind()+" "+r.GetName()] = r.GetDocument()
	}
	return rows, nil
}

// apply sends the set. With isolate, what the server refuses is sent again as
// flags to isolate; what it refuses even so is left out, until nothing is
// refused or nothing is left.
func (s *importSet) apply(ctx context.Context, api *api, isolate, dryRun bool) (*guidonv1.ChangeServiceApplyResponse, error) {
	send := func(isolate bool) (*guidonv1.ChangeServiceApplyResponse, []refusal, error) {
		res, err := api.apply(ctx, &guidonv1.ChangeServiceApplyRequest{
			Operations: s.operations(), Reason: s.into.reason, DryRun: dryRun, IsolateInvalid: isolate,
		})
		if err == nil {
			return res, nil, nil
		}
		refused, ok := s.locate(err)
		if !ok {
			return nil, nil, err
		}
		return nil, refused, &refusedError{refused}
	}
	if !isolate {
		return s.applyWhole(func() (*guidonv1.ChangeServiceApplyResponse, []refusal, error) {
			dryRun = dryRun || len(s.refused) > 0 // changes nothing from the first refusal on
			return send(false)
		})
	}
	for len(s.items) > 0 {
		res, refused, err := send(false)
		if err == nil || refused == nil {
			return res, err
		}
		res, worse, err := send(true)
		if err == nil {
			s.isolated = refused
		}
		if worse == nil {
			return res, err
		}
		s.leaveOut(worse)
	}
	return &guidonv1.ChangeServiceApplyResponse{}, nil
}

// applyWhole applies everything, or reports all that is wrong: some of it shows
// only without what is refused for another reason. A segment is not left out,
// for then the flags that read it would be refused too.
func (s *importSet) applyWhole(send func() (*guidonv1.ChangeServiceApplyResponse, []refusal, error)) (*guidonv1.ChangeServiceApplyResponse, error) {
	for len(s.items) > 0 {
		res, refused, err := send()
		if len(s.refused) == 0 && refused == nil {
			return res, err
		}
		s.leaveOut(refused)
		if refused == nil || slices.ContainsFunc(refused, func(r refusal) bool { return r.item.kind == "segment" }) {
			break
		}
	}
	if len(s.refused) > 0 {
		return nil, &refusedError{s.refused}
	}
	return &guidonv1.ChangeServiceApplyResponse{}, nil
}

// locate turns the problems of a refused change set into places in the file.
// It reports false if they are not all about its operations.
func (s *importSet) locate(err error) ([]refusal, bool) {
	call, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return nil, false
	}
	var refused []refusal
	for _, detail := range call.Details() {
		value, err := detail.Value()
		if err != nil {
			return nil, false
		}
		invalid, ok := value.(*guidonv1.Invalid)
		if !ok {
			continue
		}
		for _, p := range invalid.GetProblems() {
			i := int(p.GetOperation())
			if i < 0 || i >= len(s.items) {
				return nil, false
			}
			refused = append(refused, refusal{
				Path: s.items[i].at(p.GetPath()), Message: p.GetMessage(), item: s.items[i],
			})
		}
	}
	return refused, len(refused) > 0
}

// leaveOut takes refused items out of the set.
func (s *importSet) leaveOut(refused []refusal) {
	s.refused = append(s.refused, refused...)
	s.items = slices.DeleteFunc(s.items, func(i *importItem) bool {
		return slices.ContainsFunc(refused, func(r refusal) bool { return r.item == i })
	})
}

// result joins the server's answer with what was there before.
func (s *importSet) result(res *guidonv1.ChangeServiceApplyResponse, before map[string]json.RawMessage) importResult {
	result := importResult{
		ChangeID: res.GetChangeId(), Revisions: map[string]int64{},
		Changes:  []importChange{},
		Warnings: slices.DeleteFunc(append(s.warnings, res.GetWarnings()...), s.aboutIsolated),
		Isolated: append([]refusal{}, s.isolated...),
		Refused:  s.refused,
	}
	maps.Copy(result.Revisions, res.GetRevisions())
	items := make(map[string]*importItem, len(s.items))
	for _, i := range s.items {
		items[i.kind+" "+i.name] = i
	}
	for _, c := range res.GetChanges() {
		change := importChange{Environment: c.GetEnvironment(), Kind: c.GetKind(), Name: c.GetName(), Action: c.GetAction()}
		row := c.GetKind() + " " + c.GetName()
		if i := items[row]; i != nil && c.GetAction() == "changed" {
			change.Fields = diff(i.place, i.before(before[row]), i.after())
		}
		result.Changes = append(result.Changes, change)
	}
	return result
}

// aboutIsolated reports whether a warning says of a flag what the list of
// isolated ones says with its place in the file.
func (s *importSet) aboutIsolated(warning string) bool {
	return slices.ContainsFunc(s.isolated, func(r refusal) bool {
		return strings.HasPrefix(warning, r.item.kind+"/"+r.item.name+" in "+s.into.environment+" is isolated: ")
	})
}

// importResult is what import prints.
type importResult struct {
	ChangeID  string           `json:"changeId"`
	Revisions map[string]int64 `json:"revisions"`
	DryRun    bool             `json:"dryRun"`
	Changes   []importChange   `json:"changes"`
	Warnings  []string         `json:"warnings"`
	Isolated  []refusal        `json:"isolated"`
	Refused   []refusal        `json:"refused"`
}

// importChange is what became of one flag or segment of the file.
type importChange struct {
	Environment string       `json:"environment"`
	Kind        string       `json:"kind"`
	Name        string       `json:"name"`
	Action      string       `json:"action"`
	Fields      []difference `json:"fields,omitempty"`
}

func (r importResult) table(t *table) {
	counts := map[string]int{}
	for _, c := range r.Changes {
		counts[c.Action]++
		t.row(c.Action, c.Kind, c.Name)
		for _, f := range c.Fields {
			t.row("", "", f.Path, cmp.Or(string(f.Before), "(none)")+" → "+cmp.Or(string(f.After), "(none)"))
		}
	}
	for _, x := range r.Isolated {
		t.row("isolated", x.item.kind, x.item.name, x.Path+": "+x.Message)
	}
	for _, x := range r.Refused {
		t.row("refused", x.item.kind, x.item.name, x.Path+": "+x.Message)
	}
	for _, warning := range r.Warnings {
		t.row("warning", warning)
	}
	var summary []string
	for _, action := range []string{"created", "changed", "unchanged"} {
		summary = append(summary, fmt.Sprintf("%d %s", counts[action], action))
	}
	summary = append(summary, fmt.Sprintf("%d refused", len(r.Refused)))
	t.row(strings.Join(summary, ", "))
	for environment, revision := range r.Revisions {
		if r.DryRun {
			t.row(fmt.Sprintf("%s would be at revision %d; this was a dry run, nothing was changed", environment, revision))
		} else {
			t.row(fmt.Sprintf("%s is at revision %d", environment, revision))
		}
	}
}
