package main

import (
	"context"

	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newProjectCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "project",
		Short: "Read and make projects, which own flags and segments",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(newProjectListCommand(out, &r), newProjectCreateCommand(out, &r), newProjectArchiveCommand(out, &r))
	return cmd
}

func newProjectListCommand(out *output, r *remote) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List projects by name, with the number of their flags in use",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			projects, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.Project, string, error) {
				res, err := api.projects.List(cmd.Context(), &guidonv1.ProjectServiceListRequest{PageSize: size, PageToken: token})
				return res.GetProjects(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			noteMore(cmd, more)
			return out.print(cmd.OutOrStdout(), list("projects", projects), func(t *table) {
				t.row("NAME", "FLAGS", "ARCHIVED", "CREATED", "DESCRIPTION")
				for _, p := range projects {
					t.row(p.GetName(), p.GetFlagCount(), p.GetArchived(), when(p.GetCreatedAt()), p.GetDescription())
				}
			})
		},
	}
	registerLimit(cmd.Flags(), &limit, 0)
	return cmd
}

func newProjectCreateCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.ProjectServiceCreateRequest
	cmd := newNamedCommand(out, r, "create", "created", "project", func(ctx context.Context, api *api, name string) error {
		req.Name = name
		_, err := api.projects.Create(ctx, &req)
		return err
	})
	cmd.Short = "Make a project"
	cmd.Flags().StringVar(&req.Description, "description", "", "what the project is")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the audit log")
	return cmd
}

func newProjectArchiveCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.ProjectServiceArchiveRequest
	cmd := newNamedCommand(out, r, "archive", "archived", "project", func(ctx context.Context, api *api, name string) error {
		req.Name = name
		_, err := again(ctx, &req, api.projects.Archive)
		return err
	})
	cmd.Short = "Let a project take no more flags; its own must be archived first"
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the audit log")
	return cmd
}

// newNamedCommand makes a command that does one thing to what it names, of a
// kind that has no revisions, and says so.
func newNamedCommand(out *output, r *remote, verb, done, kind string, do func(context.Context, *api, string) error) *cobra.Command {
	return &cobra.Command{
		Use:  verb + " NAME",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			if err := do(cmd.Context(), api, args[0]); err != nil {
				return err
			}
			return printDone(cmd, out, done, kind, args[0])
		},
	}
}

// printDone says what became of a thing that has no revisions.
func printDone(cmd *cobra.Command, out *output, action, kind, name string) error {
	done := map[string]string{"action": action, "kind": kind, "name": name}
	return out.print(cmd.OutOrStdout(), done, func(t *table) { t.row(action, kind, name) })
}
