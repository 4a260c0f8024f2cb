package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/guidon-flags/guidon/store"
)

// devActor is the actor of what dev does by itself.
const devActor = "guidon dev"

// dataDir is what dev keeps between runs, beside the database: a lock, the
// master key and the API keys in clear. Each file is written whole or not at
// all and can be read by its owner only.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory if there is none, and claims it: one process
// at a time. The kernel drops the claim when the process ends, however it ends.
func openDataDir(path string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		// Others may pass but not look, whatever the umask says: when started
		// as root, Postgres runs as somebody else and must get to its own
		// directory inside.
		const passable = 0o711
		if err := os.MkdirAll(path, passable); err != nil {
			return nil, err
		}
		if err := os.Chmod(path, passable); err != nil {
			return nil, err
		}
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(lock.Close(), fmt.Errorf("%s is in use by another guidon dev", path))
	}
	return &dataDir{path, lock}, nil
}

// close gives up the claim.
func (d *dataDir) close() { _ = d.lock.Close() }

// masterKey reads the key that seals the keys in the database, or makes it.
func (d *dataDir) masterKey() (store.MasterKey, error) {
	path := filepath.Join(d.path, "master.key")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var secret [32]byte
		if _, err := rand.Read(secret[:]); err != nil {
			return store.MasterKey{}, err
		}
		key := store.NewMasterKey(secret)
		return key, writeFile(path, []byte(key.Text()+"\n"))
	}
	if err != nil {
		return store.MasterKey{}, err
	}
	return parseMasterKey(path, string(text))
}

// apiKeys returns a working admin key and a server key for each environment,
// the same ones as the last time. Those that are missing or no longer good are
// made, and saved one by one, so that a crash loses at most one.
func (d *dataDir) apiKeys(ctx context.Context, db *store.DB) (apiKeys, error) {
	path := filepath.Join(d.path, "keys.json")
	keys := apiKeys{servers: map[string]string{}}
	saved, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return keys, err
	default:
		if err := json.Unmarshal(saved, &keys); err != nil {
			return keys, fmt.Errorf("%s: %w", path, err)
		}
	}
	ensure := func(text string, want store.NewKey, put func(string)) error {
		good, err := works(ctx, db, text)
		if good || err != nil {
			return err
		}
		_, created, err := db.CreateKey(ctx, want)
		if err != nil {
			return err
		}
		put(created.Reveal())
		out, err := json.Marshal(keys)
		if err != nil {
			return err
		}
		return writeFile(path, append(out, '\n'))
	}

	err = ensure(keys.admin, store.NewKey{Kind: store.KeyAdmin, Name: "dev admin", Actor: devActor},
		func(text string) { keys.admin = text })
	if err != nil {
		return keys, err
	}
	environments, err := db.Environments(ctx)
	if err != nil {
		return keys, err
	}
	for _, e := range environments {
		want := store.NewKey{Kind: store.KeyServer, Environment: e.Name, Name: "dev " + e.Name, Actor: devActor}
		if err := ensure(keys.servers[e.Name], want, func(text string) { keys.servers[e.Name] = text }); err != nil {
			return keys, err
		}
		keys.environments = append(keys.environments, e.Name)
	}
	return keys, nil
}

// works reports whether the database takes a key.
func works(ctx context.Context, db *store.DB, text string) (bool, error) {
	_, err := db.KeyByText(ctx, text)
	for _, refused := range []error{store.ErrKeyMalformed, store.ErrKeyUnknown, store.ErrKeyExpired, store.ErrKeyRevoked} {
		if errors.Is(err, refused) {
			return false, nil
		}
	}
	return err == nil, err
}

// apiKeys are the keys that dev hands out. As JSON they are {"admin": text,
// environment: {"server": text}, …}.
type apiKeys struct {
	admin        string
	servers      map[string]string // by environment
	environments []string          // in their own order; not saved
}

type environmentKeys struct {
	Server string `json:"server"`
}

func (k apiKeys) MarshalJSON() ([]byte, error) {
	object := map[string]any{"admin": k.admin}
	for environment, text := range k.servers {
		object[environment] = environmentKeys{text}
	}
	return json.Marshal(object)
}

func (k *apiKeys) UnmarshalJSON(data []byte) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return err
	}
	for name, raw := range object {
		if name == "admin" {
			if err := json.Unmarshal(raw, &k.admin); err != nil {
				return err
			}
			continue
		}
		var keys environmentKeys
		if err := json.Unmarshal(raw, &keys); err != nil {
			return err
		}
		k.servers[name] = keys.Server
	}
	return nil
}

// writeFile replaces a private file: whoever opens it finds the old content or
// the new, never a part, also after a crash.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close()) // else a crash may undo the rename
}
