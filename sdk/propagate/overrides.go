package propagate

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// overrideName is the header, or the cookie, that brings an override token to
	// an edge. A cookie holds it percent-encoded, since a token has semicolons.
	overrideName = "guidonoverride"

	// MaxOverrideLifetime is how far in the future a token may end.
	MaxOverrideLifetime = 24 * time.Hour

	maxOverrideLength = 2048 // bytes of a token
	maxOverrides      = 8    // tokens of one request
	signatureLength   = 88   // 64 bytes in base64, padded
)

// OverrideKey is what verifies the override tokens of one environment that a key
// of that ID has signed. It is no secret.
type OverrideKey struct {
	ID     string
	Public ed25519.PublicKey
}

// Overrides is what an edge needs to know to accept override tokens: the keys
// that verify them, and which were revoked. The zero value accepts none. It is
// safe for concurrent use.
type Overrides struct {
	current atomic.Pointer[overrideKeys]
}

type overrideKeys struct {
	keys    map[string]ed25519.PublicKey
	revoked map[string]bool
}

// Set replaces all keys and revoked IDs at once. An error changes nothing.
func (o *Overrides) Set(list []OverrideKey, revoked []string) error {
	next := &overrideKeys{keys: make(map[string]ed25519.PublicKey, len(list)), revoked: make(map[string]bool, len(revoked))}
	for i, k := range list {
		switch {
		case !validKeyID(k.ID):
			return fmt.Errorf("override key %d: id %q is not 1 to 16 of A-Z a-z 0-9 -", i, k.ID)
		case next.keys[k.ID] != nil:
			return fmt.Errorf("override key %d: id %q is there twice", i, k.ID)
		case len(k.Public) != ed25519.PublicKeySize:
			return fmt.Errorf("override key %d: %q is %d bytes, not %d", i, k.ID, len(k.Public), ed25519.PublicKeySize)
		}
		next.keys[k.ID] = slices.Clone(k.Public)
	}
	for _, id := range revoked {
		next.revoked[id] = true
	}
	o.current.Store(next)
	return nil
}

// OverrideOutcome is what became of an override token at an edge; they are
// counted by it.
type OverrideOutcome uint8

// What may become of an override token.
const (
	OverrideTaken            OverrideOutcome = iota // the request is rooted with it
	OverrideMalformed                               // not of the format, or too long
	OverrideUnknownKey                              // signed by a key that is not known here
	OverrideBadSignature                            // the signature does not fit
	OverrideExpired                                 // its time is over
	OverrideTooLong                                 // it would last longer than a token may
	OverrideOtherEnvironment                        // it is for another environment
	OverrideOtherHost                               // it is for another host than the request
	OverrideRevoked                                 // it was revoked
	OverrideTooMany                                 // the request has more than eight
	OverrideNotApplicable                           // its flag is not overridable, not of scope request, killed, or without the variant
	overrideOutcomes
)

var overrideOutcomeNames = [overrideOutcomes]string{
	"taken", "malformed", "unknown_key", "bad_signature", "expired", "too_long", "other_environment", "other_host", "revoked", "too_many", "not_applicable",
}

// String returns the outcome in snake case, fit for a metric label.
func (o OverrideOutcome) String() string {
	if o < overrideOutcomes {
		return overrideOutcomeNames[o]
	}
	return fmt.Sprintf("override(%d)", uint8(o))
}

var errLongToken = &HeaderError{Oversize, -1, "longer than 2048 bytes"}

// readOverride returns the token, the text that is signed and the signature.
func readOverride(value string) (t OverrideToken, signed string, signature []byte, err *HeaderError) {
	if len(value) > maxOverrideLength {
		return t, "", nil, errLongToken
	}
	const mark = ";s=:"
	at := strings.LastIndex(value, mark)
	if at < 0 || len(value)-at != len(mark)+signatureLength+1 || value[len(value)-1] != ':' {
		return t, "", nil, errShape
	}
	signed = value[:at]
	signature, bad := base64.StdEncoding.Strict().DecodeString(value[at+len(mark) : len(value)-1])
	if bad != nil {
		return t, "", nil, errShape
	}
	p := parser{text: signed}
	p.expect(`1;e="`)
	t.Environment = p.token("environment", classEnvironment, 1, maxEnvironment)
	p.expect(`";o="`)
	if t.Audience = p.token("audience", classEnvironment, 1, maxAudienceBytes); p.err == nil && !ValidAudience(t.Audience) {
		p.fail(Malformed, "the audience is no host name")
	}
	p.expect(`";n="`)
	t.ID = p.token("override ID", classCorrelation, 1, maxCorrelation)
	p.expect(`";w="`)
	if t.Actor = p.escaped(); len(t.Actor) > MaxActorBytes {
		p.fail(Malformed, "the actor is too long")
	}
	p.expect(`";x=`)
	t.Expires = p.number()
	p.expect(`;d="`)
	if t.Flag = p.token("flag key", classKey, 1, maxFlagKey); p.err == nil && !isLetter(t.Flag[0]) {
		p.fail(Malformed, "a flag key starts with a letter")
	}
	p.expect(":")
	t.Variant = p.token("variant", classKey, 1, maxVariant)
	p.expect(`";i="`)
	t.KeyID = p.token("key id", classKeyID, 1, maxKeyID)
	p.expect(`"`)
	if p.at != len(p.text) {
		p.fail(Malformed, "something follows the key id")
	}
	return t, signed, signature, p.err
}

// verify reads a token that must be signed by a key of o, for that environment
// and host, and good at that time.
func (o *Overrides) verify(value, environment, host string, now time.Time) (OverrideToken, OverrideOutcome) {
	t, signed, signature, malformed := readOverride(value)
	if malformed != nil {
		return t, OverrideMalformed
	}
	known := o.current.Load()
	if known == nil || known.keys[t.KeyID] == nil {
		return t, OverrideUnknownKey
	}
	if !ed25519.Verify(known.keys[t.KeyID], append([]byte(overrideContext), signed...), signature) {
		return t, OverrideBadSignature
	}
	left := time.Unix(t.Expires, 0).Sub(now)
	switch {
	case t.Environment != environment:
		return t, OverrideOtherEnvironment
	case t.Audience != host:
		return t, OverrideOtherHost
	case left <= 0:
		return t, OverrideExpired
	case left > MaxOverrideLifetime+maxSkew: // the server's clock may be ahead of ours
		return t, OverrideTooLong
	case known.revoked[t.ID]:
		return t, OverrideRevoked
	}
	return t, OverrideTaken
}

// overridesOf returns the overrides that a request brings to an edge: those that
// may be followed, as far as can be told without the flags.
func (p *Propagator) overridesOf(r *http.Request) (taken []OverrideToken) {
	values := r.Header[canonicalName(overrideName)]
	if slices.ContainsFunc(r.Header["Cookie"], func(line string) bool { return strings.Contains(line, overrideName) }) {
		values = slices.Clone(values)
		for _, c := range r.CookiesNamed(overrideName) {
			plain, err := url.PathUnescape(c.Value)
			if err != nil {
				plain = c.Value
			}
			values = append(values, plain)
		}
	}
	if len(values) == 0 {
		return nil
	}
	host := strings.ToLower(strings.TrimSuffix(hostname(r.Host), "."))
	for i, value := range values {
		if i == maxOverrides {
			p.counters.override(OverrideTooMany)
			break
		}
		t, outcome := p.config.Overrides.verify(value, p.config.Environment(), host, p.config.Now())
		if outcome != OverrideTaken {
			p.counters.override(outcome)
			continue
		}
		taken = append(taken, t)
	}
	return taken
}

// settleOverrides turns the overrides that the root was asked for into decisions,
// as far as the flags at the pin have them: of several for one flag the first.
func (s *State) settleOverrides() {
	for _, t := range s.overrides {
		f := s.snapshot.Flag(t.Flag)
		taken := slices.ContainsFunc(s.pin.Decisions, func(d Decision) bool { return d.Flag == t.Flag })
		applies := f != nil && f.Overridable() && f.Scope() == scopeRequest && !f.Archived()
		if applies {
			_, killed := f.Killed()
			_, has := f.Decided(t.Variant, "")
			applies = has && !killed
		}
		if taken || !applies {
			s.p.counters.override(OverrideNotApplicable)
			continue
		}
		s.p.counters.override(OverrideTaken)
		s.pin.Decisions = append(s.pin.Decisions, Decision{Flag: t.Flag, Variant: t.Variant, Mark: MarkOverride})
	}
	slices.SortFunc(s.pin.Decisions, func(a, b Decision) int { return cmp.Compare(a.Flag, b.Flag) })
}

// Overridden reports whether an override forces any flag of the request. Metrics
// and experiments tell such requests apart: they are somebody's test.
func (s *State) Overridden() bool { return s.sealed.Load() && s.overridden }

func (h *Header) overridden() bool {
	return slices.ContainsFunc(h.Decisions, func(d Decision) bool { return d.Mark == MarkOverride })
}
