package main

import (
	"errors"
	"fmt"
	"os/user"

	"github.com/spf13/cobra"

	"github.com/guidon-flags/guidon/store"
)

func newRecoverCommand(out *output) *cobra.Command {
	var databaseURL string
	asked := store.Recovery{Actor: "database: guidon recover"}
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on after a restore or failover of Postgres that may have lost commits",
		Long: "Go on after a restore or failover of Postgres that may have lost commits: each environment\n" +
			"continues at the next multiple of 2^20, so that no revision number is used twice. Requests\n" +
			"pinned to a revision that was lost get an ERROR (PIN_UNAVAILABLE). Servers are not ready, and\n" +
			"take no changes, until this was run once. It needs the database and nothing else.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := requireDatabase(databaseURL)
			if err != nil {
				return err
			}
			db, err := openCurrent(cmd.Context(), store.Config{DatabaseURL: url})
			if err != nil {
				return err
			}
			defer db.Close()
			if who, err := user.Current(); err == nil {
				asked.Actor += " by " + who.Username
			}
			done, err := db.Recover(cmd.Context(), asked)
			if errors.Is(err, store.ErrRecovered) {
				return errors.New("the database is where it was left, and nothing says that commits were lost; if they were, give --force")
			}
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), map[string]any{"recovered": recoveries(done)}, func(t *table) {
				t.row("ENVIRONMENT", "REVISION", "LOST")
				for _, r := range done {
					t.row(r.Environment, r.Revision, fmt.Sprintf("%d to %d", r.Before+1, r.Revision-1))
				}
			})
		},
	}
	cmd.Flags().StringVar(&databaseURL, "database-url", "", "Postgres (default $GUIDON_DATABASE_URL)")
	cmd.Flags().StringVar(&asked.Reason, "reason", "", "what happened (required)")
	cmd.Flags().BoolVar(&asked.Force, "force", false, "though nothing says that commits were lost")
	if err := cmd.MarkFlagRequired("reason"); err != nil {
		panic(err) // it was defined just above
	}
	return cmd
}

// recovery is how a recovered environment prints.
type recovery struct {
	Environment string `json:"environment"`
	Before      int64  `json:"before"`
	Revision    int64  `json:"revision"`
}

func recoveries(done []store.Recovered) []recovery {
	out := make([]recovery, len(done))
	for i, r := range done {
		out[i] = recovery(r)
	}
	return out
}
