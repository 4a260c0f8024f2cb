package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newFleetCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Show who is connected and what each instance holds",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(newFleetListCommand(out, &r))
	return cmd
}

func newFleetListCommand(out *output, r *remote) *cobra.Command {
	var environment string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List connected instances, over all replicas",
		Long: "List the instances that are connected to any replica: the revision each of them said that it\n" +
			"holds, and how many revisions that is behind. What another replica than the one asked\n" +
			"knows is a few seconds old. Streams of flagd's protocols and of OFREP are counted by program:\n" +
			"they have no names and do not say what they hold.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			var last *guidonv1.FleetServiceListResponse
			instances, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.Instance, string, error) {
				res, err := api.fleet.List(cmd.Context(),
					&guidonv1.FleetServiceListRequest{Environment: environment, PageSize: size, PageToken: token})
				last = res
				return res.GetInstances(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			noteMore(cmd, more)
			if last.GetPartial() {
				cmd.PrintErrln("note: the database cannot be reached; instances connected to other replicas are missing")
			}
			for _, s := range last.GetSeen() {
				if s.GetConnected() > 0 {
					cmd.PrintErrf("%s: revision %d seen by %d/%d\n", s.GetEnvironment(), s.GetRevision(), s.GetInstances(), s.GetConnected())
				}
				if s.GetSilent() > 0 {
					cmd.PrintErrf("%s: %d further instances never say what they hold\n", s.GetEnvironment(), s.GetSilent())
				}
			}
			for _, s := range last.GetStreams() {
				cmd.PrintErrf("%s: %d streams of %s by %s\n", s.GetEnvironment(), s.GetStreams(), s.GetProtocol(), cell(cmp.Or(s.GetClient(), "others")))
			}
			return out.print(cmd.OutOrStdout(), list("instances", instances), func(t *table) {
				t.row("ENVIRONMENT", "SERVICE", "INSTANCE", "SDK", "PROTOCOL", "REVISION", "LAG", "SINCE", "REPLICA")
				for _, i := range instances {
					t.row(i.GetEnvironment(), i.GetService(), i.GetInstance(), fmt.Sprintf("%s %s", i.GetSdk(), i.GetVersion()),
						i.GetProtocol(), i.GetRevision(), i.GetLag(), when(i.GetConnectedAt()), i.GetReplica())
				}
			})
		},
	}
	cmd.Flags().StringVar(&environment, "environment", "", "only those of this environment")
	registerLimit(cmd.Flags(), &limit, 0)
	return cmd
}
