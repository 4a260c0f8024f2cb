package main

import (
	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newAuditEraseCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.AuditServiceEraseRequest
	cmd := &cobra.Command{
		Use:   "erase",
		Short: "Erase a person's name from the log, which still verifies",
		Long: "Erase a person's name, and every reason that holds it, from the audit log and from what else\n" +
			"names who did something: keys, revisions, flags, overrides. 'erased' stands in their place.\n" +
			"The entries hold only salted hashes of them, so the chains, and exports made before and after,\n" +
			"still verify. That something was erased, by whom and why, is an entry of its own.\n\n" +
			"It cannot be undone. It does not reach exports, backups and logs that were made before, nor\n" +
			"what flags themselves say: owners, descriptions, values.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			res, err := api.audit.Erase(cmd.Context(), &req)
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), message{res}, func(t *table) {
				t.row("names", res.GetNames())
				t.row("reasons", res.GetReasons())
				t.row("origins", res.GetOrigins())
				t.row("other rows", res.GetRows())
			})
		},
	}
	cmd.Flags().StringVar(&req.Person, "person", "", "the name, as it stands behind the key's ID in the log (required)")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the log, without the name (required)")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "count what would be erased")
	for _, name := range []string{"person", "reason"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // it was defined just above
		}
	}
	return cmd
}
