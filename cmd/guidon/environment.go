package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

func newEnvironmentCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "environment",
		Short: "Read and make environments, and set what all evaluations in them depend on",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(
		newEnvironmentListCommand(out, &r),
		newEnvironmentGetCommand(out, &r),
		newEnvironmentCreateCommand(out, &r),
		newEnvironmentSetCommand(out, &r),
		newEnvironmentArchiveCommand(out, &r, "archive", "Take an environment out of use: it is served and not written", true),
		newEnvironmentArchiveCommand(out, &r, "unarchive", "Take an archived environment back into use", false),
		newEnvironmentRotateKeyCommand(out, &r),
	)
	return cmd
}

func newEnvironmentListCommand(out *output, r *remote) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List environments in their configured order",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			environments, _, err := pages(0, func(size int32, token string) ([]*guidonv1.Environment, string, error) {
				res, err := api.environments.List(cmd.Context(),
					&guidonv1.EnvironmentServiceListRequest{PageSize: size, PageToken: token})
				return res.GetEnvironments(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), list("environments", environments), func(t *table) {
				t.row("NAME", "REVISION", "FLAGS", "PROTECTED", "ARCHIVED", "RETENTION", "TRAVEL", "FRACTIONAL")
				for _, e := range environments {
					t.row(e.GetName(), e.GetRevision(), e.GetFlagCount(), e.GetProtected(), e.GetArchived(), days(e.GetRetentionDays()),
						travel(e.GetSettings()), e.GetSettings().GetFractional())
				}
			})
		},
	}
}

func newEnvironmentGetCommand(out *output, r *remote) *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME",
		Short: "Show one environment",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			res, err := api.environments.Get(cmd.Context(), &guidonv1.EnvironmentServiceGetRequest{Name: args[0]})
			if err != nil {
				return err
			}
			e := res.GetEnvironment()
			return out.print(cmd.OutOrStdout(), message{e}, func(t *table) {
				t.row("name", e.GetName())
				t.row("revision", e.GetRevision())
				t.row("digest", e.GetDigest())
				t.row("flags", e.GetFlagCount())
				t.row("protected", e.GetProtected())
				t.row("archived", e.GetArchived())
				t.row("retention", days(e.GetRetentionDays()))
				t.row("propagation key", keyState(e.GetPropagationKey()))
				t.row("travel", travel(e.GetSettings()))
				t.row("travel at most", fmt.Sprintf("%d of %d bytes", e.GetTravelBytes(), eval.MaxTravelBytes))
				t.row("fractional", e.GetSettings().GetFractional())
			})
		},
	}
}

// days prints a retention.
func days(n int32) string { return fmt.Sprintf("%d days", n) }

func newEnvironmentSetCommand(out *output, r *remote) *cobra.Command {
	var attributes []string
	var fractional, reason string
	var protected bool
	var retention int32
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change an environment's settings; what is not named stays",
		Long: "Change an environment's settings; what is not named stays. --travel and --fractional are part of\n" +
			"its revisions, as its flags are: setting them makes one. --protected and --retention-days are not,\n" +
			"so they are set by a command of their own.\n\n" +
			"Attributes on the travel list go with every request, readable by every service on its way:\n" +
			"facts of few values, such as a plan or a region, or opaque IDs; never names, addresses or\n" +
			"anything else about a person. MAXBYTES is how long a value may be, 40 if not given; a longer\n" +
			"one stays behind, and the flags that read it are decided where the request begins.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			travel, err := parseTravel(attributes)
			if err != nil {
				return err
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			update := &guidonv1.EnvironmentServiceUpdateRequest{Name: args[0], Reason: reason}
			if cmd.Flags().Changed("protected") {
				update.Protected = &protected
			}
			if cmd.Flags().Changed("retention-days") {
				update.RetentionDays = &retention
			}
			if update.Protected != nil || update.RetentionDays != nil {
				return updateEnvironment(cmd, out, api, update, "changed")
			}
			current, err := api.environments.Get(cmd.Context(), &guidonv1.EnvironmentServiceGetRequest{Name: args[0]})
			if err != nil {
				return err
			}
			settings := current.GetEnvironment().GetSettings()
			if settings == nil {
				settings = &guidonv1.Settings{}
			}
			if cmd.Flags().Changed("travel") {
				settings.Travel = travel
			}
			if cmd.Flags().Changed("fractional") {
				settings.Fractional = fractional
			}
			res, err := api.apply(cmd.Context(), &guidonv1.ChangeServiceApplyRequest{
				Operations: []*guidonv1.Operation{{Operation: &guidonv1.Operation_PutSettings{
					PutSettings: &guidonv1.PutSettings{Environment: args[0], Settings: settings},
				}}},
				// Settings are replaced whole, so nothing may have come between
				// the reading and the writing.
				ExpectedRevisions: map[string]int64{args[0]: current.GetEnvironment().GetRevision()},
				Reason:            reason,
			})
			if err != nil {
				return err
			}
			return printApplied(cmd.OutOrStdout(), out, res)
		},
	}
	cmd.Flags().StringSliceVar(&attributes, "travel", nil,
		"attributes that may travel in the header, as NAME[=ALIAS][:MAXBYTES]; replaces the list, \"\" empties it")
	cmd.Flags().StringVar(&fractional, "fractional", "", "bucketing algorithm of percentage splits: v2 or v3")
	cmd.Flags().BoolVar(&protected, "protected", false, "ask for a reason with each change, or =false no longer")
	cmd.Flags().Int32Var(&retention, "retention-days", 0, "for how long superseded revisions are kept, at least: 30 to 3650")
	cmd.Flags().StringVar(&reason, "reason", "", "why; required where the environment is protected")
	cmd.MarkFlagsOneRequired("travel", "fractional", "protected", "retention-days")
	for _, versioned := range []string{"travel", "fractional"} {
		cmd.MarkFlagsMutuallyExclusive(versioned, "protected")
		cmd.MarkFlagsMutuallyExclusive(versioned, "retention-days")
	}
	return cmd
}

func parseTravel(attributes []string) ([]*guidonv1.TravelAttribute, error) {
	var travel []*guidonv1.TravelAttribute
	for _, a := range attributes {
		name, rest, aliased := strings.Cut(a, "=")
		if !aliased {
			name, rest = cutLimit(a)
		}
		t, err := readTravel(name, rest)
		if err != nil || name == "" || aliased && t.GetAlias() == "" {
			return nil, usagef("--travel %q: want NAME[=ALIAS][:MAXBYTES]", a)
		}
		travel = append(travel, t)
	}
	return travel, nil
}

// cutLimit cuts a text before the colon that a limit follows, if there is one.
func cutLimit(text string) (before, limit string) {
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}

// readTravel reads what travelText writes.
func readTravel(attribute, text string) (*guidonv1.TravelAttribute, error) {
	alias, limit := cutLimit(text)
	t := &guidonv1.TravelAttribute{Attribute: attribute, Alias: alias}
	if limit == "" {
		return t, nil
	}
	most, err := strconv.ParseInt(limit[1:], 10, 32)
	if err != nil || most < 1 {
		return nil, fmt.Errorf("%q is not of the form ALIAS:MAXBYTES", text)
	}
	t.MaxBytes = int32(most)
	return t, nil
}

// travelText is an attribute's alias, if it has one, and limit, if it names one.
func travelText(t *guidonv1.TravelAttribute) string {
	text := t.GetAlias()
	if text == t.GetAttribute() {
		text = ""
	}
	if t.GetMaxBytes() != 0 {
		text += ":" + strconv.Itoa(int(t.GetMaxBytes()))
	}
	return text
}

// travel prints the allow-list the way --travel reads it.
func travel(s *guidonv1.Settings) string {
	names := make([]string, len(s.GetTravel()))
	for i, a := range s.GetTravel() {
		text := travelText(a)
		if text != "" && text[0] != ':' {
			text = "=" + text
		}
		names[i] = a.GetAttribute() + text
	}
	return strings.Join(names, ",")
}

func newEnvironmentCreateCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.EnvironmentServiceCreateRequest
	cmd := newNamedCommand(out, r, "create", "created", "environment", func(ctx context.Context, api *api, name string) error {
		req.Name = name
		_, err := api.environments.Create(ctx, &req)
		return err
	})
	cmd.Short = "Make an empty environment, the last in order"
	cmd.Long = "Make an empty environment, the last in order. 'guidon copy' fills it with what another one holds,\n" +
		"'guidon key create' makes its keys."
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
