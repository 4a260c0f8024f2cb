package main

import (
	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newFlagDescribeCommand(out *output, r *remote) *cobra.Command {
	var c change
	var owner, description string
	var tags, links []string
	cmd := &cobra.Command{
		Use:   "describe KEY",
		Short: "Say whose a flag is and what it is for, in all environments; what is not named stays",
		Long: "Say whose a flag is and what it is for, in all environments; what is not named stays. It makes no\n" +
			"revision: 'guidon audit list --installation --flag KEY' tells who said what.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			op := &guidonv1.DescribeFlag{Key: args[0]}
			if cmd.Flags().Changed("owner") {
				op.Owner = &owner
			}
			if cmd.Flags().Changed("description") {
				op.Description = &description
			}
			if cmd.Flags().Changed("tag") {
				op.Tags = &guidonv1.Texts{Values: tags}
			}
			if cmd.Flags().Changed("link") {
				op.Links = &guidonv1.Texts{Values: links}
			}
			return c.apply(cmd.Context(), cmd.OutOrStdout(), out, r,
				&guidonv1.Operation{Operation: &guidonv1.Operation_DescribeFlag{DescribeFlag: op}})
		},
	}
	c.registerReason(cmd)
	cmd.Flags().StringVar(&owner, "owner", "", "who answers for the flag")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().StringSliceVar(&tags, "tag", nil, "tags; replaces the list, \"\" empties it")
	cmd.Flags().StringSliceVar(&links, "link", nil, "http and https URLs; replaces the list, \"\" empties it")
	cmd.MarkFlagsOneRequired("owner", "description", "tag", "link")
	return cmd
}
