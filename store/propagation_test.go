package store_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestPropagationKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	secrets := make([][32]byte, 8)
	var g errgroup.Group
	for i := range secrets {
		g.Go(func() error {
			keys, signer, err := db.PropagationKeys(t.Context(), "production")
			if err != nil {
				return err
			}
			if len(keys) != 1 || keys[0].ID != signer || !regexp.MustCompile(`^[a-z2-7]{8}$`).MatchString(signer) {
				t.Errorf("keys = %v, signer %q, want one", keys, signer)
			}
			secrets[i] = keys[0].Secret
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if s != secrets[0] || s == ([32]byte{}) {
			t.Error("callers got different keys, or none")
		}
	}
	if head := verify(t, db, audit.Installation); head.Seq != 1 {
		t.Errorf("the installation's chain has %d entries, want 1", head.Seq)
	}
	other, _, err := db.PropagationKeys(t.Context(), "staging")
	if err != nil {
		t.Fatal(err)
	}
	if other[0].Secret == secrets[0] {
		t.Error("two environments share a key")
	}
	if _, _, err := db.PropagationKeys(t.Context(), "nowhere"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("keys of an unknown environment: %v, want ErrNotFound", err)
	}
}

func TestRetiredPropagationKeysFollowTheSigner(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	old, _, err := db.PropagationKeys(t.Context(), "production")
	if err != nil {
		t.Fatal(err)
	}
	sql(t, `UPDATE propagation_keys SET retired_at = now()`)
	keys, signer, err := db.PropagationKeys(t.Context(), "production")
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || keys[0].ID != signer || signer == old[0].ID || !keys[0].RetiredAt.IsZero() ||
		keys[1].ID != old[0].ID || keys[1].Secret != old[0].Secret || keys[1].RetiredAt.IsZero() {
		t.Errorf("keys = %+v, signer %s, want a new signer, then the retired %s", keys, signer, old[0].ID)
	}
}

func TestPropagationKeysNeedTheirMasterKey(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	if _, _, err := db.PropagationKeys(t.Context(), "production"); err != nil {
		t.Fatal(err)
	}
	open := func(master store.MasterKey) error {
		t.Helper()
		db, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t), MasterKey: master})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		_, _, err = db.PropagationKeys(t.Context(), "production")
		return err
	}
	if err := open(store.MasterKey{}); !errors.Is(err, store.ErrNoMasterKey) || !errors.Is(err, store.ErrMasterKey) {
		t.Errorf("without a master key: %v, want ErrNoMasterKey", err)
	}
	if err := open(store.NewMasterKey([32]byte{9})); !errors.Is(err, store.ErrMasterKey) || errors.Is(err, store.ErrNoMasterKey) {
		t.Errorf("with another master key: %v, want ErrMasterKey", err)
	}
	sql(t, `INSERT INTO propagation_keys SELECT 'staging', kid, sealed, created_at FROM propagation_keys`)
	if _, _, err := db.PropagationKeys(t.Context(), "staging"); !errors.Is(err, store.ErrMasterKey) {
		t.Errorf("a key moved to another environment: %v, want ErrMasterKey", err)
	}
}

func TestParseMasterKey(t *testing.T) {
	t.Parallel()
	raw := [32]byte{0: 1, 30: 0xff, 31: 0xfe}
	want := store.NewMasterKey(raw)
	for _, text := range []string{
		hex.EncodeToString(raw[:]), "\n " + base64.StdEncoding.EncodeToString(raw[:]) + "\n",
		base64.RawURLEncoding.EncodeToString(raw[:]), want.Text(),
	} {
		if got, err := store.ParseMasterKey(text); err != nil || got != want {
			t.Errorf("ParseMasterKey of %d characters: %v, want the key", len(text), err)
		}
	}
	for _, text := range []string{"", "short", hex.EncodeToString(raw[:31]), hex.EncodeToString(make([]byte, 32))} {
		if got, err := store.ParseMasterKey(text); !errors.Is(err, store.ErrMasterKey) || !got.IsZero() {
			t.Errorf("ParseMasterKey(%q): %v, want ErrMasterKey", text, err)
		}
	}
}

// TestRotation: the next key is handed out beside the signer, signs when it is
// told to, and the one before stays to verify.
func TestRotation(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	old, _, err := db.PropagationKeys(t.Context(), "staging")
	if err != nil {
		t.Fatal(err)
	}
	asked := store.Rotation{Environment: "staging", Actor: "ada", Reason: "it is old"}
	before := verify(t, db, audit.Installation)
	next, err := db.RotatePropagationKey(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := db.RotatePropagationKey(t.Context(), asked); err != nil || again != next {
		t.Errorf("rotated again: %s, %v, want the key that is being handed out, %s", again, err, next)
	}
	keys, signer, err := db.PropagationKeys(t.Context(), "staging")
	if err != nil || len(keys) != 2 || signer != old[0].ID || keys[1].ID != next || !keys[1].ActivatedAt.IsZero() {
		t.Errorf("while it is handed out: keys %+v, signer %s, %v", keys, signer, err)
	}
	for range 2 { // the second time does nothing
		if err := db.SwitchPropagationKey(t.Context(), asked, next); err != nil {
			t.Fatal(err)
		}
	}
	keys, signer, err = db.PropagationKeys(t.Context(), "staging")
	if err != nil || len(keys) != 2 || signer != next || keys[1].ID != old[0].ID || keys[1].Secret != old[0].Secret || keys[1].RetiredAt.IsZero() {
		t.Errorf("after the switch: keys %+v, signer %s, %v", keys, signer, err)
	}
	if err := db.SwitchPropagationKey(t.Context(), asked, old[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, signer, err = db.PropagationKeys(t.Context(), "staging"); err != nil || signer != next {
		t.Errorf("a switch back made %s sign, %v", signer, err)
	}
	if after := verify(t, db, audit.Installation); after.Seq != before.Seq+2 {
		t.Errorf("%d audit entries, want one for the key and one for the switch", after.Seq-before.Seq)
	}
	if other, _, err := db.PropagationKeys(t.Context(), "production"); err != nil || len(other) != 1 {
		t.Errorf("another environment has keys %v, %v", other, err)
	}
}

func TestBadRotations(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for _, env := range []string{"staging", "production"} {
		if _, _, err := db.PropagationKeys(t.Context(), env); err != nil {
			t.Fatal(err)
		}
	}
	before := verify(t, db, audit.Installation)
	for name, tt := range map[string]struct {
		asked store.Rotation
		want  error
	}{
		"unknown environment":  {store.Rotation{Environment: "nowhere", Actor: "ada"}, store.ErrNotFound},
		"nobody":               {store.Rotation{Environment: "staging"}, eval.ErrInvalid},
		"protected, no reason": {store.Rotation{Environment: "production", Actor: "ada"}, eval.ErrInvalid},
	} {
		if _, err := db.RotatePropagationKey(t.Context(), tt.asked); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if err := db.SwitchPropagationKey(t.Context(), store.Rotation{Environment: "staging", Actor: "ada"}, "nothing"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a switch to a key that is not there: %v, want ErrNotFound", err)
	}
	if after := verify(t, db, audit.Installation); after != before {
		t.Errorf("refused requests wrote %d audit entries", after.Seq-before.Seq)
	}
	asked := store.Rotation{Environment: "staging", Actor: "ada"}
	for range 15 {
		next, err := db.RotatePropagationKey(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.SwitchPropagationKey(t.Context(), asked, next); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.RotatePropagationKey(t.Context(), asked); !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("a key more than an SDK tells of: %v, want ErrInvalid", err)
	}
}

// TestRetiredKeysAreRemoved: a retired key goes when revisions go that were new
// while it signed, and makes room for another rotation.
func TestRetiredKeysAreRemoved(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	if _, _, err := db.PropagationKeys(t.Context(), "staging"); err != nil {
		t.Fatal(err)
	}
	asked := store.Rotation{Environment: "staging", Actor: "ada"}
	for range 15 {
		next, err := db.RotatePropagationKey(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.SwitchPropagationKey(t.Context(), asked, next); err != nil {
			t.Fatal(err)
		}
	}
	before, signer, err := db.PropagationKeys(t.Context(), "staging")
	if err != nil || len(before) != 16 {
		t.Fatalf("%d keys, %v", len(before), err)
	}
	if n, err := db.RemovePropagationKeys(t.Context()); err != nil || n != 0 {
		t.Errorf("removed %d keys that just retired, %v", n, err)
	}
	// Environments keep revisions for 90 days; a day more is for those that had
	// not heard.
	for i, age := range []string{"90 days", "91 days", "400 days"} {
		sql(t, fmt.Sprintf(`UPDATE propagation_keys SET retired_at = now() - interval '%s' WHERE kid = '%s'`, age, before[13+i].ID))
	}
	if n, err := db.RemovePropagationKeys(t.Context()); err != nil || n != 2 {
		t.Errorf("removed %d keys, %v, want the two that are too old", n, err)
	}
	after, still, err := db.PropagationKeys(t.Context(), "staging")
	if err != nil || len(after) != 14 || still != signer {
		t.Errorf("%d keys, signer %s, %v, want 14 and %s", len(after), still, err, signer)
	}
	records := auditLog(t, db, store.AuditFilter{Action: audit.ActionRemovePropagationKey})
	if len(records) != 1 || records[0].Actor != "guidon" || len(records[0].Operations) != 2 || records[0].Operations[0].After != nil {
		t.Errorf("the removal is recorded as %+v", records)
	}
	if _, err := db.VerifyAudit(t.Context(), audit.Installation, ""); err != nil {
		t.Errorf("VerifyAudit: %v", err)
	}
	if _, err := db.RotatePropagationKey(t.Context(), asked); err != nil {
		t.Errorf("no room for another key: %v", err)
	}
	environments, err := db.Environments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := environments[0].KeysVersion; n != chainOf(t, db, audit.Installation).Head.Seq {
		t.Errorf("streams look for keys of version %d", n)
	}
}
