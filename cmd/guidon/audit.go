package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

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
			return out.print(cmd.OutOrStdout(), list("entries", entries), func(w io.Writer) {
				row(w, "TIME", "ENVIRONMENT", "REVISION", "ACTOR", "ACTION", "CHANGES", "REASON")
				for _, e := range entries {
					revision := any(e.GetRevision())
					if e.GetRevision() == 0 {
						revision = ""
					}
					row(w, when(e.GetOccurredAt()), e.GetEnvironment(), revision, e.GetActor(), e.GetAction(),
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

// summary names what an entry changed: "changed flag a: state; created flag b".
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
			var paths []string
			for _, f := range c.GetFields() {
				paths = append(paths, strings.TrimPrefix(f.GetPath(), "$."))
			}
			part += ": " + strings.Join(paths, ", ")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}
