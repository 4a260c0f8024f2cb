package propagate_test

import (
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

var overrideKey = ed25519.NewKeyFromSeed([]byte("a published seed for tests only!"))

func sampleOverride() propagate.OverrideToken {
	return propagate.OverrideToken{
		Environment: "production", Audience: "shop.example.com", ID: "0192f0c0-7a", Actor: "key:0192 é", Expires: clock.Add(time.Hour).Unix(),
		Flag: "forced", Variant: "on", KeyID: "o1",
	}
}

func token(t testing.TB, change func(*propagate.OverrideToken)) string {
	t.Helper()
	o := sampleOverride()
	if change != nil {
		change(&o)
	}
	value, err := o.Sign(func(text []byte) []byte { return ed25519.Sign(overrideKey, text) })
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func overrides(t testing.TB) *propagate.Overrides {
	t.Helper()
	o := new(propagate.Overrides)
	if err := o.Set([]propagate.OverrideKey{{ID: "o1", Public: overrideKey.Public().(ed25519.PublicKey)}}, []string{"revoked"}); err != nil {
		t.Fatal(err)
	}
	return o
}

// overridable is an environment whose flags an override may force, or not.
func overridable(t testing.TB) *world {
	t.Helper()
	w := newWorld(t, settingsRow(t, shopTravel),
		flagRow(t, "forced", "off", "", `"overridable":true`),
		flagRow(t, "rooted", "off", equals("cart", "full"), `"overridable":true`),
		flagRow(t, "fixed", "off", "", ""),
		flagRow(t, "tuning", "off", "", `"overridable":true,"scope":"local"`),
		flagRow(t, "killed", "off", "", `"overridable":true`),
	)
	w.kill(t, "killed", "off", "false")
	return w
}

// A token is followed at an edge, for its host and environment and while it
// lasts, and for flags that allow it.
func TestOverrides(t *testing.T) {
	t.Parallel()
	w := overridable(t)
	for name, tt := range map[string]struct {
		change func(*propagate.OverrideToken)
		want   propagate.OverrideOutcome
	}{
		"good":                   {nil, propagate.OverrideTaken},
		"a day":                  {func(o *propagate.OverrideToken) { o.Expires = clock.Add(24 * time.Hour).Unix() }, propagate.OverrideTaken},
		"two days":               {func(o *propagate.OverrideToken) { o.Expires = clock.Add(48 * time.Hour).Unix() }, propagate.OverrideTooLong},
		"expired":                {func(o *propagate.OverrideToken) { o.Expires = clock.Unix() }, propagate.OverrideExpired},
		"another environment":    {func(o *propagate.OverrideToken) { o.Environment = "staging" }, propagate.OverrideOtherEnvironment},
		"another host":           {func(o *propagate.OverrideToken) { o.Audience = "example.com" }, propagate.OverrideOtherHost},
		"revoked":                {func(o *propagate.OverrideToken) { o.ID = "revoked" }, propagate.OverrideRevoked},
		"unknown key":            {func(o *propagate.OverrideToken) { o.KeyID = "o2" }, propagate.OverrideUnknownKey},
		"not overridable":        {func(o *propagate.OverrideToken) { o.Flag = "fixed" }, propagate.OverrideNotApplicable},
		"local":                  {func(o *propagate.OverrideToken) { o.Flag = "tuning" }, propagate.OverrideNotApplicable},
		"killed":                 {func(o *propagate.OverrideToken) { o.Flag = "killed" }, propagate.OverrideNotApplicable},
		"no such flag":           {func(o *propagate.OverrideToken) { o.Flag = "nothing" }, propagate.OverrideNotApplicable},
		"no such variant":        {func(o *propagate.OverrideToken) { o.Variant = "blue" }, propagate.OverrideNotApplicable},
		"root-decided flags too": {func(o *propagate.OverrideToken) { o.Flag = "rooted" }, propagate.OverrideTaken},
	} {
		for carrier, bring := range map[string]func(*http.Request, string){
			"header": func(r *http.Request, value string) { r.Header.Set("guidonoverride", value) },
			"cookie": func(r *http.Request, value string) {
				r.Header.Set("Cookie", "a=b; guidonoverride="+url.PathEscape(value))
			},
		} {
			t.Run(name+" "+carrier, func(t *testing.T) {
				t.Parallel()
				edge := newPropagator(t, w.instance(), func(c *propagate.Config) { c.Mode, c.Overrides = propagate.Edge, overrides(t) })
				inside := newPropagator(t, w.instance())
				flag := sampleOverride()
				if tt.change != nil {
					tt.change(&flag)
				}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://Shop.example.com:8443/", nil)
				bring(r, token(t, tt.change))
				var results [2]propagate.Result
				edge.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if r.Header.Get("guidonoverride") != "" {
						t.Error("the handler sees the token")
					}
					results[0] = edge.Evaluate(r.Context(), flag.Flag, eval.Boolean, nil)
					results[1] = inside.Evaluate(hop(r.Context(), edge, inside), flag.Flag, eval.Boolean, nil)
				})).ServeHTTP(httptest.NewRecorder(), r)
				taken := tt.want == propagate.OverrideTaken
				for at, got := range results {
					if on := got.Variant() == "on"; on != taken || got.Overridden != taken || (got.Metadata()["override"] == true) != taken {
						t.Errorf("hop %d: %q from %s, overridden %v, want it %v", at, got.Variant(), got.Origin, got.Overridden, taken)
					}
				}
				want := map[propagate.OverrideOutcome]uint64{tt.want: 1}
				for o, n := range edge.Stats().Overrides {
					if n != want[o] {
						t.Errorf("%s is counted %d times, want %d", o, n, want[o])
					}
				}
			})
		}
	}
}

// Only edges follow tokens, only so many, and of several for a flag the first.
func TestOverridesOfOneRequest(t *testing.T) {
	t.Parallel()
	w := overridable(t)
	off := token(t, func(o *propagate.OverrideToken) { o.Variant = "off" })
	for mode, want := range map[propagate.Mode]string{propagate.Edge: "on", propagate.Internal: "off", propagate.Off: "off"} {
		p := newPropagator(t, w.instance(), func(c *propagate.Config) { c.Mode, c.Overrides = mode, overrides(t) })
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.example.com/", nil)
		r.Header["Guidonoverride"] = append([]string{token(t, nil), off}, make([]string, 9)...)
		p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := p.Evaluate(r.Context(), "forced", eval.Boolean, nil).Variant(); got != want {
				t.Errorf("%s: forced is %q, want %q", mode, got, want)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
		got := p.Stats().Overrides
		if mode == propagate.Edge && (got[propagate.OverrideTaken] != 1 || got[propagate.OverrideNotApplicable] != 1 || got[propagate.OverrideMalformed] != 6 || got[propagate.OverrideTooMany] != 1) {
			t.Errorf("counted %v", got)
		}
		if mode != propagate.Edge && got[propagate.OverrideTaken] != 0 {
			t.Errorf("%s: counted %v", mode, got)
		}
	}
}

// A rooted override lasts as long as its request and loses to a later kill.
func TestOverrideAfterRooting(t *testing.T) {
	t.Parallel()
	w := overridable(t)
	i, now := w.instance(), clock
	edge := newPropagator(t, i, func(c *propagate.Config) {
		c.Mode, c.Overrides, c.Now = propagate.Edge, overrides(t), func() time.Time { return now }
	})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.example.com/", nil)
	r.Header.Set("guidonoverride", token(t, nil))
	edge.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = header(r.Context(), t)
		now = now.Add(48 * time.Hour)
		if got := got(edge.Evaluate(r.Context(), "forced", eval.Boolean, nil)); got != "on true override" {
			t.Errorf("after its end forced is %q", got)
		}
		w.kill(t, "forced", "stop", "false")
		i.catchUp()
		if got := got(edge.Evaluate(r.Context(), "forced", eval.Boolean, nil)); got != "stop false emergency" {
			t.Errorf("killed, forced is %q", got)
		}
		w.kill(t, "forced", "stop", "false")
		inside := newPropagator(t, w.instance())
		if got := got(inside.Evaluate(hop(r.Context(), edge, inside), "forced", eval.Boolean, nil)); got != "stop false emergency" {
			t.Errorf("further down forced is %q", got)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// Whatever is read is what was written, and no byte of it may be another.
func TestOverrideToken(t *testing.T) {
	t.Parallel()
	value := token(t, nil)
	got, err := propagate.DecodeOverride(value)
	if diff := cmp.Diff(sampleOverride(), got); diff != "" || err != nil {
		t.Errorf("DecodeOverride: %v (-want +got):\n%s", err, diff)
	}
	w := overridable(t)
	p := newPropagator(t, w.instance(), func(c *propagate.Config) { c.Mode, c.Overrides = propagate.Edge, overrides(t) })
	tried := uint64(0)
	try := func(value string) {
		tried++
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.example.com/", nil)
		r.Header["Guidonoverride"] = []string{value}
		p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if p.Evaluate(r.Context(), "forced", eval.Boolean, nil).Variant() != "off" {
				t.Errorf("accepted %q", value)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	}
	for i := range value {
		for _, flip := range []byte{1, 0x20, 0x80} {
			changed := []byte(value)
			changed[i] ^= flip
			try(string(changed))
		}
		try(value[:i])
	}
	for _, odd := range []string{value + value, value + ", " + value, strings.Repeat("a", 2049), value + " ", " " + value} {
		try(odd)
	}
	refused := uint64(0)
	for o, n := range p.Stats().Overrides {
		if o != propagate.OverrideTaken {
			refused += n
		}
	}
	if refused != tried {
		t.Errorf("%d of %d tokens were counted as refused", refused, tried)
	}
}

func TestOverridesSet(t *testing.T) {
	t.Parallel()
	public := overrideKey.Public().(ed25519.PublicKey)
	for want, list := range map[string][]propagate.OverrideKey{
		"is there twice": {{ID: "o1", Public: public}, {ID: "o1", Public: public}}, "is not 1 to 16": {{ID: "o_1", Public: public}}, "is 5 bytes": {{ID: "o1", Public: public[:5]}},
	} {
		if err := overrides(t).Set(list, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Set: %v, want %q", err, want)
		}
	}
}
