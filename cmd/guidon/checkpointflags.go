package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/guidon-flags/guidon/server/notary"
)

// checkpointFlags are the flags about where checkpoints of the audit log are
// published besides the server's log and the streams.
type checkpointFlags struct{ file, url, tokenFile string }

func (f *checkpointFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "checkpoint-file", "",
		"file to append each signed checkpoint of the audit log to, for 'guidon audit verify --checkpoint' (default $GUIDON_CHECKPOINT_FILE)")
	flags.StringVar(&f.url, "checkpoint-url", "",
		"URL to send each to: a PUT if it holds {chain} or {size}, which are filled in, else a POST (default $GUIDON_CHECKPOINT_URL)")
	flags.StringVar(&f.tokenFile, "checkpoint-token-file", "",
		"file with the bearer token for that URL (default $GUIDON_CHECKPOINT_TOKEN_FILE, then the token itself in $GUIDON_CHECKPOINT_TOKEN)")
}

// destinations are those that were asked for.
func (f *checkpointFlags) destinations() ([]notary.Destination, error) {
	var to []notary.Destination
	if path := cmp.Or(f.file, os.Getenv("GUIDON_CHECKPOINT_FILE")); path != "" {
		file, err := notary.NewFile(path)
		if err != nil {
			return nil, fmt.Errorf("--checkpoint-file: %w", err)
		}
		to = append(to, file)
	}
	if url := cmp.Or(f.url, os.Getenv("GUIDON_CHECKPOINT_URL")); url != "" {
		token, err := f.token()
		if err != nil {
			return nil, err
		}
		endpoint, err := notary.NewEndpoint(notary.EndpointConfig{URL: url, Token: token})
		if err != nil {
			return nil, usagef("--checkpoint-url: %v", err)
		}
		to = append(to, endpoint)
	}
	return to, nil
}

func (f *checkpointFlags) token() (string, error) {
	path := cmp.Or(f.tokenFile, os.Getenv("GUIDON_CHECKPOINT_TOKEN_FILE"))
	if path == "" {
		return os.Getenv("GUIDON_CHECKPOINT_TOKEN"), nil
	}
	raw, err := os.ReadFile(path) //nolint:gosec // whoever starts the server may read what it can
	if err != nil {
		return "", fmt.Errorf("--checkpoint-token-file: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" {
		return "", fmt.Errorf("--checkpoint-token-file: %s is empty", path)
	}
	return token, nil
}
