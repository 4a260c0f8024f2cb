package main

import (
	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newEnvironmentCreateCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.EnvironmentServiceCreateRequest
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an empty environment, the last in order",
		Long: "Make an empty environment, the last in order. 'guidon copy' fills it with what another one holds,\n" +
			"'guidon key create' makes its keys.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			req.Name = args[0]
			if _, err := api.environments.Create(cmd.Context(), &req); err != nil {
				return err
			}
			return printDone(cmd, out, "created", "environment", args[0])
		},
	}
	cmd.Flags().BoolVar(&req.Protected, "protected", false, "ask for a reason with each change")
	cmd.Flags().Int32Var(&req.RetentionDays, "retention-days", 0, "for how long superseded revisions are kept, at least: 30 to 3650 (default 90)")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the audit log")
	return cmd
}

// newEnvironmentArchiveCommand makes archive and unarchive.
func newEnvironmentArchiveCommand(out *output, r *remote, verb, short string, archived bool) *cobra.Command {
	req := guidonv1.EnvironmentServiceUpdateRequest{Archived: &archived}
	cmd := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			req.Name = args[0]
			return updateEnvironment(cmd, out, api, &req, verb+"d")
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; required where the environment is protected")
	return cmd
}

// updateEnvironment changes what no revision holds.
func updateEnvironment(cmd *cobra.Command, out *output, api *api, req *guidonv1.EnvironmentServiceUpdateRequest, action string) error {
	res, err := api.environments.Update(cmd.Context(), req)
	if err != nil {
		return err
	}
	if !res.GetChanged() {
		action = "unchanged"
	}
	return printDone(cmd, out, action, "environment", req.GetName())
}
