package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/guidon-flags/guidon/store"
)

func newAuditDropCommand(out *output) *cobra.Command {
	var environment, before, file, reason, databaseURL string
	var installation bool
	cmd := &cobra.Command{
		Use:   "drop",
		Short: "Export a chain, and drop entries that are older than a time",
		Long: "Export a chain of the audit log to a file, verify the file, and drop the entries up to the\n" +
			"newest checkpoint that is older than a time. The checkpoint becomes the anchor at which\n" +
			"verification begins; the file proves what lies before it. It works on the database alone,\n" +
			"as the role that owns the tables: see 'guidon migrate roles'.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneChain(environment, installation); err != nil {
				return err
			}
			at, err := time.Parse(time.RFC3339, before)
			if err != nil {
				return usagef("--before %q: want a time such as 2026-01-31T12:00:00Z", before)
			}
			url, err := requireDatabase(databaseURL)
			if err != nil {
				return err
			}
			if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s is there already, and may be the only copy of what was dropped before", file)
			}
			dropped, err := drop(cmd.Context(), url, environment, file, reason, at)
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), map[string]int64{"dropped": dropped}, func(t *table) { t.row("dropped up to entry", dropped) })
		},
	}
	registerChain(cmd, &environment, &installation)
	cmd.Flags().StringVar(&before, "before", "", "drop entries that are older than this time (required)")
	cmd.Flags().StringVar(&file, "file", "", "where the export goes, which must be kept (required)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log (required)")
	cmd.Flags().StringVar(&databaseURL, "database-url", "", "Postgres, as the owner of the tables (default $GUIDON_DATABASE_URL)")
	for _, name := range []string{"before", "file", "reason"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // it was defined just above
		}
	}
	return cmd
}

func drop(ctx context.Context, url, environment, file, reason string, before time.Time) (int64, error) {
	db, err := openCurrent(ctx, store.Config{DatabaseURL: url})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	anchor, err := db.Droppable(ctx, environment, before)
	if err != nil {
		return 0, err
	}
	if err := writeWhole(file, func(w io.Writer) error { return exportDatabase(ctx, url, environment, "ndjson", w) }); err != nil {
		return 0, err
	}
	v, err := verifyFile(file, []string{environment}, "", nil)
	if err != nil {
		return 0, err
	}
	if v.Outcome != "ok" || v.Entries < anchor.Head.Seq {
		return 0, fmt.Errorf("nothing was dropped: %s holds %d entries, and is %s: %s", file, v.Entries, v.Outcome, v.Detail)
	}
	return anchor.Head.Seq, db.DropAudit(ctx, anchor, "database: guidon audit drop", reason)
}
