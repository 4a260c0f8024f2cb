package server

import (
	"context"
	"testing"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// A database that hangs on the keys of one environment delays no other, and
// nobody longer than it wants to wait.
func TestRelayKeysOfOneEnvironmentDelayNoOther(t *testing.T) {
	t.Parallel()
	var r relayKeys
	asked, hung := make(chan struct{}), make(chan struct{})
	read := func(_ context.Context, env string) (*guidonv1.APIKeys, error) {
		if env == "staging" {
			close(asked)
			<-hung
		}
		return &guidonv1.APIKeys{Keys: []*guidonv1.APIKey{{Id: env}}}, nil
	}
	now := time.Now()
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := r.of(ctx, "staging", now, read)
		left <- err
	}()
	<-asked
	for range 2 { // read, and remembered
		if keys, err := r.of(t.Context(), "production", now, read); err != nil || keys.GetKeys()[0].GetId() != "production" {
			t.Errorf("keys of production: %v, %v", keys, err)
		}
	}
	leave()
	if err := <-left; err == nil {
		t.Error("who left got keys that nobody had read")
	}
	close(hung)
	if keys, err := r.of(t.Context(), "staging", now, read); err != nil || keys.GetKeys()[0].GetId() != "staging" {
		t.Errorf("keys of staging: %v, %v", keys, err)
	}
}
