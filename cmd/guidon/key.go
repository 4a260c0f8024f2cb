package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// databaseActor is the actor of what was done past the server's API.
const databaseActor = "database: guidon key create"

func newKeyCommand(out *output) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Create, list and revoke API keys",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(newKeyCreateCommand(out, &r), newKeyListCommand(out, &r), newKeyRevokeCommand(out, &r))
	return cmd
}

func newKeyCreateCommand(out *output, r *remote) *cobra.Command {
	var req guidonv1.KeyServiceCreateRequest
	var lifetime time.Duration
	var databaseURL string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make an API key and show it, this once",
		Long: "Make an API key and show it, this once. With --database-url the key is made straight in\n" +
			"the database, which needs neither a server nor a key: that is how the first one comes to be.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if databaseURL != "" && cmd.Flags().Changed("url") {
				return usagef("--database-url and --url: give one of them")
			}
			if lifetime < 0 {
				return usagef("--expires-in %v: want more than 0", lifetime)
			}
			var expires time.Time
			if lifetime > 0 {
				expires = time.Now().Add(lifetime)
				req.ExpiresAt = timestamppb.New(expires)
			}
			if req.GetName() == "" {
				req.Name = strings.TrimSpace(req.GetEnvironment() + " " + req.GetKind())
			}
			create := func() (*guidonv1.KeyServiceCreateResponse, error) {
				api, err := r.open()
				if err != nil {
					return nil, err
				}
				return api.keys.Create(cmd.Context(), &req)
			}
			if databaseURL != "" {
				create = func() (*guidonv1.KeyServiceCreateResponse, error) {
					db, err := openCurrent(cmd.Context(), store.Config{DatabaseURL: databaseURL})
					if err != nil {
						return nil, err
					}
					defer db.Close()
					k, text, err := db.CreateKey(cmd.Context(), store.NewKey{
						Kind: store.KeyKind(req.GetKind()), Environment: req.GetEnvironment(), Name: req.GetName(),
						Origins: req.GetOrigins(), Propagates: req.GetPropagates(), Projects: req.GetProjects(), Expires: expires, Actor: databaseActor,
					})
					if err != nil {
						return nil, err
					}
					return &guidonv1.KeyServiceCreateResponse{Key: keyMessage(k), Text: text.Reveal()}, nil
				}
			}
			res, err := create()
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), message{res}, func(t *table) {
				t.row("key", res.GetText())
				t.row("id", res.GetKey().GetId())
				t.row("kind", res.GetKey().GetKind())
				t.row("environment", res.GetKey().GetEnvironment())
				t.row("projects", inProjects(res.GetKey()))
				t.row("expires", when(res.GetKey().GetExpiresAt()))
				t.row("Keep the key now: it is not stored and cannot be shown again.")
			})
		},
	}
	cmd.Flags().StringVar(&req.Kind, "kind", "", "server (evaluates and syncs one environment), client (for browsers and apps), relay or admin (required)")
	cmd.Flags().StringArrayVar(&req.Origins, "origin", nil, "web origin whose pages may use a client key, as in https://shop.example; may be repeated; * is any")
	cmd.Flags().BoolVar(&req.Propagates, "propagates", false,
		"for a server key whose callers send guidon headers over OFREP or flagd: nothing they get may be kept for the next request")
	cmd.Flags().StringArrayVar(&req.Projects, "project", nil,
		"project that a server or client key is restricted to; may be repeated. The flags of other projects are unknown to it,\n"+
			"and services with it pass guidon headers on but sign none (default all projects)")
	cmd.Flags().StringVar(&req.Environment, "environment", "", "environment of the key; none for an admin key")
	cmd.Flags().StringVar(&req.Name, "name", "", "what people will know the key by (default environment and kind)")
	cmd.Flags().DurationVar(&lifetime, "expires-in", 0, "when the key stops working, as in 720h (default never)")
	cmd.Flags().StringVar(&databaseURL, "database-url", "", "make the key straight in this database, without a server")
	if err := cmd.MarkFlagRequired("kind"); err != nil {
		panic(err) // it was defined just above
	}
	return cmd
}

// inProjects are the projects that a key is restricted to.
func inProjects(k *guidonv1.Key) string {
	if len(k.GetProjects()) == 0 {
		return "all"
	}
	return strings.Join(k.GetProjects(), ", ")
}

// keyMessage is a stored key as the API shows it.
func keyMessage(k store.Key) *guidonv1.Key {
	m := &guidonv1.Key{
		Id: k.ID, Kind: string(k.Kind), Environment: k.Environment, Name: k.Name, Hint: k.Hint, Origins: k.Origins, Propagates: k.Propagates, Projects: k.Projects,
		CreatedAt: timestamppb.New(k.CreatedAt), CreatedBy: k.CreatedBy,
	}
	if !k.ExpiresAt.IsZero() {
		m.ExpiresAt = timestamppb.New(k.ExpiresAt)
	}
	return m
}

func newKeyListCommand(out *output, r *remote) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List API keys, newest first; their secrets are not stored",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			keys, more, err := pages(limit, func(size int32, token string) ([]*guidonv1.Key, string, error) {
				res, err := api.keys.List(cmd.Context(), &guidonv1.KeyServiceListRequest{PageSize: size, PageToken: token})
				return res.GetKeys(), res.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			noteMore(cmd, more)
			return out.print(cmd.OutOrStdout(), list("keys", keys), func(t *table) {
				t.row("ID", "KIND", "ENVIRONMENT", "NAME", "ENDS IN", "PROJECTS", "CREATED", "LAST USED", "EXPIRES", "REVOKED")
				for _, k := range keys {
					t.row(k.GetId(), k.GetKind(), k.GetEnvironment(), k.GetName(), "…"+k.GetHint(), inProjects(k), when(k.GetCreatedAt()),
						when(k.GetLastUsedAt()), when(k.GetExpiresAt()), when(k.GetRevokedAt()))
				}
			})
		},
	}
	registerLimit(cmd.Flags(), &limit, 0)
	return cmd
}

func newKeyRevokeCommand(out *output, r *remote) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "End an API key at once",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := r.open()
			if err != nil {
				return err
			}
			res, err := api.keys.Revoke(cmd.Context(), &guidonv1.KeyServiceRevokeRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), message{res.GetKey()}, func(t *table) {
				t.row(fmt.Sprintf("revoked %s key %s (%s)", res.GetKey().GetKind(), res.GetKey().GetId(), res.GetKey().GetName()))
			})
		},
	}
}
