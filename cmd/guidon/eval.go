package main

import (
	"encoding/json"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

func newEvalCommand(out *output) *cobra.Command {
	var r remote
	var req guidonv1.EvaluationServiceEvaluateRequest
	var attributes string
	var at pointInTime
	cmd := &cobra.Command{
		Use:   "eval KEY",
		Short: "Evaluate one flag, at the newest revision, an older one or a time",
		Long: "Evaluate one flag, at the newest revision, an older one or a time. An evaluation never fails:\n" +
			"an unknown flag or a wrong type is a result too, with reason ERROR and an error code.\n" +
			"A value of null stands for the caller's own default.",
		Example: `  guidon eval checkout.new-pricing --environment development --context '{"targetingKey":"ann","plan":"gold"}'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Context = &structpb.Struct{}
			if err := protojson.Unmarshal([]byte(attributes), req.GetContext()); err != nil {
				return usagef("--context: want a JSON object: %w", err)
			}
			if req.GetType() != "" {
				if _, err := eval.ParseType(req.GetType()); err != nil {
					return usagef("--type: %w", err)
				}
			}
			time, err := at.time()
			if err != nil {
				return err
			}
			api, err := r.open()
			if err != nil {
				return err
			}
			req.Key, req.Revision, req.Time = args[0], at.revision, time
			res, err := api.evaluation.Evaluate(cmd.Context(), &req)
			if err != nil {
				return err
			}
			v := newResolution(res.GetResolution())
			return out.print(cmd.OutOrStdout(), v, func(t *table) {
				t.row("key", v.Key)
				t.row("value", v.Value)
				t.row("variant", v.Variant)
				t.row("reason", v.Reason)
				if v.ErrorCode != "" {
					t.row("error", v.ErrorCode+": "+res.GetResolution().GetErrorMessage())
				}
				t.row("revision", v.Revision)
				t.row("metadata", v.Metadata)
			})
		},
	}
	r.register(cmd.Flags())
	requireEnvironment(cmd, &req.Environment)
	cmd.Flags().StringVar(&attributes, "context", "{}", "the evaluation context, a JSON object")
	at.register(cmd)
	cmd.Flags().StringVar(&req.Type, "type", "", "boolean, string, integer, float or object (default the flag's own)")
	return cmd
}

// resolution is what eval prints.
type resolution struct {
	Key       string          `json:"key"`
	Value     json.RawMessage `json:"value"`
	Variant   string          `json:"variant"`
	Reason    string          `json:"reason"`
	ErrorCode string          `json:"errorCode,omitempty"`
	Revision  int64           `json:"revision"`
	Metadata  json.RawMessage `json:"metadata"`
}

func newResolution(r *guidonv1.Resolution) resolution {
	v := resolution{
		Key: r.GetKey(), Value: json.RawMessage("null"), Variant: r.GetVariant(), Reason: r.GetReason(),
		ErrorCode: r.GetErrorCode(), Revision: r.GetRevision(), Metadata: json.RawMessage("{}"),
	}
	if r.GetValue() != nil {
		v.Value = compact(r.GetValue())
	}
	if r.GetMetadata() != nil {
		v.Metadata = compact(r.GetMetadata())
	}
	return v
}
