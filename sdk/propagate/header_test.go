package propagate_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

var testKey = propagate.Key{ID: "k1", Secret: [32]byte{1, 2, 3, 4}}

// compareAttributes lets cmp look at attributes, which are comparable values.
var compareAttributes = cmp.Comparer(func(a, b propagate.Attribute) bool { return a == b })

func attribute(t rapid.TB, name string, value any) propagate.Attribute {
	t.Helper()
	a, ok := propagate.NewAttribute(name, value)
	if !ok {
		t.Fatalf("NewAttribute(%q, %v) refused", name, value)
	}
	return a
}

func sampleHeader(t testing.TB) propagate.Header {
	return propagate.Header{
		Correlation: "0198c0de5a7e7f00a1b2c3d4e5f60718", Root: "4f3c2b1a09d8e7f6", Environment: "production",
		Revision: 1042, Time: 1_763_900_000, Subject: "user-77@example.com", HasSubject: true,
		Attributes: []propagate.Attribute{attribute(t, "country", "NZ"), attribute(t, "plan", "gold")},
		Decisions: []propagate.Decision{
			{Flag: "checkout.new-pricing", Variant: "on", Mark: propagate.MarkRoot},
			{Flag: "ship.express", Mark: propagate.MarkRoot},
		},
		KeyID: "k1",
	}
}

const sampleSigned = `1;c="0198c0de5a7e7f00a1b2c3d4e5f60718";o="4f3c2b1a09d8e7f6";e="production";r=1042;t=1763900000;` +
	`u="user-77%40example.com";a="country=NZ&plan=gold";d="checkout.new-pricing:on^ ship.express:^";i="k1"`

// signed signs arbitrary text as section 2 of the specification says, apart
// from the code under test.
func signed(text string, key propagate.Key) string {
	mac := hmac.New(sha256.New, key.Secret[:])
	mac.Write([]byte("guidon/1\n" + text))
	return text + ";s=:" + base64.StdEncoding.EncodeToString(mac.Sum(nil)[:16]) + ":"
}

func ring(t rapid.TB, keys ...propagate.Key) *propagate.Keyring {
	t.Helper()
	r := new(propagate.Keyring)
	if err := r.Set(keys[0].ID, keys); err != nil {
		t.Fatal(err)
	}
	return r
}

func refusal(err error) propagate.Outcome {
	if refused, ok := errors.AsType[*propagate.HeaderError](err); ok {
		return refused.Outcome
	}
	return propagate.Verified
}

func TestHeaderGolden(t *testing.T) {
	t.Parallel()
	want := signed(sampleSigned, testKey)
	got, err := propagate.Encode(sampleHeader(t), testKey)
	if err != nil || got != want {
		t.Fatalf("Encode = %q, %v, want %q", got, err, want)
	}
	h, err := ring(t, testKey).Verify(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleHeader(t), h, compareAttributes); diff != "" {
		t.Errorf("Verify(Encode(h)) differs (-want +got):\n%s", diff)
	}
	unverified, err := propagate.Decode(want)
	if err != nil || cmp.Diff(h, unverified, compareAttributes) != "" {
		t.Errorf("Decode = %+v, %v, want what Verify reads", unverified, err)
	}
}

// Encode is given lists in any order and leaves them so.
func TestEncodeSorts(t *testing.T) {
	t.Parallel()
	h := sampleHeader(t)
	h.Attributes[0], h.Attributes[1] = h.Attributes[1], h.Attributes[0]
	h.Decisions[0], h.Decisions[1] = h.Decisions[1], h.Decisions[0]
	got, err := propagate.Encode(h, testKey)
	if want := signed(sampleSigned, testKey); err != nil || got != want {
		t.Errorf("Encode = %q, %v, want %q", got, err, want)
	}
	if h.Attributes[0].Name != "plan" || h.Decisions[0].Flag != "ship.express" {
		t.Error("Encode reordered the caller's lists")
	}
}

// What a typical request pays per hop, in bytes.
func TestHeaderSize(t *testing.T) {
	t.Parallel()
	for decisions, most := range map[int]int{0: 260, 5: 400} {
		if got := len(signed(benchSigned(t, decisions), testKey)); got > most {
			t.Errorf("subject, two attributes and %d decisions take %d bytes, want at most %d", decisions, got, most)
		}
	}
}

// Every row is signed with the right key: only the spelling decides.
func TestVerifySpelling(t *testing.T) {
	t.Parallel()
	const head = `1;c="0123456789abcdef";o="0123456789abcdef";e="dev"`
	const tail = `;i="k1"`
	tests := []struct {
		name, signed string
		want         propagate.Outcome
	}{
		{"shortest", head + `;r=0;t=0` + tail, propagate.Verified},
		{"everything", head + `;r=7;k=9;t=1;u="";a="a=&b=~b0&c=~b1&n=~n-1.5";d="a:on! b:off*9 c:^"` + tail, propagate.Verified},
		{"largest number", head + `;r=999999999999999;t=1` + tail, propagate.Verified},
		{"escaped tilde", head + `;r=1;t=1;a="a=%7Eb1"` + tail, propagate.Verified},
		{"exponent", head + `;r=1;t=1;a="a=~n1e%2B21&b=~n1e-7"` + tail, propagate.Verified},

		{"sixteen digits", head + `;r=1000000000000000;t=1` + tail, propagate.Malformed},
		{"leading zero", head + `;r=01;t=1` + tail, propagate.Malformed},
		{"negative", head + `;r=-1;t=1` + tail, propagate.Malformed},
		{"no number", head + `;r=;t=1` + tail, propagate.Malformed},
		{"no time", head + `;r=1` + tail, propagate.Malformed},
		{"other order", head + `;t=1;r=1` + tail, propagate.Malformed},
		{"parameter twice", head + `;r=1;t=1;u="a";u="b"` + tail, propagate.Malformed},
		{"unknown parameter", head + `;r=1;t=1;z=1` + tail, propagate.Malformed},
		{"space", head + `;r=1; t=1` + tail, propagate.Malformed},
		{"short correlation", `1;c="0123456789abcde";o="0123456789abcdef";e="dev";r=1;t=1` + tail, propagate.Malformed},
		{"long correlation", `1;c="` + strings.Repeat("a", 65) + `";o="0123456789abcdef";e="dev";r=1;t=1` + tail, propagate.Malformed},
		{"upper-case root", `1;c="0123456789abcdef";o="0123456789ABCDEF";e="dev";r=1;t=1` + tail, propagate.Malformed},
		{"upper-case environment", `1;c="0123456789abcdef";o="0123456789abcdef";e="Dev";r=1;t=1` + tail, propagate.Malformed},
		{"raw tilde", head + `;r=1;t=1;u="~a"` + tail, propagate.Malformed},
		{"lower-case escape", head + `;r=1;t=1;u="%2f"` + tail, propagate.Malformed},
		{"cut escape", head + `;r=1;t=1;u="%2"` + tail, propagate.Malformed},
		{"not UTF-8", head + `;r=1;t=1;u="%FF"` + tail, propagate.Malformed},
		{"unknown type", head + `;r=1;t=1;a="a=~x1"` + tail, propagate.Malformed},
		{"boolean 2", head + `;r=1;t=1;a="a=~b2"` + tail, propagate.Malformed},
		{"not a number", head + `;r=1;t=1;a="a=~nNaN"` + tail, propagate.Malformed},
		{"infinite", head + `;r=1;t=1;a="a=~n%2BInf"` + tail, propagate.Malformed},
		{"empty number", head + `;r=1;t=1;a="a=~n"` + tail, propagate.Malformed},
		{"empty attributes", head + `;r=1;t=1;a=""` + tail, propagate.Malformed},
		{"empty decisions", head + `;r=1;t=1;d=""` + tail, propagate.Malformed},
		{"attribute name", head + `;r=1;t=1;a="A=1"` + tail, propagate.Malformed},
		{"decision without mark", head + `;r=1;t=1;d="a:on"` + tail, propagate.Malformed},
		{"flag key", head + `;r=1;t=1;d="1a:on^"` + tail, propagate.Malformed},
		{"emergency without variant", head + `;r=1;t=1;d="a:*9"` + tail, propagate.Malformed},
		{"emergency of no revision", head + `;r=1;t=1;d="a:on*0"` + tail, propagate.Malformed},
		{"long variant", head + `;r=1;t=1;d="a:` + strings.Repeat("v", 65) + `^"` + tail, propagate.Malformed},

		{"needless escape", head + `;r=1;t=1;u="%41"` + tail, propagate.NotCanonical},
		{"k of nothing", head + `;r=1;k=0;t=1` + tail, propagate.NotCanonical},
		{"attributes unsorted", head + `;r=1;t=1;a="b=1&a=1"` + tail, propagate.NotCanonical},
		{"attribute twice", head + `;r=1;t=1;a="a=1&a=1"` + tail, propagate.NotCanonical},
		{"decisions unsorted", head + `;r=1;t=1;d="b:on^ a:on^"` + tail, propagate.NotCanonical},
		{"decision twice", head + `;r=1;t=1;d="a:on^ a:on^"` + tail, propagate.NotCanonical},
		{"number with zeros", head + `;r=1;t=1;a="a=~n1.0"` + tail, propagate.NotCanonical},
		{"minus zero", head + `;r=1;t=1;a="a=~n-0"` + tail, propagate.NotCanonical},
		{"hexadecimal", head + `;r=1;t=1;a="a=~n0x10"` + tail, propagate.Malformed},
	}
	keys := ring(t, testKey)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			value := signed(tt.signed, testKey)
			h, err := keys.Verify(value)
			if refusal(err) != tt.want {
				t.Fatalf("Verify(%s) = %v, want %v", value, err, tt.want)
			}
			if _, decoded := propagate.Decode(value); refusal(decoded) != tt.want {
				t.Errorf("Decode(%s) = %v, but Verify says %v", value, decoded, err)
			}
			if err == nil {
				if again, err := propagate.Encode(h, testKey); again != value || err != nil {
					t.Errorf("Encode(Verify(x)) = %q, %v, want %q", again, err, value)
				}
			}
		})
	}
}

func TestVerifyTrust(t *testing.T) {
	t.Parallel()
	value := signed(sampleSigned, testKey)
	forger := propagate.Key{ID: "k1", Secret: [32]byte{9}}
	tests := []struct {
		name, value string
		want        propagate.Outcome
	}{
		{"empty", "", propagate.Malformed},
		{"forged", signed(sampleSigned, forger), propagate.BadTag},
		{"other revision", strings.Replace(value, "r=1042", "r=1043", 1), propagate.BadTag},
		{"unsigned", sampleSigned, propagate.Malformed},
		{"tag cut", value[:len(value)-2] + ":", propagate.Malformed},
		{"trailing", value + ";x=1", propagate.Malformed},
		{"tag twice", value + value[strings.LastIndex(value, ";s=:"):], propagate.Malformed},
		{"joined by a proxy", value + ", " + value, propagate.BadTag},
		{"joined, unknown key", strings.ReplaceAll(value+", "+value, `"k1"`, `"k2"`), propagate.Malformed},
		{"unknown key", strings.Replace(value, `"k1"`, `"k2"`, 1), propagate.UnknownKey},
		{"unknown key, odd bytes", strings.Replace(value, `"k1"`, "\xff"+`;i="k2"`, 1), propagate.Malformed},
		{"later version", "2" + value[1:], propagate.UnknownVersion},
		{"later version, joined", "2" + value[1:] + ", 2" + value[1:], propagate.Malformed},
		{"no version", "x" + value, propagate.Malformed},
		{"version zero", "0" + value[1:], propagate.Malformed},
		{"version with a zero", "02" + value[1:], propagate.Malformed},
		{"oversize", signed(strings.Replace(sampleSigned, "user-77", strings.Repeat("u", 4096), 1), testKey), propagate.Oversize},
	}
	keys := ring(t, testKey)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if h, err := keys.Verify(tt.value); refusal(err) != tt.want || !cmp.Equal(h, propagate.Header{}, compareAttributes) {
				t.Errorf("Verify(%.80q…) = %+v, %v, want %v and no header", tt.value, h, err, tt.want)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(*propagate.Header)
	}{
		{"correlation", func(h *propagate.Header) { h.Correlation = "short" }},
		{"root", func(h *propagate.Header) { h.Root = "" }},
		{"environment", func(h *propagate.Header) { h.Environment = `a"b` }},
		{"revision", func(h *propagate.Header) { h.Revision = -1 }},
		{"time", func(h *propagate.Header) { h.Time = 1e15 }},
		{"subject", func(h *propagate.Header) { h.Subject = "\xff" }},
		{"attribute twice", func(h *propagate.Header) { h.Attributes[0] = h.Attributes[1] }},
		{"attribute name", func(h *propagate.Header) { h.Attributes[0].Name = "Plan" }},
		{"decision twice", func(h *propagate.Header) { h.Decisions[0] = h.Decisions[1] }},
		{"flag key", func(h *propagate.Header) { h.Decisions[0].Flag = "a b" }},
		{"variant", func(h *propagate.Header) { h.Decisions[0].Variant = "a b" }},
		{"mark", func(h *propagate.Header) { h.Decisions[0].Mark = '?' }},
		{"root decision with a revision", func(h *propagate.Header) { h.Decisions[0].Emergency = 3 }},
		{"emergency without variant", func(h *propagate.Header) {
			h.Decisions[0] = propagate.Decision{Flag: "a", Mark: propagate.MarkEmergency, Emergency: 3}
		}},
		{"too long", func(h *propagate.Header) { h.Subject = strings.Repeat("u", 4000) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := sampleHeader(t)
			tt.spoil(&h)
			if value, err := propagate.Encode(h, testKey); value != "" || refusal(err) == propagate.Verified {
				t.Errorf("Encode = %q, %v, want a *HeaderError", value, err)
			}
		})
	}
}

func TestNewAttributeRefuses(t *testing.T) {
	t.Parallel()
	for _, value := range []any{nil, math.NaN(), math.Inf(1), "\xff", []any{"a"}, map[string]any{}, 1} {
		if a, ok := propagate.NewAttribute("a", value); ok {
			t.Errorf("NewAttribute(%v) = %v, want refusal", value, a)
		}
	}
	for _, name := range []string{"", "A", "a.b", "ä", strings.Repeat("a", 33)} {
		if _, ok := propagate.NewAttribute(name, "x"); ok {
			t.Errorf("NewAttribute(%q) accepted, want refusal", name)
		}
	}
}

// Any single changed byte, anywhere, makes a header that is not followed.
func TestEveryByteFlipRefused(t *testing.T) {
	t.Parallel()
	keys := ring(t, testKey, propagate.Key{ID: "k2", Secret: [32]byte{2}}, propagate.Key{ID: "K1", Secret: [32]byte{3}})
	value := []byte(signed(sampleSigned, testKey))
	for i := range value {
		original := value[i]
		for flip := 1; flip < 256; flip++ {
			value[i] = original ^ byte(flip)
			if h, err := keys.Verify(string(value)); err == nil {
				t.Fatalf("byte %d changed from %q to %q: accepted as %+v", i, original, value[i], h)
			}
		}
		value[i] = original
	}
	for n := range value {
		if _, err := keys.Verify(string(value[:n])); err == nil {
			t.Fatalf("cut to %d bytes: accepted", n)
		}
	}
}

// anyHeader draws every header the format can say, short and long.
func anyHeader() *rapid.Generator[propagate.Header] {
	return rapid.Custom(func(t *rapid.T) propagate.Header {
		uint15 := rapid.Int64Range(0, 999_999_999_999_999)
		h := propagate.Header{
			Correlation: rapid.StringMatching(`[A-Za-z0-9_-]{16,64}`).Draw(t, "correlation"),
			Root:        rapid.StringMatching(`[0-9a-f]{16}`).Draw(t, "root"),
			Environment: rapid.StringMatching(`[a-z0-9_.-]{1,40}`).Draw(t, "environment"),
			Revision:    uint15.Draw(t, "revision"),
			Known:       rapid.OneOf(rapid.Just(int64(0)), uint15).Draw(t, "known"),
			Time:        uint15.Draw(t, "time"),
			HasSubject:  rapid.Bool().Draw(t, "has subject"),
			KeyID:       testKey.ID,
		}
		if h.HasSubject {
			h.Subject = rapid.StringN(0, 40, 120).Draw(t, "subject")
		}
		value := rapid.OneOf(rapid.StringN(0, 20, 60).AsAny(), rapid.Bool().AsAny(), rapid.Float64().AsAny())
		for name := range rapid.MapOfN(rapid.StringMatching(`[a-z0-9_]{1,32}`), rapid.Just(0), 0, 6).Draw(t, "names") {
			if a, ok := propagate.NewAttribute(name, value.Draw(t, "value")); ok {
				h.Attributes = append(h.Attributes, a)
			}
		}
		mark := rapid.SampledFrom([]propagate.Mark{propagate.MarkRoot, propagate.MarkOverride, propagate.MarkEmergency})
		for flag := range rapid.MapOfN(rapid.StringMatching(`[A-Za-z][A-Za-z0-9._-]{0,40}`), rapid.Just(0), 0, 8).Draw(t, "flags") {
			d := propagate.Decision{Flag: flag, Mark: mark.Draw(t, "mark"), Variant: rapid.StringMatching(`[A-Za-z0-9._-]{0,64}`).Draw(t, "variant")}
			if d.Mark == propagate.MarkEmergency {
				d.Variant += "v"[:min(1, 64-len(d.Variant))]
				d.Emergency = rapid.Int64Range(1, 999_999_999_999_999).Draw(t, "emergency")
			}
			h.Decisions = append(h.Decisions, d)
		}
		return h
	})
}

func TestHeaderRoundTrip(t *testing.T) {
	t.Parallel()
	keys := ring(t, testKey)
	rapid.Check(t, func(t *rapid.T) {
		h := anyHeader().Draw(t, "header")
		value, err := propagate.Encode(h, testKey)
		if err != nil {
			t.Fatalf("Encode(%+v): %v", h, err)
		}
		got, err := keys.Verify(value)
		if err != nil {
			t.Fatalf("Verify(%s): %v", value, err)
		}
		again, err := propagate.Encode(got, testKey)
		if err != nil || again != value {
			t.Fatalf("Encode(Verify(x)) = %s, %v, want %s", again, err, value)
		}
		checkItem(t, value, got)
	})
}

// checkItem reads value with an independent RFC 9651 parser: it is one Item,
// an integer with parameters in the order of the grammar.
func checkItem(t interface{ Fatalf(string, ...any) }, value string, h propagate.Header) {
	item, err := httpsfv.UnmarshalItem([]string{value})
	if err != nil {
		t.Fatalf("%s is not a structured field item: %v", value, err)
	}
	if item.Value != int64(1) {
		t.Fatalf("version = %v, want 1", item.Value)
	}
	want := map[string]any{"c": h.Correlation, "o": h.Root, "e": h.Environment, "r": h.Revision, "t": h.Time, "i": h.KeyID}
	for name, content := range want {
		if got, _ := item.Params.Get(name); got != content {
			t.Fatalf("parameter %s = %v, want %v", name, got, content)
		}
	}
	if tag, _ := item.Params.Get("s"); len(tag.([]byte)) != 16 {
		t.Fatalf("signature = %v, want 16 bytes", tag)
	}
	if order := strings.Join(item.Params.Names(), ""); !subsequence(order, "coerktuadis") {
		t.Fatalf("parameters in order %s", order)
	}
	if again, err := httpsfv.Marshal(item); err != nil || again != value {
		t.Fatalf("serialised again: %s, %v, want %s", again, err, value)
	}
}

func subsequence(s, of string) bool {
	for _, c := range of {
		s = strings.TrimPrefix(s, string(c))
	}
	return s == ""
}

// FuzzHeader signs whatever text comes, so that the parser sees it, and also
// offers it unsigned. What is accepted must be the one legal spelling.
func FuzzHeader(f *testing.F) {
	f.Add(sampleSigned)
	f.Add(`1;c="0123456789abcdef";o="0123456789abcdef";e="dev";r=7;k=9;t=1;u="";a="a=&b=~b0&n=~n-1.5";d="a:on! b:off*9 c:^";i="k1"`)
	f.Add(`2;c="x"`)
	f.Add("1;" + strings.Repeat("%", 5000))
	f.Add(signed(sampleSigned, testKey) + ", " + signed(sampleSigned, testKey))
	keys := ring(f, testKey)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := keys.Verify(text); err == nil && !strings.HasSuffix(text, signed(sampleSigned, testKey)) {
			t.Fatalf("Verify accepted %q, which nobody signed", text)
		}
		value := signed(text, testKey)
		h, err := keys.Verify(value)
		if err != nil {
			return
		}
		again, err := propagate.Encode(h, testKey)
		if err != nil || again != value {
			t.Fatalf("Encode(Verify(x)) = %q, %v, want %q", again, err, value)
		}
		checkItem(t, value, h)
	})
}
