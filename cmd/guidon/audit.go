package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newAuditCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read the audit log, export it and prove that it is whole",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(newAuditListCommand(out, &r), newAuditShowCommand(out, &r), newAuditExportCommand(&r), newAuditVerifyCommand(out, &r), newAuditDropCommand(out), newAuditEraseCommand(out, &r))
	return cmd
}

func newAuditListCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.AuditServiceListRequest
	var limit int
	var after, before string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List who changed what and why, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, bound := range []struct {
				flag, text string
				at         **timestamppb.Timestamp
			}{{"after", after, &req.After}, {"before", before, &req.Before}} {
				if bound.text == "" {
					continue
				}
				at, err := time.Parse(time.RFC3339, bound.text)
				if err != nil {
					return usagef("--%s %q: want a time such as 2026-01-31T12:00:00Z", bound.flag, bound.text)
				}
				*bound.at = timestamppb.New(at)
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			entries, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.AuditEntry, string, error) {
				req.PageSize, req.PageToken = size, token
				res, err := api.audit.List(cmd.Context(), &req)
				return res.GetEntries(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			noteMore(cmd, more)
			return out.print(cmd.OutOrStdout(), list("entries", entries), func(t *table) {
				t.row("ID", "TIME", "REVISION", "ACTOR", "ACTION", "CHANGES", "REASON")
				for _, e := range entries {
					revision := any(e.GetRevision())
					if e.GetRevision() == 0 {
						revision = ""
					}
					t.row(e.GetId(), when(e.GetOccurredAt()), revision, e.GetActor(), e.GetAction(),
						summary(e.GetChanges()), e.GetReason())
				}
			})
		},
	}
	cmd.Flags().StringVar(&req.Environment, "environment", "", "only this environment's entries (default all)")
	cmd.Flags().StringVar(&req.Flag, "flag", "", "only entries that touched this flag key")
	cmd.Flags().BoolVar(&req.Installation, "installation", false, "only entries of the chain that belongs to no environment")
	cmd.Flags().StringVar(&req.Actor, "actor", "", "only entries by this actor")
	cmd.Flags().StringVar(&req.Key, "by-key", "", "only entries by the API key with this ID")
	cmd.Flags().StringVar(&req.Action, "action", "", "only entries with an operation of this name, as in flag.state")
	cmd.Flags().StringVar(&after, "after", "", "only entries from this time on")
	cmd.Flags().StringVar(&before, "before", "", "only entries before this time")
	cmd.Flags().Int64Var(&req.Revision, "revision", 0, "only the entry that made this revision of the environment")
	cmd.Flags().StringVar(&req.CorrelationId, "correlation-id", "", "only entries of this request")
	cmd.Flags().StringVar(&req.ChangeId, "change", "", "only entries of this change set")
	cmd.Flags().StringVar(&req.Text, "text", "", "only entries that hold this text anywhere, as it stands in JSON")
	registerLimit(cmd.Flags(), &limit, 1000)
	return cmd
}

func newAuditShowCommand(out *output, r *remote) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one entry, as in production/42, field by field",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			res, err := api.audit.Get(cmd.Context(), &guidonv1.AuditServiceGetRequest{Id: args[0]})
			if err != nil {
				return err
			}
			e := res.GetEntry()
			return out.print(cmd.OutOrStdout(), message{e}, func(t *table) {
				for _, row := range [][2]string{
					{"id", e.GetId()},
					{"time", when(e.GetOccurredAt())},
					{"actor", e.GetActor()},
					{"from", e.GetOrigin()},
					{"action", e.GetAction()},
					{"reason", e.GetReason()},
					{"change", e.GetChangeId()},
					{"correlation", e.GetCorrelationId()},
					{"hash", e.GetHash()},
				} {
					t.row(row[0], row[1])
				}
				for _, c := range e.GetChanges() {
					t.row(c.GetAction(), c.GetKind()+" "+c.GetName())
					for _, f := range c.GetFields() {
						t.row("  "+f.GetPath(), brief(f.GetBefore())+" → "+brief(f.GetAfter()))
					}
				}
			})
		},
	}
}

// summary says what an entry changed, as far as a line of a table can.
func summary(changes []*guidonv1.AuditChange) string {
	const shown = 3
	var parts []string
	for i, c := range changes {
		if i == shown {
			parts = append(parts, "…")
			break
		}
		part := c.GetAction() + " " + c.GetKind() + " " + c.GetName()
		if c.GetAction() == "changed" {
			var fields []string
			for _, f := range c.GetFields() {
				path := strings.TrimPrefix(strings.TrimPrefix(f.GetPath(), "$."), c.GetKind()+".")
				fields = append(fields, path+" "+brief(f.GetBefore())+" → "+brief(f.GetAfter()))
			}
			part += ": " + strings.Join(fields, ", ")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// brief is the beginning of a value as JSON, "none" if there is no value.
func brief(v *structpb.Value) string {
	const shown = 24
	if v == nil {
		return "none"
	}
	text := []rune(string(compact(v)))
	if len(text) > shown {
		return string(text[:shown]) + "…"
	}
	return string(text)
}
