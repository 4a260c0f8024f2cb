package auth_test

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
)

// procedures lists every RPC of guidon.v1 by walking its descriptors.
func procedures(t *testing.T) []string {
	t.Helper()
	var out []string
	protoregistry.GlobalFiles.RangeFilesByPackage("guidon.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				out = append(out, "/"+string(service.FullName())+"/"+string(service.Methods().Get(j).Name()))
			}
		}
		return true
	})
	if len(out) < 16 {
		t.Fatalf("found %d RPCs, want at least the 16 of the first issue", len(out))
	}
	slices.Sort(out)
	return out
}

func TestEveryProcedureIsInTheTable(t *testing.T) {
	t.Parallel()
	for _, procedure := range procedures(t) {
		if !auth.Known(procedure) {
			t.Errorf("%s is not in the permission table: decide who may call it", procedure)
		}
	}
}

func TestAuthorizeDeniesByDefault(t *testing.T) {
	t.Parallel()
	for _, procedure := range append(procedures(t), "/guidon.v1.FlagService/Drop", "", "/") {
		if err := auth.Authorize(auth.Principal{}, procedure); !errors.Is(err, auth.ErrNoPrincipal) {
			t.Errorf("Authorize(nobody, %q) = %v, want ErrNoPrincipal", procedure, err)
		}
		for _, kind := range []auth.Kind{"client", "relay", "ADMIN", "admin "} {
			if err := auth.Authorize(auth.Principal{KeyID: "k", Kind: kind}, procedure); !errors.Is(err, auth.ErrDenied) {
				t.Errorf("Authorize(%q key, %q) = %v, want ErrDenied", kind, procedure, err)
			}
		}
		admin := auth.Principal{KeyID: "k", Kind: auth.Admin}
		if err := auth.Authorize(admin, procedure); (err == nil) != auth.Known(procedure) {
			t.Errorf("Authorize(admin key, %q) = %v", procedure, err)
		}
	}
}

// TestServerKeysOnlyRead pins what a server key may do: a new row in the table
// that lets it do more has to be written here too.
func TestServerKeysOnlyRead(t *testing.T) {
	t.Parallel()
	var allowed []string
	for _, procedure := range procedures(t) {
		if auth.Authorize(auth.Principal{KeyID: "k", Kind: auth.Server}, procedure) == nil {
			allowed = append(allowed, procedure)
		}
	}
	want := []string{
		"/guidon.v1.EnvironmentService/Get",
		"/guidon.v1.EvaluationService/Evaluate",
		"/guidon.v1.EvaluationService/EvaluateAll",
		"/guidon.v1.EvaluationService/Explain",
		"/guidon.v1.FlagService/Get",
		"/guidon.v1.FlagService/List",
		"/guidon.v1.SyncService/Ack",
		"/guidon.v1.SyncService/GetDefinition",
		"/guidon.v1.SyncService/GetDelta",
		"/guidon.v1.SyncService/GetEmergencies",
		"/guidon.v1.SyncService/GetSnapshot",
		"/guidon.v1.SyncService/Sync",
	}
	if !slices.Equal(allowed, want) {
		t.Errorf("a server key may call %q, want %q", allowed, want)
	}
}
