package server_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/store"
)

const (
	ofrepSingle = "/ofrep/v1/evaluate/flags/"
	ofrepBulk   = "/ofrep/v1/evaluate/flags"
)

// visible lets client keys see a flag that an operation puts.
func visible(o *guidonv1.Operation) *guidonv1.Operation {
	yes := true
	o.GetPutFlag().ClientVisible = &yes
	return o
}

func inProject(project string, o *guidonv1.Operation) *guidonv1.Operation {
	o.GetPutFlag().Project = project
	return o
}

// putPlan is an operation that puts a flag which is on for one plan.
func putPlan(environment, key, plan string) *guidonv1.Operation {
	return putDefinition(environment, key, map[string]any{
		"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
		"targeting": map[string]any{"if": []any{map[string]any{"==": []any{map[string]any{"var": "plan"}, plan}}, "on"}},
	})
}

// parsed is a JSON body.
func parsed(t testing.TB, body string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	return out
}

func TestOFREPSingle(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start()
		g.apply(t, "production",
			putFlag("production", "plain", "on"), putPlan("production", "targeted", "pro"), putFlag("production", "dark", "on"),
			putDefinition("production", "price", map[string]any{
				"state": "ENABLED", "variants": map[string]any{"now": 9.5, "then": 12}, "defaultVariant": "then",
				"metadata": map[string]any{"note": "a <b> & \"c\"\u2028"},
			}),
			putDefinition("production", "theme", map[string]any{
				"state": "ENABLED", "variants": map[string]any{"dark": map[string]any{"bg": "#000", "n": []any{1, nil, true}}}, "defaultVariant": "dark",
			}),
			putDefinition("production", "caller", map[string]any{"state": "ENABLED", "variants": map[string]any{"a": "x"}}),
			putDefinition("production", "astray", map[string]any{
				"state": "ENABLED", "variants": map[string]any{"a": "x"}, "defaultVariant": "a", "targeting": map[string]any{"var": "variant"},
			}),
		)
		g.apply(t, "production", setState("production", "dark", "DISABLED"))
		key := g.key(t, store.KeyServer, "production")
		at := func(revision int) string {
			return fmt.Sprintf(`"metadata":{"flagSetId":"default","version":%d}`, revision)
		}
		for _, c := range []struct {
			key, body string
			status    int
			want      string
		}{
			{"plain", `{"context":{"targetingKey":"ada"}}`, 200, `{"key":"plain","reason":"STATIC","variant":"on","value":true,` + at(2) + `}`},
			{"plain", ``, 200, `{"key":"plain","reason":"STATIC","variant":"on","value":true,` + at(2) + `}`},
			{"targeted", `{"context":{"plan":"pro"},"other":[{}]}`, 200, `{"key":"targeted","reason":"TARGETING_MATCH","variant":"on","value":true,` + at(2) + `}`},
			{"targeted", `{"context":{"plan":"free"}}`, 200, `{"key":"targeted","reason":"DEFAULT","variant":"off","value":false,` + at(2) + `}`},
			{"targeted", `{"context":null}`, 200, `{"key":"targeted","reason":"DEFAULT","variant":"off","value":false,` + at(2) + `}`},
			{"dark", `{}`, 200, `{"key":"dark","reason":"DISABLED",` + at(3) + `}`},
			{"price", `{}`, 200, `{"key":"price","reason":"STATIC","variant":"then","value":12,"metadata":{"flagSetId":"default","note":"a <b> & \"c\"\u2028","version":2}}`},
			{"theme", `{}`, 200, `{"key":"theme","reason":"STATIC","variant":"dark","value":{"bg":"#000","n":[1,null,true]},` + at(2) + `}`},
			{"caller", `{}`, 200, `{"key":"caller","reason":"DEFAULT",` + at(2) + `}`},
			{"astray", `{"context":{"variant":"b"}}`, 400, `{"key":"astray","errorCode":"GENERAL","errorDetails":"the targeting of flag \"astray\" names a variant that it does not have",` + at(2) + `}`},
			{"none", `{}`, 404, `{"key":"none","errorCode":"FLAG_NOT_FOUND","errorDetails":"there is no flag of that key here"}`},
			{"a%2Fb", `{}`, 404, `{"key":"a/b","errorCode":"FLAG_NOT_FOUND","errorDetails":"there is no flag of that key here"}`},
		} {
			got := g.post(t, ofrepSingle+c.key, key, c.body)
			if got.status != c.status || got.body != c.want || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s = %d %s (%s), want %d %s", c.key, c.body, got.status, got.body, got.header.Get("Content-Type"), c.status, c.want)
			}
		}
		// X-API-Key, and no content type at all.
		if got := g.do(t, http.MethodPost, ofrepSingle+"plain", `{}`, "X-API-Key", key); got.status != 200 {
			t.Errorf("with X-API-Key: %d %s", got.status, got.body)
		}
	})
}

// What is wrong with a request is said in OFREP's words, whatever it is.
func TestOFREPRefuses(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "production", putFlag("production", "plain", "on"))
	key := g.key(t, store.KeyServer, "production")
	before := g.mark(t)
	deep := strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100)
	for _, c := range []struct {
		name, body string
		header     []string
		status     int
		code       string
	}{
		{"no JSON", `{"context":`, nil, 400, "PARSE_ERROR"},
		{"a list", `[]`, nil, 400, "PARSE_ERROR"},
		{"no UTF-8 key", "{\"\xff\":1}", nil, 200, ""},
		{"a context that is a text", `{"context":"x"}`, nil, 400, "INVALID_CONTEXT"},
		{"too deep", `{"context":` + deep + `}`, nil, 400, "PARSE_ERROR"},
		{"too many values", `{"context":{"a":[` + strings.Repeat("1,", 10_000) + `1]}}`, nil, 400, "INVALID_CONTEXT"},
		{"too long", `{"context":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`, nil, 413, "PARSE_ERROR"},
		{"compressed", `{}`, []string{"Content-Encoding", "gzip"}, 415, "PARSE_ERROR"},
		{"another content type", `{}`, []string{"Content-Type", "text/plain"}, 200, ""},
		{"bad selector", `{}`, []string{"Flagd-Selector", "color=red"}, 400, "GENERAL"},
		{"two pairs", `{}`, []string{"Flagd-Selector", "flagSetId=a,source=b"}, 400, "GENERAL"},
		{"huge number", `{"context":{"a":1e999}}`, nil, 400, "PARSE_ERROR"},
	} {
		for _, path := range []string{ofrepSingle + "plain", ofrepBulk, ofrepBulk + "/"} {
			got := g.post(t, path, key, c.body, c.header...)
			if got.status != c.status || !strings.HasPrefix(got.body, "{") {
				t.Errorf("%s at %s = %d %.200s, want %d", c.name, path, got.status, got.body, c.status)
				continue
			}
			body := parsed(t, got.body)
			if code, _ := body["errorCode"].(string); code != c.code {
				t.Errorf("%s at %s: code %q, want %q", c.name, path, code, c.code)
			}
			if _, named := body["key"]; c.code != "" && named != strings.HasSuffix(path, "plain") {
				t.Errorf("%s at %s: %s", c.name, path, got.body)
			}
		}
	}
	for _, authorization := range []string{"Bearer gdn_server_nonsense", "Basic x", "Bearer"} {
		if got := g.do(t, http.MethodPost, ofrepBulk, `{}`, "Authorization", authorization); got.status != 401 || got.body != "" {
			t.Errorf("with %q: %d %q, want 401 without a body", authorization, got.status, got.body)
		}
	}
	if got := g.post(t, ofrepBulk, g.admin, `{}`); got.status != 400 || !strings.Contains(got.body, "environment") {
		t.Errorf("with an admin key: %d %s", got.status, got.body)
	}
	for _, c := range [][2]string{{http.MethodGet, ofrepBulk}, {http.MethodPut, ofrepSingle + "plain"}, {http.MethodPost, "/ofrep/v1/events"}} {
		if got := g.do(t, c[0], c[1], "", "X-API-Key", key); got.status != 405 {
			t.Errorf("%s %s = %d, want 405", c[0], c[1], got.status)
		}
	}
	if after := g.mark(t); !cmp.Equal(before, after, cmp.AllowUnexported(mark{})) {
		t.Errorf("something was written: %+v, before %+v", after, before)
	}
}

// atLeast asks for a state that is no older than a revision.
func atLeast(revision int64) string { return fmt.Sprintf("?flagConfigEtag=r%d", revision) }

func flagKeys(t testing.TB, body string) (keys []string) {
	t.Helper()
	for _, f := range parsed(t, body)["flags"].([]any) {
		keys = append(keys, f.(map[string]any)["key"].(string))
	}
	return keys
}

func TestOFREPBulk(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start()
		revision := g.apply(t, "production",
			putFlag("production", "a", "on"), putPlan("production", "b", "pro"), inProject("shop", putFlag("production", "c", "off")))
		key := g.key(t, store.KeyServer, "production")
		first := g.post(t, ofrepBulk, key, `{"context":{"plan":"pro","targetingKey":"ada"}}`)
		body := parsed(t, first.body)
		if got := flagKeys(t, first.body); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("flags %q", got)
		}
		if diff := cmp.Diff(map[string]any{"environment": "production", "revision": float64(revision)}, body["metadata"]); diff != "" {
			t.Errorf("metadata (-want +got)\n%s", diff)
		}
		tag := first.header.Get("ETag")
		with := func(body, tag string, header ...string) answer {
			t.Helper()
			return g.post(t, ofrepBulk, key, body, append(header, "If-None-Match", tag)...)
		}
		// The same context in another spelling, and a tag that a proxy weakened.
		for _, again := range []string{`{"context":{"targetingKey":"ada", "plan":"pro"}}`, `{"x":0,"context":{"plan":"\u0070ro","targetingKey":"ada"}}`} {
			for _, have := range []string{tag, strings.TrimPrefix(tag, "W/"), `"x", ` + tag} {
				if got := with(again, have); got.status != 304 || got.body != "" || got.header.Get("ETag") != tag {
					t.Errorf("%s with %s = %d %q, ETag %s", again, have, got.status, got.body, got.header.Get("ETag"))
				}
			}
		}
		// Anything that the answer depends on makes another tag.
		for name, got := range map[string]answer{
			"an attribute":   with(`{"context":{"plan":"free","targetingKey":"ada"}}`, tag),
			"more of them":   with(`{"context":{"plan":"pro","targetingKey":"ada","x":1}}`, tag),
			"a selector":     with(`{"context":{"plan":"pro","targetingKey":"ada"}}`, tag, "Flagd-Selector", "flagSetId=shop"),
			"another source": with(`{"context":{"plan":"pro","targetingKey":"ada"}}`, tag, "Flagd-Selector", "shop"),
		} {
			if got.status != 200 || got.header.Get("ETag") == tag {
				t.Errorf("with %s: %d, ETag %s", name, got.status, got.header.Get("ETag"))
			}
		}
		next := g.apply(t, "production", putFlag("production", "a", "off"))
		after := g.post(t, ofrepBulk+atLeast(next), key, `{"context":{"plan":"pro","targetingKey":"ada"}}`, "If-None-Match", tag)
		if after.status != 200 || after.header.Get("ETag") == tag {
			t.Errorf("after a change: %d, ETag %s", after.status, after.header.Get("ETag"))
		}
		// Selectors narrow, and are reflected.
		narrow := g.post(t, ofrepBulk, key, `{}`, "Flagd-Selector", "shop")
		if got := flagKeys(t, narrow.body); !slices.Equal(got, []string{"c"}) || !strings.Contains(narrow.body, `"source":"shop"}}`) {
			t.Errorf("selector shop: %s", narrow.body)
		}
		if got := g.post(t, ofrepSingle+"a", key, `{}`, "Flagd-Selector", "flagSetId=shop"); got.status != 404 || !strings.HasSuffix(got.body, `,"metadata":{"flagSetId":"shop"}}`) {
			t.Errorf("a flag of another project = %d %s", got.status, got.body)
		}
		// Once flags read the clock, the tag is that of the body.
		g.apply(t, "production", putDefinition("production", "d", map[string]any{
			"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
			"targeting": map[string]any{"if": []any{map[string]any{"<": []any{map[string]any{"var": "$flagd.timestamp"}, 1}}, "on"}},
		}))
		clock := g.post(t, ofrepBulk+atLeast(next+1), key, `{}`)
		if got := with(`{}`, clock.header.Get("ETag")); clock.status != 200 || got.status != 304 || got.header.Get("Vary") != clock.header.Get("Vary") {
			t.Errorf("with a flag that reads the clock: %d, then %d with %v", clock.status, got.status, got.header)
		}
	})
}

// A client that was told of a revision is not given an older one.
func TestOFREPAwaits(t *testing.T) {
	t.Parallel()
	g := start(t)
	revision := g.apply(t, "production", putFlag("production", "a", "on"))
	key := g.key(t, store.KeyServer, "production")
	ask := func(query string) answer { return g.post(t, ofrepBulk+"?"+query, key, `{}`) }
	for _, query := range []string{
		fmt.Sprintf("flagConfigEtag=r%d", revision), fmt.Sprintf("flagConfigEtag=%%22r%d%%22", revision), "flagConfigEtag=anothers", "flagConfigEtag=",
		"flagConfigLastModified=1000", "flagConfigLastModified=2001-01-01T00:00:00Z", "flagConfigLastModified=yesterday", "flagConfigEtag=r-1", "%zz",
	} {
		if got := ask(query); got.status != 200 {
			t.Errorf("%s = %d %s", query, got.status, got.body)
		}
	}
	for _, query := range []string{fmt.Sprintf("flagConfigEtag=r%d", revision+100), "flagConfigLastModified=99999999999"} {
		if got := ask(query); got.status != 503 || got.header.Get("Retry-After") == "" {
			t.Errorf("%s = %d %s, want 503 with Retry-After", query, got.status, got.body)
		}
	}
}

// Client keys see what is meant for them, from where they may be.
func TestOFREPClientKeys(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		now := time.Now()
		g := start(func(o *options) {
			if o.outermost {
				o.server.Now, o.server.ClientRate = func() time.Time { return now }, 10
			}
		})
		g.apply(t, "production", visible(putFlag("production", "shown", "on")), putFlag("production", "hidden", "on"))
		_, key := g.create(t, store.NewKey{Kind: store.KeyClient, Environment: "production", Name: "web", Origins: []string{"https://shop.example"}})
		page := []string{"Origin", "https://shop.example", "Sec-Fetch-Site", "cross-site"}
		got := g.post(t, ofrepBulk, key, `{}`, page...)
		if keys := flagKeys(t, got.body); !slices.Equal(keys, []string{"shown"}) {
			t.Errorf("a client sees %q", keys)
		}
		if got.header.Get("Access-Control-Allow-Origin") != "https://shop.example" || !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), "ETag") ||
			got.header.Get("Vary") != "Origin" {
			t.Errorf("headers %v", got.header)
		}
		if got := g.post(t, ofrepSingle+"hidden", key, `{}`); got.status != 404 {
			t.Errorf("a hidden flag = %d %s", got.status, got.body)
		}
		if got := g.post(t, ofrepSingle+"shown", key, `{}`, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); got.status != 403 ||
			got.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("from another origin: %d %v", got.status, got.header)
		}
		if got := g.post(t, "/guidon.v1.FlagService/List", key, `{}`); got.status != 403 && got.status != 404 {
			t.Errorf("FlagService with a client key: %d", got.status)
		}
		if got := g.do(t, http.MethodOptions, ofrepBulk, "", "Origin", "https://shop.example", "Access-Control-Request-Method", "POST"); got.status != 204 ||
			!strings.Contains(got.header.Get("Access-Control-Allow-Headers"), "If-None-Match") {
			t.Errorf("preflight: %d %v", got.status, got.header)
		}
		// A server key is for no page.
		if got := g.post(t, ofrepBulk, g.key(t, store.KeyServer, "production"), `{}`, page...); got.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("a server key in a page: %v", got.header)
		}
		// The clock stands, so the bucket of twice ten empties.
		for range 20 {
			if got = g.post(t, ofrepSingle+"shown", key, `{}`); got.status != 200 {
				break
			}
		}
		if got.status != 429 || got.header.Get("Retry-After") != "1" {
			t.Errorf("one too many: %d %v", got.status, got.header)
		}
	})
}

// minted is a guidon header of an environment, pinned to a revision.
func (g *guidon) minted(t testing.TB, environment string, h propagate.Header) string {
	t.Helper()
	e, err := g.hub.Environment(environment)
	if err != nil {
		t.Fatal(err)
	}
	keys := e.Head().Keys()
	for _, k := range keys.GetKeys() {
		if k.GetId() == keys.GetSigner() {
			h.Correlation, h.Root, h.Environment, h.Time = strings.Repeat("ab", 16), strings.Repeat("cd", 8), environment, 1_700_000_000
			value, err := propagate.Encode(h, propagate.Key{ID: k.GetId(), Secret: propagate.Secret(k.GetSecret())})
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatal("the environment has no signing key")
	return ""
}

// A request that carries a pin is answered at it, by the rules of Go services.
func TestOFREPPinned(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start()
		settings := &guidonv1.Operation{Operation: &guidonv1.Operation_PutSettings{PutSettings: &guidonv1.PutSettings{
			Environment: "production", Settings: &guidonv1.Settings{Fractional: "v2", Travel: []*guidonv1.TravelAttribute{{Attribute: "plan"}}},
		}}}
		old := g.apply(t, "production", settings, putFlag("production", "a", "on"), putPlan("production", "b", "pro"), putFlag("production", "gone", "on"))
		key := g.key(t, store.KeyServer, "production")
		plan, _ := propagate.NewAttribute("plan", "pro")
		header := g.minted(t, "production", propagate.Header{Revision: old, Subject: "ada", HasSubject: true, Attributes: []propagate.Attribute{plan}})
		var last int64
		for range 3 {
			g.apply(t, "production", putFlag("production", "a", "off"), putPlan("production", "b", "free"), putFlag("production", "new", "on"))
			last = g.apply(t, "production", setState("production", "gone", "DISABLED"), putPlan("production", "b", "none"))
		}
		ask := func(path string, header ...string) answer {
			return g.post(t, path, key, `{"context":{"plan":"free"}}`, header...)
		}
		if got := ask(ofrepBulk + atLeast(last)); !strings.Contains(got.body, fmt.Sprintf(`"revision":%d`, last)) {
			t.Fatalf("without a pin: %s", got.body)
		}
		if got := ask(ofrepSingle+"a", "Guidon", header); got.body != fmt.Sprintf(
			`{"key":"a","reason":"TARGETING_MATCH","variant":"on","value":true,"metadata":{"flagSetId":"default","version":%d,"pinnedRevision":%d}}`, old, old) {
			t.Errorf("a at the pin = %s", got.body)
		}
		if got := ask(ofrepSingle+"b", "Guidon", header); !strings.Contains(got.body, `"variant":"on"`) {
			t.Errorf("b at the pin, for the context of the pin = %s", got.body)
		}
		got := ask(ofrepBulk, "Guidon", header)
		if keys := flagKeys(t, got.body); !slices.Equal(keys, []string{"a", "b", "gone"}) || !strings.Contains(got.body, fmt.Sprintf(`"revision":%d}`, old)) ||
			strings.Contains(got.body, "STATIC") || strings.Contains(got.body, `"off"`) || strings.Contains(got.body, "eventStreams") {
			t.Errorf("all at the pin = %s", got.body)
		}
		if again := ask(ofrepBulk, "Guidon", header, "If-None-Match", got.header.Get("ETag")); again.status != 304 {
			t.Errorf("the same again = %d %s", again.status, again.body)
		}
		// A header that is not good is as good as none.
		if got := ask(ofrepSingle+"a", "Guidon", header[:len(header)-3]+"AA:"); !strings.Contains(got.body, `"off"`) {
			t.Errorf("with a forged header: %s", got.body)
		}
	})
}

// sse reads one event, passing over comments.
func sse(t testing.TB, r *bufio.Reader) (id, data string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("event stream: %v", err)
		}
		line = strings.TrimSuffix(line, "\n")
		if v, ok := strings.CutPrefix(line, "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok {
			data = v
		}
		if line == "" && data != "" {
			return id, data
		}
	}
}

func TestOFREPEvents(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start(func(o *options) { o.server.Recheck = 10 * time.Millisecond })
		revision := g.apply(t, "production", visible(putFlag("production", "shown", "on")), putFlag("production", "hidden", "on"))
		id, text := g.create(t, store.NewKey{Kind: store.KeyClient, Environment: "production", Name: "web", Origins: []string{"https://shop.example"}})
		bulk := parsed(t, g.post(t, ofrepBulk+atLeast(revision), text, `{}`).body)
		uri := bulk["eventStreams"].([]any)[0].(map[string]any)["endpoint"].(map[string]any)["requestUri"].(string)
		if strings.Contains(uri, text) {
			t.Fatalf("the key stands in %s", uri)
		}
		open := func(uri string) *http.Response {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+uri, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Origin", "https://shop.example")
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = response.Body.Close() })
			return response
		}
		response := open(uri)
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" ||
			response.Header.Get("Access-Control-Allow-Origin") != "https://shop.example" {
			t.Fatalf("%s: %v", response.Status, response.Header)
		}
		stream := bufio.NewReader(response.Body)
		if line, err := stream.ReadString('\n'); err != nil || line != ":\n" {
			t.Fatalf("the first line is %q, %v: want a sign of life", line, err)
		}
		// What the client does not see is no news to it.
		g.apply(t, "production", putFlag("production", "hidden", "off"))
		news := g.apply(t, "production", visible(putFlag("production", "shown", "off")))
		told, data := sse(t, stream)
		event := parsed(t, data)
		if told != fmt.Sprintf("r%d", news) || event["etag"] != told || event["type"] != "refetchEvaluation" || event["lastModified"].(float64) < 1e9 {
			t.Errorf("event %s %s after revision %d", told, data, news)
		}
		// Who missed something hears of it at once.
		late := bufio.NewReader(open(uri).Body)
		if id, _ := sse(t, late); id != fmt.Sprintf("r%d", news) {
			t.Errorf("a late client was told of %s", id)
		}
		for _, bad := range []string{"/ofrep/v1/events", strings.Replace(uri, "environment=production", "environment=staging", 1), uri[:len(uri)-20], uri + "&selector=a=b"} {
			if got := open(bad); got.StatusCode != http.StatusUnauthorized && got.StatusCode != http.StatusBadRequest {
				t.Errorf("%s = %s", bad, got.Status)
			}
		}
		// The stream ends with the key.
		if _, err := g.db.RevokeKey(t.Context(), store.Revocation{ID: id, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
		for err := error(nil); err == nil; {
			_, err = stream.ReadString('\n')
		}
		if got := open(uri); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("with a revoked key: %s", got.Status)
		}
	})
}

// A large answer is compressed for who takes that, and is the same answer.
func TestOFREPBulkCompressed(t *testing.T) {
	t.Parallel()
	g := start(t)
	var many []*guidonv1.Operation
	for i := range 100 {
		many = append(many, putFlag("production", fmt.Sprintf("flag-%d", i), "on"))
	}
	g.apply(t, "production", many...)
	key := g.key(t, store.KeyServer, "production")
	plain := g.post(t, ofrepBulk, key, `{}`, "Accept-Encoding", "identity")
	small := g.post(t, ofrepBulk, key, `{}`, "Accept-Encoding", "br, gzip")
	unzip, err := gzip.NewReader(strings.NewReader(small.body))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(unzip)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := flagKeys(t, string(body)), flagKeys(t, plain.body); !slices.Equal(got, want) || len(got) != 100 {
		t.Errorf("%d flags compressed, %d as they are, want 100 of each", len(got), len(want))
	}
	if plain.header.Get("Content-Encoding") != "" || small.header.Get("Content-Encoding") != "gzip" || small.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v and %v", plain.header, small.header)
	}
	for _, a := range []answer{plain, small} {
		if !slices.Contains(a.header.Values("Vary"), "Accept-Encoding") {
			t.Errorf("Vary is %q", a.header.Values("Vary"))
		}
	}
	if len(small.body)*4 > len(plain.body) {
		t.Errorf("%d bytes became %d", len(plain.body), len(small.body))
	}
	if got := g.post(t, ofrepBulk, key, `{}`, "Accept-Encoding", "gzip", "If-None-Match", plain.header.Get("ETag")); got.status != http.StatusNotModified {
		t.Errorf("with the ETag of the other form: %d", got.status)
	}
	if got := g.post(t, ofrepSingle+"flag-1", key, `{}`, "Accept-Encoding", "gzip"); got.header.Get("Content-Encoding") != "" {
		t.Errorf("a small answer is compressed: %v", got.header)
	}
}

// The URL of an event stream is good for an hour at most, and for half of one at
// least: until then a client that asks again is given another.
func TestOFREPEventTokenEnds(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	g := start(t, func(o *options) {
		o.server.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	g.apply(t, "production", putFlag("production", "a", "on"))
	key := g.key(t, store.KeyServer, "production")
	first := g.post(t, ofrepBulk, key, `{}`)
	uri := parsed(t, first.body)["eventStreams"].([]any)[0].(map[string]any)["endpoint"].(map[string]any)["requestUri"].(string)
	status := func() int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+uri, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	ahead.Store(int64(29 * time.Minute))
	if got := status(); got != http.StatusOK {
		t.Errorf("after 29 minutes: %d", got)
	}
	ahead.Store(int64(31 * time.Minute))
	if got := g.post(t, ofrepBulk, key, `{}`, "If-None-Match", first.header.Get("ETag")); got.status != http.StatusOK || !strings.Contains(got.body, "eventStreams") {
		t.Errorf("after 31 minutes a client is not given another URL: %d", got.status)
	}
	ahead.Store(int64(61 * time.Minute))
	if got := status(); got != http.StatusUnauthorized {
		t.Errorf("after 61 minutes: %d", got)
	}
}
