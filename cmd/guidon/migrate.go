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
	cmd.AddCommand(&cobra.Command{
		Use:   "roles",
		Short: "Make the database roles and give each what it needs and no more",
		Long: "Make the roles guidon_owner, which migrates, guidon_app, which serve connects as and which\n" +
			"can add to the audit log but not change it, and guidon_read, which reads all but secrets.\n" +
			"They have no passwords: ALTER ROLE guidon_app PASSWORD '…' gives it one. Run it again after\n" +
			"a migration. It needs a superuser, or a role that may create roles and owns the schema.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := requireDatabase(databaseURL)
			if err != nil {
				return err
			}
			if err := migrations.Roles(cmd.Context(), url); err != nil {
				return err
			}
			type grant struct {
				Table string `json:"table"`
				App   string `json:"app"`
				Read  string `json:"read"`
			}
			var grants []grant
			for _, g := range migrations.Grants() {
				grants = append(grants, grant(g))
			}
			return out.print(cmd.OutOrStdout(), map[string]any{"grants": grants}, func(t *table) {
				t.row("TABLE", migrations.RoleApp, migrations.RoleRead)
				for _, g := range grants {
					t.row(g.Table, g.App, g.Read)
				}
			})
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
