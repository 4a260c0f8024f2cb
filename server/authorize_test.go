package server_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// rpc is one RPC of guidon.v1, as its descriptor says.
type rpc struct {
	procedure string
	streams   bool
	// tries says that the request may ask for a dry run.
	tries bool
	// environment is the field of the request that names one; "" for none.
	environment string
}

func rpcs() []rpc {
	var out []rpc
	protoregistry.GlobalFiles.RangeFilesByPackage("guidon.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				r := rpc{
					procedure: "/" + string(service.FullName()) + "/" + string(method.Name()), streams: method.IsStreamingServer(),
					tries: method.Input().Fields().ByName("dry_run") != nil,
				}
				for _, name := range []protoreflect.Name{"environment", "name"} {
					if method.Input().Fields().ByName(name) != nil && r.environment == "" && service.Name() != "KeyService" && service.Name() != "ProjectService" {
						r.environment = string(name)
					}
				}
				out = append(out, r)
			}
		}
		return true
	})
	slices.SortFunc(out, func(a, b rpc) int { return strings.Compare(a.procedure, b.procedure) })
	return out
}

// call makes an RPC as a plain HTTP request with a JSON body, and returns its
// Connect code; "ok" for none.
func (g *guidon) call(t testing.TB, r rpc, body string, header ...string) string {
	t.Helper()
	contentType := "application/json"
	if r.streams {
		contentType = "application/connect+json"
		body = string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))) + body
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+r.procedure, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	for i := 0; i < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	response, err := noRedirects.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if !r.streams {
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode == http.StatusOK {
			return "ok"
		}
		return answer{body: string(text)}.code()
	}
	var envelope [5]byte
	if _, err := io.ReadFull(response.Body, envelope[:]); err != nil {
		t.Fatalf("%s: no event: %v", r.procedure, err)
	}
	if envelope[0]&2 == 0 {
		return "ok" // an event, not the end of the stream
	}
	var end struct{ Error struct{ Code string } }
	raw := make([]byte, binary.BigEndian.Uint32(envelope[1:]))
	if _, err := io.ReadFull(response.Body, raw); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&end); err != nil {
		t.Fatal(err)
	}
	return end.Error.Code
}

// TestMatrix calls every RPC with every kind of credential.
func TestMatrix(t *testing.T) {
	t.Parallel()
	g := start(t)
	own := g.key(t, store.KeyServer, "staging")
	foreign := g.key(t, store.KeyServer, "development")
	revokedKey, text, err := g.db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyAdmin, Name: "revoked", Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.db.RevokeKey(t.Context(), store.Revocation{ID: revokedKey.ID, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	revoked := text.Reveal()
	last := g.admin[len(g.admin)-1]
	badChecksum := g.admin[:len(g.admin)-1] + string([]byte{last ^ 1})
	before := g.mark(t)

	all := rpcs()
	if len(all) < 16 {
		t.Fatalf("%d RPCs, want at least 16", len(all))
	}
	cells := 0
	for _, r := range all {
		body := "{}"
		if r.environment != "" {
			body = `{"` + r.environment + `":"staging"}`
		}
		adminOnly := auth.Authorize(auth.Principal{KeyID: "k", Kind: auth.Server}, r.procedure) != nil
		for name, tt := range map[string]struct {
			header []string
			want   string // "allowed" stands for anything but a refusal of the caller
		}{
			"no key":            {nil, "unauthenticated"},
			"empty key":         {[]string{"Authorization", "Bearer "}, "unauthenticated"},
			"not a key":         {[]string{"Authorization", "Bearer hello"}, "unauthenticated"},
			"basic":             {[]string{"Authorization", "Basic " + g.admin}, "unauthenticated"},
			"bad checksum":      {[]string{"Authorization", "Bearer " + badChecksum}, "unauthenticated"},
			"revoked":           {[]string{"Authorization", "Bearer " + revoked}, "unauthenticated"},
			"two keys":          {[]string{"Authorization", "Bearer " + own, "X-API-Key", g.admin}, "unauthenticated"},
			"cookie":            {[]string{"Cookie", "key=" + g.admin}, "unauthenticated"},
			"key in the query":  {[]string{"X-Original-Url", r.procedure + "?key=" + g.admin}, "unauthenticated"},
			"server key":        {[]string{"Authorization", "Bearer " + own}, deniedIf(adminOnly)},
			"server key, X-API": {[]string{"X-API-Key", own}, deniedIf(adminOnly)},
			"foreign key":       {[]string{"Authorization", "Bearer " + foreign}, deniedIf(adminOnly || r.environment != "")},
			"admin key":         {[]string{"Authorization", "Bearer " + g.admin}, "allowed"},
		} {
			cells++
			got := g.call(t, r, body, tt.header...)
			if refused := got == "unauthenticated" || got == "permission_denied"; tt.want == "allowed" && !refused {
				continue
			}
			if got != tt.want {
				t.Errorf("%s with %s: %s, want %s", r.procedure, name, got, tt.want)
			}
		}
	}
	t.Logf("%d RPCs, %d cells", len(all), cells)
	before.entries++ // with the admin key, RotatePropagationKey needs no more than an environment
	if after := g.mark(t); after.entries != before.entries {
		t.Errorf("%d audit entries, want %d: a refused call left one", after.entries, before.entries)
	}
}

func deniedIf(denied bool) string {
	if denied {
		return "permission_denied"
	}
	return "allowed"
}

// TestForeignIsUnknown: with a server key an environment that exists and one
// that does not are refused alike.
func TestForeignIsUnknown(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	answers := map[string]string{}
	for _, name := range []string{"production", "no-such"} {
		a := g.post(t, "/guidon.v1.EvaluationService/Evaluate", key, `{"environment":"`+name+`","key":"a"}`)
		answers[name] = strings.ReplaceAll(a.body, name, "…")
		if a.status != http.StatusForbidden {
			t.Errorf("environment %s: %d %s, want 403", name, a.status, a.body)
		}
	}
	if answers["production"] != answers["no-such"] {
		t.Errorf("answers differ: %q", answers)
	}
}

// TestPathVariants: no spelling of a path gets past the table without a key.
func TestPathVariants(t *testing.T) {
	t.Parallel()
	g := start(t)
	public := []string{"/healthz", "/readyz", "/metrics", "/admin/", "/grpc.health.v1.Health/Check"}
	tried := 0
	for _, r := range rpcs() {
		for _, path := range variants(r.procedure) {
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodPut, http.MethodOptions, "POST "} {
				method = strings.TrimSpace(method)
				a, ok := g.raw(t, method, path)
				if !ok {
					continue // no such request can be made
				}
				tried++
				// A refusal of a stream or of gRPC is a 200 that says so inside.
				if a.status/100 == 2 && !strings.Contains(a.body, "unauthenticated") && a.header.Get("Grpc-Status") != "16" {
					t.Errorf("%s %s without a key: %d %q", method, path, a.status, a.body)
				}
			}
		}
	}
	for _, path := range public {
		if a := g.post(t, path, "", "{}"); a.status/100 == 5 {
			t.Errorf("POST %s: %d %s", path, a.status, a.body)
		}
	}
	t.Logf("%d requests", tried)
}

// variants spells a path in the ways that proxies and routers disagree about.
func variants(path string) []string {
	service, method := path[1:strings.LastIndex(path, "/")], path[strings.LastIndex(path, "/")+1:]
	out := []string{
		path, path + "/", path + "//", "/" + path, "/." + path, "/x/.." + path, "/admin/.." + path, "/admin/%2e%2e" + path,
		"/admin" + path, "/admin/" + path, "/healthz" + path, "/healthz/.." + path, "/metrics/%2e%2e" + path, "/readyz;" + path,
		path + "?key=x", path + "#x", path + ";x", path + "%00", path + "%20", path + ".", path + "..", path + "/.", path + "/..",
		path + "%2f", path + "%2e", "/%2f" + path[1:], "/" + service + "%2f" + method, "/" + service + "%5c" + method,
		"/" + service + "\\" + method, "/" + service + "//" + method, "/" + service + "/./" + method, "/" + service + "/x/../" + method,
		"/" + strings.ToUpper(service) + "/" + method, "/" + service + "/" + strings.ToLower(method), "/" + service + "/" + strings.ToUpper(method),
		"/" + strings.ReplaceAll(service, ".", "%2e") + "/" + method, "/" + service + "/%" + hex(method[0]) + method[1:],
		"/" + service, "/" + service + "/", "/" + service + "/Unknown", "/api" + path, "/v1" + path, "/grpc" + path, "/admin/index.html/.." + path,
	}
	return out
}

func hex(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}

// raw sends a request whose path is exactly as written.
func (g *guidon) raw(t testing.TB, method, path string) (answer, bool) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, g.url+path, strings.NewReader("{}"))
	if err != nil {
		return answer{}, false
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := noRedirects.Do(request)
	if err != nil {
		return answer{}, false
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}, true
}
