package main

import (
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newAuditCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read the audit log",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(newAuditListCommand(out, &r))
	return cmd
}

func newAuditListCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.AuditServiceListRequest
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List who changed what and why, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
				t.row("TIME", "ENVIRONMENT", "REVISION", "ACTOR", "ACTION", "CHANGES", "REASON")
				for _, e := range entries {
					revision := any(e.GetRevision())
					if e.GetRevision() == 0 {
						revision = ""
					}
					t.row(when(e.GetOccurredAt()), e.GetEnvironment(), revision, e.GetActor(), e.GetAction(),
						summary(e.GetChanges()), e.GetReason())
				}
			})
		},
	}
	cmd.Flags().StringVar(&req.Environment, "environment", "", "only this environment's entries (default all)")
	cmd.Flags().StringVar(&req.Flag, "flag", "", "only entries that touched this flag key")
	cmd.Flags().StringVar(&req.Actor, "actor", "", "only entries by this actor")
	registerLimit(cmd.Flags(), &limit, 1000)
	return cmd
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
