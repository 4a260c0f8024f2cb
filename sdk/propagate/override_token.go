package propagate

import (
	"encoding/base64"
	"strconv"
)

// OverrideToken is what an override token says (propagation.md §7): the
// requests to Audience that carry it are to resolve Flag to Variant. It is made
// by the server, for a person, and read at edges only:
//
//	1;e="production";o="shop.example.com";n="0192…";w="key%3A0192…";x=1763900000;d="pricing:on";i="k1";s=:…:
//
// in which s is an Ed25519 signature of 64 bytes over "guidon-override/1\n"
// and everything before ";s=:".
type OverrideToken struct {
	Environment string
	Audience    string // a host name in lower case, without a port
	ID          string // 1 to 64 of A-Z a-z 0-9 - _
	Actor       string // who it was made for, as text of at most MaxActorBytes
	Expires     int64  // in Unix seconds: the first at which it roots nothing
	Flag        string
	Variant     string
	KeyID       string // 1 to 16 of A-Z a-z 0-9 -
}

const (
	// MaxActorBytes bounds OverrideToken.Actor.
	MaxActorBytes = 200
	// maxAudienceBytes bounds OverrideToken.Audience, as DNS does.
	maxAudienceBytes = 253
)

// overrideContext keeps a signature of something else from being one of an
// override token.
const overrideContext = "guidon-override/1\n"

// Sign returns the token with the signature that sign makes with the key called
// t.KeyID. What the format cannot say is refused with a *HeaderError.
func (t OverrideToken) Sign(sign func(text []byte) []byte) (string, error) {
	if err := t.check(); err != nil {
		return "", err
	}
	text := append(make([]byte, 0, 512), overrideContext...)
	text = t.append(text)
	signature := sign(text)
	text = base64.StdEncoding.AppendEncode(append(text, ";s=:"...), signature)
	return string(append(text, ':')[len(overrideContext):]), nil
}

// check refuses what the format cannot say, so that whatever is written can be
// read again.
func (t OverrideToken) check() error {
	switch {
	case !validEnvironment(t.Environment):
		return unwritable("environment", t.Environment)
	case !ValidAudience(t.Audience):
		return unwritable("audience", t.Audience)
	case !within(t.ID, classCorrelation, 1, maxCorrelation):
		return unwritable("override", t.ID)
	case !validText(t.Actor) || len(t.Actor) > MaxActorBytes:
		return unwritable("actor", t.Actor)
	case t.Expires < 0 || t.Expires > maxUint:
		return unwritable("expiry", strconv.FormatInt(t.Expires, 10))
	case !validFlagKey(t.Flag):
		return unwritable("flag", t.Flag)
	case !validVariant(t.Variant):
		return unwritable("variant", t.Variant)
	case !validKeyID(t.KeyID):
		return unwritable("key id", t.KeyID)
	}
	return nil
}

// append writes everything the signature covers but the context.
func (t OverrideToken) append(b []byte) []byte {
	b = append(append(b, `1;e="`...), t.Environment...)
	b = append(append(b, `";o="`...), t.Audience...)
	b = append(append(b, `";n="`...), t.ID...)
	b = appendEscaped(append(b, `";w="`...), t.Actor)
	b = strconv.AppendInt(append(b, `";x=`...), t.Expires, 10)
	b = append(append(b, `;d="`...), t.Flag...)
	b = append(append(b, ':'), t.Variant...)
	b = append(append(b, `";i="`...), t.KeyID...)
	return append(b, '"')
}

// ValidAudience reports whether an override token can be for a host: a name or
// an IPv4 address in lower case, without a port.
func ValidAudience(host string) bool {
	if host == "" || len(host) > maxAudienceBytes {
		return false
	}
	start := 0 // of the label
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case c == '-' && i > start && i+1 < len(host) && host[i+1] != '.':
		case c == '.' && i > start && i+1 < len(host):
			start = i + 1
		default:
			return false
		}
		if i-start >= 63 {
			return false
		}
	}
	return true
}
