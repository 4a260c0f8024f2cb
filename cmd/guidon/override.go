package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newOverrideCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "override",
		Short: "Force a flag to a variant for your own requests: testing in production",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(newOverrideCreateCommand(out, &r), newOverrideListCommand(out, &r), newOverrideRevokeCommand(out, &r))
	return cmd
}

func newOverrideCreateCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.OverrideServiceCreateRequest
	var lifetime time.Duration
	cmd := &cobra.Command{
		Use:   "create KEY VARIANT",
		Short: "Make a token that forces a flag to a variant where it is sent along",
		Long: "Make a token that forces a flag to a variant for the requests that carry it, as the header\n" +
			"guidonoverride or as a cookie of that name. Listeners in mode edge accept it where the request\n" +
			"is for the host that --host names. The flag must be overridable: see 'guidon flag set'.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lifetime <= 0 {
				return usagef("--expires-in %v: want more than 0", lifetime)
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			req.Flag, req.Variant, req.Lifetime = args[0], args[1], durationpb.New(lifetime)
			res, err := api.overrides.Create(cmd.Context(), &req)
			if err != nil {
				return err
			}
			o := res.GetOverride()
			return out.print(cmd.OutOrStdout(), message{o}, func(t *table) {
				t.row("id", o.GetId())
				t.row("flag", o.GetFlag())
				t.row("variant", o.GetVariant())
				t.row("environment", o.GetEnvironment())
				t.row("expires", when(o.GetExpiresAt()))
				t.row("token", o.GetToken())
				t.row("try", curl(o))
			})
		},
	}
	requireEnvironment(cmd, &req.Environment)
	cmd.Flags().StringVar(&req.Audience, "host", "", "host that the requests are for, as in shop.example.com (required)")
	cmd.Flags().DurationVar(&lifetime, "expires-in", time.Hour, "how long the token is good for, at most 24h")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; required where an environment is protected")
	if err := cmd.MarkFlagRequired("host"); err != nil {
		panic(err) // it was defined just above
	}
	return cmd
}

// curl is a command that sends a request with an override, for a shell. A token
// holds no single quote.
func curl(o *guidonv1.Override) string {
	if o.GetToken() == "" {
		return ""
	}
	return fmt.Sprintf("curl -H 'guidonoverride: %s' https://%s/", o.GetToken(), o.GetAudience())
}

func newOverrideListCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.OverrideServiceListRequest
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List overrides, newest first, with a request to try each",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			overrides, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.Override, string, error) {
				req.PageSize, req.PageToken = size, token
				res, err := api.overrides.List(cmd.Context(), &req)
				return res.GetOverrides(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			noteMore(cmd, more)
			return out.print(cmd.OutOrStdout(), list("overrides", overrides), func(t *table) {
				t.row("ID", "ENVIRONMENT", "FLAG", "VARIANT", "HOST", "EXPIRES", "REVOKED", "BY", "REASON", "TRY")
				for _, o := range overrides {
					t.row(o.GetId(), o.GetEnvironment(), o.GetFlag(), o.GetVariant(), o.GetAudience(), when(o.GetExpiresAt()),
						when(o.GetRevokedAt()), o.GetCreatedBy(), o.GetReason(), curl(o))
				}
			})
		},
	}
	cmd.Flags().StringVar(&req.Environment, "environment", "", "only overrides of this environment (default all)")
	cmd.Flags().BoolVar(&req.IncludeEnded, "all", false, "revoked and expired ones too")
	registerLimit(cmd.Flags(), &limit, 0)
	return cmd
}

func newOverrideRevokeCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.OverrideServiceRevokeRequest
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "End an override: no new request gets it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			req.Id = args[0]
			res, err := api.overrides.Revoke(cmd.Context(), &req)
			if err != nil {
				return err
			}
			o := res.GetOverride()
			return out.print(cmd.OutOrStdout(), message{o}, func(t *table) {
				ended := "revoked"
				if o.GetRevokedAt() == nil {
					ended = "expired already:"
				}
				t.row(fmt.Sprintf("%s override %s of flag %s in %s", ended, o.GetId(), o.GetFlag(), o.GetEnvironment()))
			})
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the audit log")
	return cmd
}
