package auth_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/server/auth"
)

// A key that is on its way to a server is shown nowhere.
func TestBearerIsNotShown(t *testing.T) {
	t.Parallel()
	key := auth.Bearer("gdn_admin_secret")
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("call", slog.Any("key", key))
	encoded, err := json.Marshal(struct{ Key auth.Bearer }{key})
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{
		fmt.Sprint(key), fmt.Sprintf("%v %s %q %#v %+v", key, key, key, key, struct{ Key auth.Bearer }{key}), logged.String(), string(encoded),
	} {
		if strings.Contains(shown, "secret") {
			t.Errorf("shown: %s", shown)
		}
	}
}
