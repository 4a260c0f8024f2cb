package main

import (
	"context"
	"fmt"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// rotate makes new propagation keys until ctx ends, the next when the one before
// signs.
func (m *Mesh) rotate(ctx context.Context, changes *toggler) error {
	if m.config.RotateEvery == 0 {
		return nil
	}
	for pause(ctx, nil, m.config.RotateEvery) == nil {
		done, err := changes.Rotated(ctx)
		if err != nil {
			return err
		}
		if done {
			if err := changes.Rotate(ctx); err != nil {
				return err
			}
			m.recorder.Count("key rotations")
		}
	}
	return nil
}

// Rotate has the environment handed out a new propagation key.
func (t *toggler) Rotate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	request := &guidonv1.EnvironmentServiceRotatePropagationKeyRequest{Environment: environment, Reason: "mesh"}
	if _, err := t.environments.RotatePropagationKey(ctx, request); err != nil {
		return fmt.Errorf("rotate the propagation key: %w", err)
	}
	return nil
}

// Rotated reports whether no key is being handed out: the newest signs.
func (t *toggler) Rotated(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	got, err := t.environments.Get(ctx, &guidonv1.EnvironmentServiceGetRequest{Name: environment})
	if err != nil {
		return false, fmt.Errorf("propagation key: %w", err)
	}
	return got.GetEnvironment().GetPropagationKey().GetNext() == "", nil
}
