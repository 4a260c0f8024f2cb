package main

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// TestLargestEnvironmentFitsOneChange: what export writes of 10,000 flags, with
// all that can be said of each, is a change set that a server takes.
func TestLargestEnvironmentFitsOneChange(t *testing.T) {
	t.Parallel()
	const flags = 10_000
	d := &declaration{Guidon: declarationVersion, Environment: "development", Settings: &declaredSettings{Fractional: "v2"}, Flags: map[string]*declaredFlag{}}
	for i := range flags {
		d.Flags[fmt.Sprintf("limit-%05d", i)] = &declaredFlag{
			Kind: "config", Owner: "team", Description: "What it is for.", Schema: map[string]any{"type": "integer"},
			Definition: map[string]any{"state": "ENABLED", "variants": map[string]any{"default": i}, "defaultVariant": "default"},
		}
	}
	text, err := d.yaml()
	if err != nil {
		t.Fatal(err)
	}
	if d, err = readDeclaration(text); err != nil {
		t.Fatal(err)
	}
	operations, err := d.operations()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(operations); n != 3*flags+1 || n > store.MaxOperations {
		t.Errorf("%d operations, want three for each flag and one, of at most %d", n, store.MaxOperations)
	}
	if n := proto.Size(&guidonv1.ChangeServiceApplyRequest{Operations: operations}); n > maxImport {
		t.Errorf("a request of %d bytes, want at most %d", n, maxImport)
	}
}
