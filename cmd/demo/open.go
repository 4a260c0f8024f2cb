package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// open runs a shop for the command line.
func open(ctx context.Context, out, logs io.Writer, config Config, readyFile string) error {
	if config.Lag < 0 {
		return fmt.Errorf("--lag %v: must not be negative", config.Lag)
	}
	if readyFile != "" {
		// One that is there names a shop that is gone.
		if err := os.Remove(readyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		defer os.Remove(readyFile)
	}
	config.Log = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	shop, err := Open(ctx, config)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return shop.Run(ctx) })
	g.Go(func() error {
		wait, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err := shop.WaitReady(wait)
		if ctx.Err() != nil {
			return nil
		}
		fmt.Fprintf(out, "The shop is open: %s\n", shop.booths[0].url)
		for _, b := range shop.booths[1:] {
			fmt.Fprintf(out, "  %-9s       %s\n", b.name, b.url)
		}
		if err != nil {
			fmt.Fprintf(out, "Guidon does not answer yet at %s. The shop keeps trying, with the code's own defaults.\n", config.Guidon)
		}
		if readyFile == "" {
			return nil
		}
		return writeReady(readyFile, shop)
	})
	return g.Wait()
}

// writeReady writes the URLs of a shop, all of them or nothing.
func writeReady(path string, shop *Shop) error {
	ready := struct {
		URL      string            `json:"url"`
		Services map[string]string `json:"services"`
	}{shop.booths[0].url, shop.URLs()}
	data, err := json.Marshal(ready)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already if the rename went well
	if _, err := tmp.Write(append(data, '\n')); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
