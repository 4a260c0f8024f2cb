package main

import (
	"cmp"
	"os"

	"github.com/spf13/cobra"

	"github.com/guidon-flags/guidon/migrations"
)

func newMigrateCommand(out *output) *cobra.Command {
	var databaseURL string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring a database's schema to what this build serves",
	}
	cmd.PersistentFlags().StringVar(&databaseURL, "database-url", "", "Postgres (default $GUIDON_DATABASE_URL)")
	cmd.AddCommand(&cobra.Command{
		Use:   "up",
		Short: "Create or upgrade the schema; any number of these may run at once",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := requireDatabase(databaseURL)
			if err != nil {
				return err
			}
			if err := migrations.Up(cmd.Context(), url); err != nil {
				return err
			}
			return printSchema(cmd, out, url)
		},
	}, &cobra.Command{
		Use:   "status",
		Short: "Say where the schema stands; exit code 1 if this build cannot serve it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := requireDatabase(databaseURL)
			if err != nil {
				return err
			}
			return printSchema(cmd, out, url)
		},
	})
	return cmd
}

// requireDatabase returns the database that the flag or the environment names.
func requireDatabase(flag string) (string, error) {
	url := cmp.Or(flag, os.Getenv("GUIDON_DATABASE_URL"))
	if url == "" {
		return "", usagef("no database: give --database-url or GUIDON_DATABASE_URL")
	}
	return url, nil
}

func printSchema(cmd *cobra.Command, out *output, url string) error {
	state, err := migrations.Status(cmd.Context(), url)
	if err != nil {
		return err
	}
	schema := struct {
		Version int  `json:"version"`
		Dirty   bool `json:"dirty"`
		Oldest  int  `json:"oldest"`
		Newest  int  `json:"newest"`
	}{state.Version, state.Dirty, migrations.Oldest, migrations.Newest}
	err = out.print(cmd.OutOrStdout(), schema, func(t *table) {
		t.row("schema version", schema.Version)
		t.row("served by this build", schema.Oldest, "to", schema.Newest)
	})
	if err != nil {
		return err
	}
	return state.Check()
}
