package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

func newHeaderCommand(out *output) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "header",
		Short: "Look at the guidon header of a request",
	}
	var r remote
	cmd.AddCommand(newHeaderVerifyCommand(out, &r), newHeaderExplainCommand(out, &r), &cobra.Command{
		Use:   "decode VALUE",
		Short: "Print every part of a header value, without a server",
		Long: "Print every part of a header value, without a server. The signature is not checked, since\n" +
			"that takes the environment's propagation key: what is printed is what the header claims.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			decoded, err := propagate.Decode(args[0])
			if err != nil {
				return err
			}
			h := newHeader(decoded, len(args[0]))
			return out.print(cmd.OutOrStdout(), h, h.table)
		},
	})
	return cmd
}

func newHeaderVerifyCommand(out *output, r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify VALUE",
		Short: "Ask a server whether a header's signature is right; exit code 1 if it is not",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			res, err := api.headers.Verify(cmd.Context(), &guidonv1.HeaderServiceVerifyRequest{Header: args[0]})
			if err != nil {
				return err
			}
			err = out.print(cmd.OutOrStdout(), message{res}, func(t *table) {
				t.row("outcome", res.GetOutcome())
				t.row("environment", res.GetEnvironment())
				t.row("key", res.GetKeyId())
				t.row("pinned to revision", res.GetPinned())
				t.row("newest revision", res.GetRevision())
			})
			if err == nil && res.GetOutcome() != propagate.Verified.String() {
				err = errors.New(res.GetDetail())
			}
			return err
		},
	}
	r.register(cmd.Flags())
	return cmd
}

func newHeaderExplainCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.HeaderServiceExplainRequest
	var limit int
	cmd := &cobra.Command{
		Use:   "explain VALUE",
		Short: "Show what each flag is for a service that holds a header, and why",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			req.Header = args[0]
			evaluations, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.HeaderEvaluation, string, error) {
				req.PageSize, req.PageToken = size, token
				res, err := api.headers.Explain(cmd.Context(), &req)
				return res.GetEvaluations(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			noteMore(cmd, more)
			return out.print(cmd.OutOrStdout(), list("evaluations", evaluations), func(t *table) {
				t.row("FLAG", "VARIANT", "VALUE", "REASON", "ORIGIN", "REVISION", "RULE")
				for _, e := range evaluations {
					reason := e.GetReason()
					if e.GetErrorCode() != "" {
						reason += " " + e.GetErrorCode()
					}
					t.row(e.GetFlag(), e.GetVariant(), compact(e.GetValue()), reason, e.GetOrigin(), e.GetRevision(), e.GetRule())
				}
			})
		},
	}
	r.register(cmd.Flags())
	cmd.Flags().StringVar(&req.Flag, "flag", "", "only this flag")
	registerLimit(cmd.Flags(), &limit, 0)
	return cmd
}

// header is what header decode prints.
type header struct {
	CorrelationID string           `json:"correlationId"`
	Root          string           `json:"root"`
	Environment   string           `json:"environment"`
	Revision      int64            `json:"revision"`
	Known         int64            `json:"known"`
	Time          int64            `json:"time"`
	TargetingKey  *string          `json:"targetingKey"`
	Attributes    map[string]any   `json:"attributes"`
	Decisions     []headerDecision `json:"decisions"`
	KeyID         string           `json:"keyId"`
	Bytes         int              `json:"bytes"`

	attributes []propagate.Attribute // in their order on the wire
}

type headerDecision struct {
	Flag string `json:"flag"`
	// Variant is empty for the caller's default.
	Variant string `json:"variant"`
	// By is root, override or emergency.
	By string `json:"by"`
	// Emergency is the revision of an emergency.
	Emergency int64 `json:"emergency,omitempty"`
}

var deciders = map[propagate.Mark]string{
	propagate.MarkRoot: "root", propagate.MarkOverride: "override", propagate.MarkEmergency: "emergency",
}

func newHeader(d propagate.Header, length int) header {
	h := header{
		CorrelationID: d.Correlation, Root: d.Root, Environment: d.Environment, Revision: d.Revision, Known: d.Known,
		Time: d.Time, Attributes: map[string]any{}, Decisions: []headerDecision{}, KeyID: d.KeyID, Bytes: length,
		attributes: d.Attributes,
	}
	if d.HasSubject {
		h.TargetingKey = &d.Subject
	}
	for _, a := range d.Attributes {
		h.Attributes[a.Name] = a.Value()
	}
	for _, x := range d.Decisions {
		h.Decisions = append(h.Decisions, headerDecision{x.Flag, x.Variant, deciders[x.Mark], x.Emergency})
	}
	return h
}

func (h header) table(t *table) {
	t.row("correlation id", h.CorrelationID)
	t.row("root", h.Root)
	t.row("environment", h.Environment)
	t.row("revision", h.Revision)
	if h.Known != 0 {
		t.row("emergencies known to", h.Known)
	}
	t.row("time", fmt.Sprintf("%d (%s)", h.Time, time.Unix(h.Time, 0).UTC().Format(time.RFC3339)))
	if h.TargetingKey != nil {
		t.row("targeting key", *h.TargetingKey)
	}
	for _, a := range h.attributes {
		t.row("attribute "+a.Name, encoded(a.Value()))
	}
	for _, d := range h.Decisions {
		variant := d.Variant
		if variant == "" {
			variant = "(the caller's default)"
		}
		by := "by " + d.By
		if d.Emergency != 0 {
			by += fmt.Sprintf(" of revision %d", d.Emergency)
		}
		t.row("decided "+d.Flag, variant, by)
	}
	t.row("signed by key", h.KeyID, "signature not checked")
	t.row("length", fmt.Sprintf("%d bytes", h.Bytes))
}
