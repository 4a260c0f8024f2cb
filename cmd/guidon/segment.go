package main

import (
	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func newSegmentCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "segment",
		Short: "Read segments, the named conditions of an environment, and who uses them",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(newSegmentListCommand(out, &r), newSegmentGetCommand(out, &r))
	return cmd
}

func newSegmentListCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.SegmentServiceListRequest
	var limit int
	var at pointInTime
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List segments by name",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if req.Time, err = at.time(); err != nil {
				return err
			}
			req.Revision = at.revision
			api, err := r.open()
			if err != nil {
				return err
			}
			segments, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.Segment, string, error) {
				req.PageSize, req.PageToken = size, token
				res, err := api.segments.List(cmd.Context(), &req)
				return res.GetSegments(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			noteMore(cmd, more)
			return out.print(cmd.OutOrStdout(), list("segments", segments), func(t *table) {
				t.row("NAME", "PROJECT", "REVISION", "FLAGS", "SEGMENTS", "CONDITION")
				for _, s := range segments {
					t.row(s.GetName(), s.GetProject(), s.GetRevision(), len(s.GetUsedByFlags()), len(s.GetUsedBySegments()), brief(s.GetCondition()))
				}
			})
		},
	}
	requireEnvironment(cmd, &req.Environment)
	cmd.Flags().StringVar(&req.Query, "query", "", "only segments whose name contains this")
	registerLimit(cmd.Flags(), &limit, 0)
	at.register(cmd)
	return cmd
}

func newSegmentGetCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.SegmentServiceGetRequest
	var at pointInTime
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Show one segment of one environment, and what uses it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Time, err = at.time(); err != nil {
				return err
			}
			req.Name, req.Revision = args[0], at.revision
			api, err := r.open()
			if err != nil {
				return err
			}
			res, err := api.segments.Get(cmd.Context(), &req)
			if err != nil {
				return err
			}
			s := res.GetSegment()
			return out.print(cmd.OutOrStdout(), message{s}, func(t *table) {
				t.row("name", s.GetName())
				t.row("environment", s.GetEnvironment())
				t.row("project", s.GetProject())
				t.row("revision", s.GetRevision())
				t.row("used by flags", join(s.GetUsedByFlags()))
				t.row("used by segments", join(s.GetUsedBySegments()))
				t.row("condition", compact(s.GetCondition()))
			})
		},
	}
	requireEnvironment(cmd, &req.Environment)
	at.register(cmd)
	return cmd
}
