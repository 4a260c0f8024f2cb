package propagate_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// While keys rotate, headers of the old key are still followed, and of a
// removed key they are passed on unread.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	next := propagate.Key{ID: "k2", Secret: [32]byte{5}}
	keys := ring(t, testKey)
	h := sampleHeader(t)
	old, err := keys.Sign(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Set("k2", []propagate.Key{testKey, next}); err != nil {
		t.Fatal(err)
	}
	fresh, err := keys.Sign(h)
	if err != nil || !strings.Contains(fresh, `;i="k2"`) {
		t.Errorf("Sign = %q, %v, want one by k2", fresh, err)
	}
	for _, value := range []string{old, fresh} {
		if _, err := keys.Verify(value); err != nil {
			t.Errorf("Verify(%.20s…) during the overlap: %v", value, err)
		}
	}
	if err := keys.Set("k2", []propagate.Key{next}); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Verify(old); refusal(err) != propagate.UnknownKey {
		t.Errorf("Verify after removal: %v, want unknown_key", err)
	}
}

// All calls of one request carry the same bytes, whatever happens to the keys.
func TestRotationWithinARequest(t *testing.T) {
	t.Parallel()
	keys := ring(t, testKey)
	p := newPropagator(t, shop(t).instance(), func(c *propagate.Config) { c.Keys = keys })
	s, _ := propagate.FromContext(p.Root(t.Context(), nil))
	before, _ := s.Header()
	if err := keys.Set("k2", []propagate.Key{testKey, {ID: "k2", Secret: [32]byte{5}}}); err != nil {
		t.Fatal(err)
	}
	if after, ok := s.Header(); after != before || !ok {
		t.Errorf("Header = %q after the rotation, want %q", after, before)
	}
}

func TestKeyringRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		signer string
		keys   []propagate.Key
	}{
		"bad id":        {"", []propagate.Key{{ID: "a b", Secret: testKey.Secret}}},
		"same id twice": {"", []propagate.Key{testKey, testKey}},
		"no secret":     {"", []propagate.Key{{ID: "k1"}}},
		"signer absent": {"k3", []propagate.Key{testKey}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := ring(t, testKey)
			if err := keys.Set(tt.signer, tt.keys); err == nil {
				t.Fatal("Set accepted")
			}
			if _, err := keys.Verify(signed(sampleSigned, testKey)); err != nil {
				t.Errorf("a refused Set changed the ring: %v", err)
			}
		})
	}
}

func TestEmptyKeyring(t *testing.T) {
	t.Parallel()
	var keys propagate.Keyring
	if _, err := keys.Verify(signed(sampleSigned, testKey)); refusal(err) != propagate.UnknownKey {
		t.Errorf("Verify = %v, want unknown_key", err)
	}
	if value, err := keys.Sign(sampleHeader(t)); err == nil {
		t.Errorf("Sign = %q without a key", value)
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	key := propagate.Key{ID: "k1", Secret: [32]byte([]byte("canary-canary-canary-canary-1234"))}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).LogAttrs(t.Context(), slog.LevelInfo, "m", slog.Any("key", key), slog.Any("secret", key.Secret))
	text, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	shown := log.String() + string(text) + fmt.Sprintf("%v %+v %#v %s %q %x %v %d", key, key, key, key, key, key, &key, key.Secret)
	for _, trace := range []string{"canary", "63616e617279", "99 97 110", "99,97,110", "0x63"} {
		if strings.Contains(shown, trace) {
			t.Errorf("the secret shows as %q in %s", trace, shown)
		}
	}
}

func TestKeyringConcurrency(t *testing.T) {
	t.Parallel()
	keys := ring(t, testKey)
	value := signed(sampleSigned, testKey)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 200 {
				if _, err := keys.Verify(value); err != nil {
					t.Errorf("Verify: %v", err)
				}
				if got, err := keys.Sign(sampleHeader(t)); got != value || err != nil {
					t.Errorf("Sign = %q, %v, want %q", got, err, value)
				}
				if err := keys.Set("k1", []propagate.Key{testKey}); err != nil {
					t.Errorf("Set: %v", err)
				}
			}
		})
	}
	group.Wait()
}
