package main

import (
	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newHistoryCommand(out *output) *cobra.Command {
	var r remote
	var environment string
	var blame bool
	var limit int
	cmd := &cobra.Command{
		Use:   "history [FLAG]",
		Short: "List the revisions of an environment, or the versions of one flag",
		Long: "List the revisions of an environment, newest first; with a flag, its versions and the fields\n" +
			"that each changed; with --blame, which revision last wrote each field of it. What no revision\n" +
			"holds, a flag's owner, description, links and schema, is in the audit log:\n" +
			"'guidon audit list --installation --flag KEY'.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			switch {
			case len(args) == 0 && blame:
				return usagef("--blame: of which flag?")
			case len(args) == 0:
				return revisionHistory(cmd, api, out, environment, limit)
			case blame:
				return flagBlame(cmd, api, out, environment, args[0])
			}
			return flagHistory(cmd, api, out, environment, args[0], limit)
		},
	}
	r.register(cmd.Flags())
	requireEnvironment(cmd, &environment)
	registerLimit(cmd.Flags(), &limit, 100)
	cmd.Flags().BoolVar(&blame, "blame", false, "say which revision last wrote each field of the flag")
	return cmd
}

func revisionHistory(cmd *cobra.Command, api *api, out *output, environment string, limit int) error {
	revisions, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.Revision, string, error) {
		res, err := api.revisions.List(cmd.Context(), &guidonv1.RevisionServiceListRequest{Environment: environment, PageSize: size, PageToken: token})
		return res.GetRevisions(), res.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	noteMore(cmd, more)
	return out.print(cmd.OutOrStdout(), list("revisions", revisions), func(t *table) {
		t.row("REVISION", "TIME", "ACTOR", "CHANGES", "REASON")
		for _, r := range revisions {
			t.row(r.GetRevision(), when(r.GetCreatedAt()), r.GetActor(), r.GetChanges(), r.GetReason())
		}
	})
}

func flagHistory(cmd *cobra.Command, api *api, out *output, environment, key string, limit int) error {
	versions, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.FlagVersion, string, error) {
		res, err := api.flags.History(cmd.Context(), &guidonv1.FlagServiceHistoryRequest{
			Environment: environment, Key: key, PageSize: size, PageToken: token,
		})
		return res.GetVersions(), res.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	noteMore(cmd, more)
	return out.print(cmd.OutOrStdout(), list("versions", versions), func(t *table) {
		t.row("REVISION", "TIME", "ACTOR", "REASON")
		for _, v := range versions {
			f := v.GetFlag()
			t.row(f.GetRevision(), when(f.GetUpdatedAt()), f.GetUpdatedBy(), v.GetReason())
			fieldRows(t, v.GetFields())
		}
	})
}

func flagBlame(cmd *cobra.Command, api *api, out *output, environment, key string) error {
	res, err := api.revisions.Blame(cmd.Context(), &guidonv1.RevisionServiceBlameRequest{Environment: environment, Key: key})
	if err != nil {
		return err
	}
	return out.print(cmd.OutOrStdout(), message{res}, func(t *table) {
		t.row("FIELD", "REVISION", "TIME", "ACTOR", "REASON")
		for _, f := range res.GetFields() {
			r := f.GetRevision()
			if r.GetRevision() == 0 { // older than the history that is kept
				t.row(f.GetPath(), "", "", "", "")
				continue
			}
			t.row(f.GetPath(), r.GetRevision(), when(r.GetCreatedAt()), r.GetActor(), r.GetReason())
		}
	})
}
