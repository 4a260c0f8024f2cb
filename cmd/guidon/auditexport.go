package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

func newAuditExportCommand(r *remote) *cobra.Command {
	var environment, format, file, databaseURL string
	var installation bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write a whole chain of the audit log to a file",
		Long: "Write a whole chain of the audit log to a file, oldest entry first. As ndjson it is what\n" +
			"'guidon audit verify --file' proves without a server; csv is for reading.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneChain(environment, installation); err != nil {
				return err
			}
			if format != "ndjson" && format != "csv" {
				return usagef("--format %q: want ndjson or csv", format)
			}
			write := func(w io.Writer) error { return exportRemote(cmd.Context(), r, environment, format, w) }
			if databaseURL != "" {
				write = func(w io.Writer) error {
					return exportDatabase(cmd.Context(), databaseURL, environment, format, w)
				}
			}
			if file == "-" {
				return write(cmd.OutOrStdout())
			}
			return writeWhole(file, write)
		},
	}
	registerChain(cmd, &environment, &installation)
	cmd.Flags().StringVar(&format, "format", "ndjson", "ndjson or csv")
	cmd.Flags().StringVar(&file, "file", "-", "where to; - for standard output")
	cmd.Flags().StringVar(&databaseURL, "database-url", "", "read straight from this database, without a server")
	return cmd
}

// writeWhole makes a file that is there only when all of it is.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func exportRemote(ctx context.Context, r *remote, environment, format string, w io.Writer) error {
	api, err := r.open()
	if err != nil {
		return err
	}
	stream, err := api.audit.Export(ctx, &guidonv1.AuditServiceExportRequest{Environment: environment, Format: format})
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if _, err := w.Write(stream.Msg().GetData()); err != nil {
			return err
		}
	}
	return stream.Err()
}

func exportDatabase(ctx context.Context, url, environment, format string, w io.Writer) error {
	db, err := openCurrent(ctx, store.Config{DatabaseURL: url})
	if err != nil {
		return err
	}
	defer db.Close()
	export := db.ExportAudit
	if format == "csv" {
		export = db.CSVAudit
	}
	for lines, err := range export(ctx, environment) {
		if err != nil {
			return err
		}
		if _, err := w.Write(lines); err != nil {
			return err
		}
	}
	return nil
}
