package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// A flipper changes the default variant of the flag that all services read,
// through Guidon's API, as a person with an admin key would.
type flipper struct {
	environment string
	before      string // the variant when the flipper was made
	flipped     bool
	changes     guidonv1connect.ChangeServiceClient
}

// newFlipper looks the flag up. Its methods are for one goroutine at a time.
func newFlipper(ctx context.Context, guidon, key, environment string) (*flipper, error) {
	client := &http.Client{Timeout: stormTimeout, Transport: bearer{key, http.DefaultTransport}}
	guidon = strings.TrimRight(guidon, "/")
	flags := guidonv1connect.NewFlagServiceClient(client, guidon, connect.WithReadMaxBytes(maxReport))
	got, err := flags.Get(ctx, &guidonv1.FlagServiceGetRequest{Environment: environment, Key: flipped})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flipped, err)
	}
	return &flipper{
		environment: environment, before: got.GetFlag().GetDefaultVariant(),
		changes: guidonv1connect.NewChangeServiceClient(client, guidon, connect.WithReadMaxBytes(maxReport)),
	}, nil
}

// Restore has the flag serve again what it did when the flipper was made.
func (f *flipper) Restore(ctx context.Context) error {
	if !f.flipped {
		return nil
	}
	return f.To(ctx, f.before, "storm: as it was before")
}

// To has the flag serve a variant from now on.
func (f *flipper) To(ctx context.Context, variant, reason string) error {
	_, err := f.changes.Apply(ctx, &guidonv1.ChangeServiceApplyRequest{
		Reason: reason,
		Operations: []*guidonv1.Operation{{Operation: &guidonv1.Operation_SetDefaultVariant{
			SetDefaultVariant: &guidonv1.SetDefaultVariant{Environment: f.environment, Key: flipped, Variant: variant},
		}}},
	})
	if err != nil {
		return fmt.Errorf("flip %s to %q: %w", flipped, variant, err)
	}
	f.flipped = true
	return nil
}

// Every flips the flag at an interval until ctx ends, and closes warm after
// the first few flips. It returns how many there were.
func (f *flipper) Every(ctx context.Context, interval time.Duration, few int, warm chan<- struct{}) (int, error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; ; n++ {
		if n == few {
			close(warm)
		}
		variant := "on"
		if n%2 == 1 {
			variant = "off"
		}
		// A flip that has begun is finished: it is counted or it did not happen.
		if err := f.To(context.WithoutCancel(ctx), variant, fmt.Sprintf("storm: flip %d", n+1)); err != nil {
			return n, err
		}
		select {
		case <-ctx.Done():
			return n + 1, nil
		case <-tick.C:
		}
	}
}

// bearer sends an API key with each request.
type bearer struct {
	key  string
	base http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.key)
	return b.base.RoundTrip(r)
}
