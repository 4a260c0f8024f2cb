package store_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

func createKey(t *testing.T, db *store.DB, n store.NewKey) (store.Key, store.KeyText) {
	t.Helper()
	k, text, err := db.CreateKey(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return k, text
}

func serverKey(name string) store.NewKey {
	return store.NewKey{Kind: store.KeyServer, Environment: "production", Name: name, Actor: "ada"}
}

func TestKeyIsRecognisedByItsText(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	made, text := createKey(t, db, serverKey("checkout"))
	if !strings.HasPrefix(text.Reveal(), "gdn_server_") || !strings.HasSuffix(text.Reveal(), made.Hint) || len(made.Hint) != 4 {
		t.Errorf("text %d characters long, hint %q", len(text.Reveal()), made.Hint)
	}
	found, err := db.KeyByText(t.Context(), text.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, found); diff != "" {
		t.Errorf("KeyByText (-made +found):\n%s", diff)
	}
	admin, text := createKey(t, db, store.NewKey{Kind: store.KeyAdmin, Name: "root", Actor: "ada"})
	if found, err := db.KeyByText(t.Context(), text.Reveal()); err != nil || found.ID != admin.ID || found.Environment != "" {
		t.Errorf("KeyByText of the admin key = %+v, %v", found, err)
	}
}

func TestKeyThatIsRefused(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	live, text := createKey(t, db, serverKey("live"))
	_ = live
	revoked, revokedText := createKey(t, db, serverKey("revoked"))
	if _, err := db.RevokeKey(t.Context(), store.Revocation{ID: revoked.ID, Actor: "grace", Reason: "leaked"}); err != nil {
		t.Fatal(err)
	}
	n := serverKey("expired")
	n.Expires = time.Now().Add(time.Hour)
	expired, expiredText := createKey(t, db, n)
	sql(t, fmt.Sprintf(`UPDATE api_keys SET expires_at = now() WHERE id = '%s'`, expired.ID))
	unknown, unknownText := createKey(t, db, serverKey("unknown"))
	sql(t, fmt.Sprintf(`DELETE FROM api_keys WHERE id = '%s'`, unknown.ID))

	good := text.Reveal()
	for _, c := range []struct {
		what, text string
		want       error
	}{
		{"revoked", revokedText.Reveal(), store.ErrKeyRevoked},
		{"expired", expiredText.Reveal(), store.ErrKeyExpired},
		{"unknown", unknownText.Reveal(), store.ErrKeyUnknown},
		{"empty", "", store.ErrKeyMalformed},
		{"truncated", good[:len(good)-1], store.ErrKeyMalformed},
		{"of another kind", strings.Replace(good, "server", "admin", 1), store.ErrKeyMalformed},
		{"with a space", good + " ", store.ErrKeyMalformed},
	} {
		_, err := db.KeyByText(t.Context(), c.text)
		if !errors.Is(err, c.want) {
			t.Errorf("key that is %s: %v, want %v", c.what, err, c.want)
		}
		if err != nil && len(c.text) > 20 && strings.Contains(err.Error(), c.text[11:]) {
			t.Errorf("the error for a key that is %s quotes it", c.what)
		}
	}
}

func TestMalformedKeyCostsNoQuery(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	db.Close()
	if _, err := db.KeyByText(t.Context(), "gdn_server_"+strings.Repeat("a", 36)); !errors.Is(err, store.ErrKeyMalformed) {
		t.Errorf("malformed key without a database: %v, want ErrKeyMalformed", err)
	}
}

func TestUseOfAKeyIsNotedOnceAMinute(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	k, text := createKey(t, db, serverKey("a"))
	used := func() time.Time {
		t.Helper()
		if _, err := db.KeyByText(t.Context(), text.Reveal()); err != nil {
			t.Fatal(err)
		}
		keys, _, err := db.Keys(t.Context(), store.Page{})
		if err != nil {
			t.Fatal(err)
		}
		return keys[0].LastUsedAt
	}
	first := used()
	if first.IsZero() || first.Before(k.CreatedAt) {
		t.Errorf("first use is noted at %v, made at %v", first, k.CreatedAt)
	}
	if again := used(); !again.Equal(first) {
		t.Errorf("a use in the same minute is noted: %v after %v", again, first)
	}
	sql(t, `UPDATE api_keys SET last_used_at = last_used_at - interval '1 minute'`)
	if later := used(); !later.After(first) {
		t.Errorf("a use a minute later is not noted: %v after %v", later, first)
	}
}

func TestKeysAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	var want []string
	for i := range 5 {
		k, _ := createKey(t, db, serverKey(fmt.Sprintf("key-%d", i)))
		want = append([]string{k.Name}, want...)
	}
	var got []string
	for page := (store.Page{Size: 2}); ; {
		keys, next, err := db.Keys(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, names(keys, func(k store.Key) string { return k.Name })...)
		if page.Token = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestKeysAreAuditedWithoutTheSecret(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	k, text := createKey(t, db, serverKey("a"))
	for range 2 { // the second changes nothing
		if got, err := db.RevokeKey(t.Context(), store.Revocation{ID: k.ID, Actor: "grace", Reason: "leaked"}); err != nil || got.RevokedAt.IsZero() {
			t.Fatalf("RevokeKey = %+v, %v", got, err)
		}
	}
	if head := verify(t, db, audit.Installation); head.Seq != 2 {
		t.Errorf("the installation's chain has %d entries, want 2", head.Seq)
	}
	records := auditLog(t, db, store.AuditFilter{Environments: []string{audit.Installation}})
	got := names(records, func(r audit.Record) string {
		return fmt.Sprintf("%s %s %s %s", r.Actor, r.Action, r.Reason, r.Operations[0].Name)
	})
	if diff := cmp.Diff([]string{"grace key.revoke leaked " + k.ID, "ada key.create  " + k.ID}, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	raw, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	if secret := text.Reveal()[11:41]; strings.Contains(string(raw), secret) {
		t.Error("the audit log holds the key")
	}
}

func TestBadKeyRequests(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for want, edit := range map[string]func(*store.NewKey){
		"kind: ":                           func(n *store.NewKey) { n.Kind = "edge" },
		"environment: is required":         func(n *store.NewKey) { n.Environment = "" },
		"environment: an admin key":        func(n *store.NewKey) { n.Kind = store.KeyAdmin },
		"name: is required":                func(n *store.NewKey) { n.Name = " " },
		"actor: is required":               func(n *store.NewKey) { n.Actor = "" },
		"name: is longer":                  func(n *store.NewKey) { n.Name = strings.Repeat("x", 201) },
		"expires_at: is in the past":       func(n *store.NewKey) { n.Expires = time.Now().Add(-time.Hour) },
		`environment "nowhere": not found`: func(n *store.NewKey) { n.Environment = "nowhere" },
	} {
		n := serverKey("a")
		edit(&n)
		_, _, err := db.CreateKey(t.Context(), n)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, eval.ErrInvalid) && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("CreateKey: %v, want %q", err, want)
		}
	}
	for _, id := range []string{"", "x", "0190a0a0-0000-7000-8000-000000000000", "urn:uuid:0190a0a0-0000-7000-8000-000000000000"} {
		if _, err := db.RevokeKey(t.Context(), store.Revocation{ID: id, Actor: "ada"}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("RevokeKey(%q): %v, want ErrNotFound", id, err)
		}
	}
	if _, err := db.RevokeKey(t.Context(), store.Revocation{ID: "x"}); !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("RevokeKey by nobody: %v, want ErrInvalid", err)
	}
	if head := verify(t, db, audit.Installation); head.Seq != 0 {
		t.Errorf("refused requests wrote %d audit entries", head.Seq)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	_, text := createKey(t, db, serverKey("a"))
	keys, _, err := db.PropagationKeys(t.Context(), "production")
	if err != nil {
		t.Fatal(err)
	}
	master := store.NewMasterKey([32]byte{0: 0xab, 31: 0xcd})
	for name, c := range map[string]struct {
		value  any
		secret string
	}{
		"key text":        {text, text.Reveal()[11:41]},
		"master key":      {master, "ab00"},
		"master bytes":    {master, "171 0"},
		"propagation key": {keys[0], strings.Trim(fmt.Sprintf("%d", keys[0].Secret[:4]), "[]")},
		"propagation hex": {keys[0], hex.EncodeToString(keys[0].Secret[:4])},
	} {
		raw, err := json.Marshal(map[string]any{"x": c.value})
		if err != nil {
			t.Fatal(err)
		}
		var logged strings.Builder
		slog.New(slog.NewTextHandler(&logged, nil)).Info("x", slog.Any("value", c.value))
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", slog.Any("value", c.value))
		for _, printed := range []string{
			string(raw), logged.String(), fmt.Sprint(c.value), fmt.Sprintf("%v %+v %#v %s %q", c.value, c.value, c.value, c.value, c.value),
		} {
			if strings.Contains(printed, c.secret) {
				t.Errorf("%s prints: %s", name, printed)
			}
		}
	}
}

func FuzzAPIKeyParse(f *testing.F) {
	f.Add("")
	f.Add("gdn_server_" + strings.Repeat("0", 36))
	f.Add("gdn_admin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000")
	f.Add("gdn__" + strings.Repeat("z", 36))
	f.Add("gdn_server_\xff\x00" + strings.Repeat("z", 34))
	f.Fuzz(func(t *testing.T, text string) {
		key, kind, err := store.ParseKey(text)
		if err != nil {
			if !errors.Is(err, store.ErrKeyMalformed) || key.Reveal() != "" || kind != "" {
				t.Errorf("ParseKey(%q) = %q, %v, want nothing but ErrKeyMalformed", text, kind, err)
			}
			return
		}
		if key.Reveal() != text || !strings.HasPrefix(text, "gdn_"+string(kind)+"_") {
			t.Errorf("ParseKey(%q) = %q of kind %q", text, key.Reveal(), kind)
		}
		// One wrong character must not pass the checksum.
		for i := range text {
			wrong := text[:i] + string(text[i]^1) + text[i+1:]
			if _, _, err := store.ParseKey(wrong); err == nil {
				t.Errorf("ParseKey(%q) passes as %q does", wrong, text)
			}
		}
	})
}

func TestKeyOrigins(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	client := store.NewKey{
		Kind: store.KeyClient, Environment: "production", Name: "web", Actor: "ada",
		Origins: []string{"https://shop.example", "http://localhost:3000", "*"},
	}
	made, text := createKey(t, db, client)
	found, err := db.KeyByText(t.Context(), text.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(client.Origins, found.Origins); diff != "" || made.ID != found.ID {
		t.Errorf("origins (-asked +found):\n%s", diff)
	}
	for _, origin := range []string{"", "shop.example", "https://", "https://shop.example/", "https://Shop.example", "https://a@shop.example", "null"} {
		client.Origins = []string{"https://shop.example", origin}
		if _, _, err := db.CreateKey(t.Context(), client); !errors.Is(err, eval.ErrInvalid) || !strings.Contains(err.Error(), "origins[1]") {
			t.Errorf("CreateKey with origin %q: %v, want one that names origins[1]", origin, err)
		}
	}
	server := serverKey("page")
	server.Origins = []string{"https://shop.example"}
	if _, _, err := db.CreateKey(t.Context(), server); !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("CreateKey of a server key with an origin: %v, want one that is invalid", err)
	}
}

// TestKeyOfProjects: a key names projects that there are, once each, and the
// audit log says which.
func TestKeyOfProjects(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for _, name := range []string{"shop", "core"} {
		if err := db.CreateProject(t.Context(), store.NewProject{Name: name, Actor: "ada"}); err != nil {
			t.Fatal(err)
		}
	}
	n := serverKey("checkout")
	n.Projects = []string{"shop", "core", "shop"}
	made, text := createKey(t, db, n)
	if want := []string{"core", "shop"}; !cmp.Equal(made.Projects, want) {
		t.Errorf("the key is for %q, want %q", made.Projects, want)
	}
	found, err := db.KeyByText(t.Context(), text.Reveal())
	if err != nil || !cmp.Equal(found.Projects, made.Projects) {
		t.Errorf("KeyByText says %q, %v", found.Projects, err)
	}
	hashes, err := db.KeyHashes(t.Context(), "production")
	if err != nil || len(hashes) != 1 || !cmp.Equal(hashes[0].Projects, made.Projects) {
		t.Errorf("KeyHashes = %+v, %v", hashes, err)
	}
	if all, err := db.KeyHashes(t.Context(), ""); err != nil || len(all) != 1 || all[0].Hash != text.Hash() {
		t.Errorf("KeyHashes of all environments = %+v, %v", all, err)
	}
	said := auditLog(t, db, store.AuditFilter{Action: string(audit.ActionCreateKey)})
	if len(said) != 1 || !strings.Contains(string(said[0].Operations[0].After), `"projects":["core","shop"]`) {
		t.Errorf("the audit log says %+v", said)
	}
	n.Projects = []string{"shop", "nowhere"}
	if _, _, err := db.CreateKey(t.Context(), n); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("with a project that is not there: %v, want ErrNotFound", err)
	}
	for name, bad := range map[string]store.NewKey{
		"admin":      {Kind: store.KeyAdmin, Name: "x", Actor: "ada", Projects: []string{"shop"}},
		"relay":      {Kind: store.KeyRelay, Environment: "production", Name: "x", Actor: "ada", Projects: []string{"shop"}},
		"no project": {Kind: store.KeyServer, Environment: "production", Name: "x", Actor: "ada", Projects: []string{""}},
		"too many":   {Kind: store.KeyServer, Environment: "production", Name: "x", Actor: "ada", Projects: make([]string, 101)},
	} {
		if _, _, err := db.CreateKey(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "projects") {
			t.Errorf("%s: %v, want an error about projects", name, err)
		}
	}
}
