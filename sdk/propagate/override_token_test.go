package propagate_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

func overrideToken(edit ...func(*propagate.OverrideToken)) propagate.OverrideToken {
	t := propagate.OverrideToken{
		Environment: "production", Audience: "shop.example.com", ID: "0192f0c1-a2b3-7c4d-8e9f-001122334455",
		Actor: "key:0192 Ada's “laptop”", Expires: 1763900000, Flag: "checkout.new-pricing", Variant: "on", KeyID: "k1",
	}
	for _, f := range edit {
		f(&t)
	}
	return t
}

// TestOverrideTokenIsAnItem: the text is a structured field that a stranger's
// parser reads, and its signature covers all of it but itself.
func TestOverrideTokenIsAnItem(t *testing.T) {
	t.Parallel()
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	text, err := overrideToken().Sign(func(text []byte) []byte { return ed25519.Sign(private, text) })
	if err != nil {
		t.Fatal(err)
	}
	const want = `1;e="production";o="shop.example.com";n="0192f0c1-a2b3-7c4d-8e9f-001122334455"` +
		`;w="key%3A0192%20Ada%27s%20%E2%80%9Claptop%E2%80%9D";x=1763900000;d="checkout.new-pricing:on";i="k1"`
	signed, signature, ok := strings.Cut(text, ";s=:")
	if !ok || signed != want {
		t.Errorf("token %s, want %s and a signature", text, want)
	}
	item, err := httpsfv.UnmarshalItem([]string{text})
	if err != nil {
		t.Fatal(err)
	}
	raw, ok := item.Params.Get("s")
	public, _ := private.Public().(ed25519.PublicKey)
	if bytes, is := raw.([]byte); !ok || !is || !ed25519.Verify(public, []byte("guidon-override/1\n"+signed), bytes) {
		t.Errorf("signature %s does not fit", signature)
	}
	if again, err := httpsfv.Marshal(item); err != nil || again != text {
		t.Errorf("written again it is %s, %v, want %s", again, err, text)
	}
	if strings.ContainsAny(text, "', \\") {
		t.Errorf("token %s needs quoting in a shell, a cookie or a list", text)
	}
}

func TestOverrideTokenRefusesWhatItCannotSay(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*propagate.OverrideToken){
		"environment": func(o *propagate.OverrideToken) { o.Environment = "Production" },
		"audience":    func(o *propagate.OverrideToken) { o.Audience = "shop.example.com:443" },
		"id":          func(o *propagate.OverrideToken) { o.ID = "" },
		"actor":       func(o *propagate.OverrideToken) { o.Actor = strings.Repeat("x", propagate.MaxActorBytes+1) },
		"actor text":  func(o *propagate.OverrideToken) { o.Actor = "\xff" },
		"expiry":      func(o *propagate.OverrideToken) { o.Expires = -1 },
		"flag":        func(o *propagate.OverrideToken) { o.Flag = "a:b" },
		"variant":     func(o *propagate.OverrideToken) { o.Variant = "" },
		"key":         func(o *propagate.OverrideToken) { o.KeyID = "k_1" },
	} {
		signed := false
		text, err := overrideToken(edit).Sign(func([]byte) []byte { signed = true; return nil })
		if _, ok := errors.AsType[*propagate.HeaderError](err); !ok || signed {
			t.Errorf("%s: token %q, error %v, signed %v, want a HeaderError and no signature", name, text, err, signed)
		}
	}
}

func TestValidAudience(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	for _, host := range []string{"a", "shop", "shop.example.com", "x-1.example", "127.0.0.1", "xn--mnchen-3ya.de", label + "." + label} {
		if !propagate.ValidAudience(host) {
			t.Errorf("ValidAudience(%q) is false", host)
		}
	}
	for _, host := range []string{
		"", ".", "a.", ".a", "a..b", "-a", "a-", "a-.b", "a.-b", "A", "a b", "a:80", "[::1]", "a/b", "münchen.de", "a_b", "a\"", label + "a",
		strings.Repeat("a.", 127) + "a",
	} {
		if propagate.ValidAudience(host) {
			t.Errorf("ValidAudience(%q) is true", host)
		}
	}
	if host := fmt.Sprintf("%s.%s.%s.%s", label, label, label, label); propagate.ValidAudience(host) {
		t.Errorf("a name of %d bytes is valid", len(host))
	}
}
