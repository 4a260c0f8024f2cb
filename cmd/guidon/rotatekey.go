package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// rotationPoll is how often a command that waits looks at a rotation.
const rotationPoll = 500 * time.Millisecond

func newEnvironmentRotateKeyCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.EnvironmentServiceRotatePropagationKeyRequest
	var wait bool
	cmd := &cobra.Command{
		Use:   "rotate-key NAME",
		Short: "Give an environment a new key for the guidon header",
		Long: "Give an environment a new key for the guidon header. The key is handed out at once, and signs\n" +
			"when every connected instance has acknowledged it. The one before goes on verifying. With --force\n" +
			"the new key signs at once: instances that lack it pass headers on unread until they have it.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			req.Environment = args[0]
			res, err := api.environments.RotatePropagationKey(cmd.Context(), &req)
			if err != nil {
				return err
			}
			state := res.GetPropagationKey()
			for wait && state.GetNext() != "" {
				select {
				case <-time.After(rotationPoll):
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				}
				res, err := api.environments.Get(cmd.Context(), &guidonv1.EnvironmentServiceGetRequest{Name: args[0]})
				if err != nil {
					return err
				}
				state = res.GetEnvironment().GetPropagationKey()
			}
			return out.print(cmd.OutOrStdout(), message{state}, func(t *table) { t.row(keyState(state)) })
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; required where the environment is protected")
	cmd.Flags().BoolVar(&req.Force, "force", false, "let the new key sign at once, for one that leaked")
	cmd.Flags().BoolVar(&wait, "wait", false, "return when the new key signs")
	return cmd
}

// keyState says which key signs, and who is still to get the next one.
func keyState(k *guidonv1.PropagationKeyState) string {
	switch {
	case k.GetSigner() == "":
		return ""
	case k.GetNext() == "":
		return k.GetSigner() + " signs"
	}
	return fmt.Sprintf("%s signs; %s is being handed out: %d of %d instances hold it", k.GetSigner(), k.GetNext(), k.GetHeld(), k.GetConnected())
}
