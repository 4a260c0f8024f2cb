package auth_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
)

// procedures lists every RPC of guidon.v1 and of flagd's protocols by walking
// their descriptors.
func procedures(t *testing.T) []string {
	t.Helper()
	var out []string
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if pkg := string(file.Package()); pkg != "guidon.v1" && !strings.HasPrefix(pkg, "flagd.") {
			return true
		}
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
		for _, kind := range []auth.Kind{"Client", "relay ", "ADMIN", "admin "} {
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

// TestWhatKeysMayCall pins what each kind of key may do: a new row in the table
// that lets one do more has to be written here too.
func TestWhatKeysMayCall(t *testing.T) {
	t.Parallel()
	values := []string{
		"/flagd.evaluation.v1.Service/EventStream",
		"/flagd.evaluation.v1.Service/ResolveAll",
		"/flagd.evaluation.v1.Service/ResolveBoolean",
		"/flagd.evaluation.v1.Service/ResolveFloat",
		"/flagd.evaluation.v1.Service/ResolveInt",
		"/flagd.evaluation.v1.Service/ResolveObject",
		"/flagd.evaluation.v1.Service/ResolveString",
		"/flagd.evaluation.v2.Service/EventStream",
		"/flagd.evaluation.v2.Service/ResolveBoolean",
		"/flagd.evaluation.v2.Service/ResolveFloat",
		"/flagd.evaluation.v2.Service/ResolveInt",
		"/flagd.evaluation.v2.Service/ResolveObject",
		"/flagd.evaluation.v2.Service/ResolveString",
	}
	sync := []string{
		"/flagd.sync.v1.FlagSyncService/FetchAllFlags",
		"/flagd.sync.v1.FlagSyncService/GetMetadata",
		"/flagd.sync.v1.FlagSyncService/SyncFlags",
		"/guidon.v1.EnvironmentService/Get",
		"/guidon.v1.SyncService/Ack",
		"/guidon.v1.SyncService/GetDefinition",
		"/guidon.v1.SyncService/GetDelta",
		"/guidon.v1.SyncService/GetEmergencies",
		"/guidon.v1.SyncService/GetSnapshot",
		"/guidon.v1.SyncService/Sync",
	}
	read := []string{
		"/guidon.v1.EvaluationService/Evaluate",
		"/guidon.v1.EvaluationService/EvaluateAll",
		"/guidon.v1.EvaluationService/Explain",
		"/guidon.v1.FlagService/Get",
		"/guidon.v1.FlagService/List",
		"/guidon.v1.HeaderService/Explain",
		"/guidon.v1.HeaderService/Verify",
		"/guidon.v1.SegmentService/Get",
		"/guidon.v1.SegmentService/List",
	}
	for kind, want := range map[auth.Kind][]string{
		auth.Client: values,
		auth.Relay:  slices.Concat(values, sync),
		auth.Server: slices.Concat(values, sync, read),
	} {
		var allowed []string
		for _, procedure := range procedures(t) {
			if auth.Authorize(auth.Principal{KeyID: "k", Kind: kind}, procedure) == nil {
				allowed = append(allowed, procedure)
			}
		}
		slices.Sort(want)
		if !slices.Equal(allowed, want) {
			t.Errorf("a %s key may call %q, want %q", kind, allowed, want)
		}
		if err := auth.Authorize(auth.Principal{KeyID: "k", Kind: kind}, auth.OFREP); err != nil {
			t.Errorf("a %s key may not use OFREP: %v", kind, err)
		}
	}
}
