package main

import (
	"cmp"
	"context"
	"crypto/tls"
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
			"code 1 is no. For images that hold nothing to ask with, as ours. The server of this machine\n" +
			"is asked as it speaks, with TLS or without; of one that is named the certificate is verified.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			named := cmp.Or(url, os.Getenv("GUIDON_URL"))
			at, err := healthURL(named)
			if err != nil {
				return err
			}
			client := http.DefaultClient
			if named == "" {
				at, client = asItSpeaks(cmd.Context(), at)
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			said, err := ask(cmd.Context(), client, at+path)
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

// asItSpeaks returns the URL of a server of this machine, and whom to ask it by:
// whoever started it may have given it a certificate where nobody else looks. The
// certificate is of its public name, and is not verified: nothing is told to it
// that others may not know.
func asItSpeaks(ctx context.Context, url string) (string, *http.Client) {
	ctx, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	address := strings.TrimPrefix(url, "http://")
	over := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13} //nolint:gosec // see above
	conn, err := (&tls.Dialer{Config: over}).DialContext(ctx, "tcp", address)
	if err != nil {
		return url, http.DefaultClient // it has none, or cannot be reached
	}
	_ = conn.Close() // nothing was sent
	return "https://" + address, &http.Client{Transport: &http.Transport{TLSClientConfig: over, DisableKeepAlives: true}}
}

func ask(ctx context.Context, client *http.Client, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody) //nolint:gosec // whom to ask is for the caller to say
	if err != nil {
		return "", err
	}
	response, err := client.Do(request) //nolint:gosec // see above
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
