package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthWithin bounds how long health waits for an answer.
const healthWithin = 5 * time.Second

func newHealthCommand() *cobra.Command {
	var url string
	var ready bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a server or relay whether it serves",
		Long: "Ask a server or relay whether it serves, or with --ready whether it should get traffic. Exit\n" +
			"code 1 is no. For images that hold nothing to ask with, as ours.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := healthURL(cmp.Or(url, os.Getenv("GUIDON_URL")))
			if err != nil {
				return err
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			said, err := ask(cmd.Context(), at+path)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), said)
			return err
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "the server (default $GUIDON_URL, then where $GUIDON_LISTEN or else "+defaultListen+" is on this machine)")
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it should get traffic")
	return cmd
}

// healthURL is the server that was named, or the one that a serve in this
// environment is.
func healthURL(named string) (string, error) {
	if named != "" {
		if !isURL(named) {
			return "", usagef("--url %q: want http://HOST:PORT or https://HOST", named)
		}
		return strings.TrimSuffix(named, "/"), nil
	}
	listen := cmp.Or(os.Getenv("GUIDON_LISTEN"), defaultListen)
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("GUIDON_LISTEN: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

func ask(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody) //nolint:gosec // whom to ask is for the caller to say
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request) //nolint:gosec // see above
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(cmp.Or(strings.TrimSpace(string(said)), response.Status))
	}
	return string(said), err
}
