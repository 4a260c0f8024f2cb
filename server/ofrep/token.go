package ofrep

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"
	"time"

	"github.com/guidon-flags/guidon/server/hub"
)

// A browser's EventSource can send no headers, so the URL of an event stream
// carries a token: the caller's key and an end, sealed with what every replica
// of the environment has and no client.

// sealer makes the cipher of a propagation key's secret.
func sealer(secret []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "guidon ofrep event stream", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal makes a caller's token. It is false where there is nothing to seal with.
func (h *Handler) seal(c Caller) (string, bool) {
	keys := c.Environment.Head().Keys()
	for _, k := range keys.GetKeys() {
		if k.GetId() != keys.GetSigner() {
			continue
		}
		aead, err := sealer(k.GetSecret())
		if err != nil {
			return "", false
		}
		end := (h.epoch() + 2) * int64(epochLength/time.Second)
		text := append(binary.BigEndian.AppendUint64(nil, uint64(end)), c.Principal.KeyText()...)
		nonce := make([]byte, aead.NonceSize())
		_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
		return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, text, []byte(c.Environment.Name()))), true
	}
	return "", false
}

// openToken returns the key that a token in a query was made of; empty where
// none was needed.
func (h *Handler) openToken(query url.Values) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(query.Get("token"))
	if err != nil {
		return "", errToken
	}
	e, err := h.cfg.Environment(query.Get("environment"))
	if err != nil {
		return "", errToken
	}
	key, ok := unseal(e, raw, h.cfg.Now())
	if !ok {
		return "", errToken
	}
	return key, nil
}

// callerWith is the caller of a request that carries a key in its URL.
func (h *Handler) callerWith(r *http.Request, key string) (Caller, error) {
	asked := r.WithContext(r.Context())
	asked.Header = http.Header{"Origin": r.Header["Origin"]}
	if key != "" {
		asked.Header.Set("X-API-Key", key)
	}
	return h.cfg.Caller(asked, false)
}

func unseal(e *hub.Environment, raw []byte, now time.Time) (key string, ok bool) {
	for _, k := range e.Head().Keys().GetKeys() {
		aead, err := sealer(k.GetSecret())
		if err != nil || len(raw) < aead.NonceSize() {
			return "", false
		}
		text, err := aead.Open(nil, raw[:aead.NonceSize()], raw[aead.NonceSize():], []byte(e.Name()))
		if err == nil && len(text) >= 8 && now.Unix() < int64(binary.BigEndian.Uint64(text)) {
			return string(text[8:]), true
		}
	}
	return "", false
}

// errToken says no more: who has no good token is told nothing.
var errToken = &refusedError{http.StatusUnauthorized, "", "the token is not valid, or not any more: evaluate again for another"}
