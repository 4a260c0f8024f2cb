// Package stage is what the tests of the transports play on: an environment
// whose one flag, "greeting", is published anew in mid-request, and services
// that hold it. It knows nothing of testing and panics when misused.
package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Key signs the headers of every stage.
var Key = propagate.Key{ID: "k1", Secret: [32]byte{1, 2, 3}}

// Environment is all revisions there ever were, the newest of them visible at
// once to every service. It is a propagate.Snapshots.
type Environment struct {
	mu      sync.RWMutex
	history []*eval.Snapshot // history[i] is revision i+1
}

// New returns an environment at revision 1, where the greeting is "formal".
// Its other variant is "plain".
func New() *Environment {
	e := new(Environment)
	e.Publish("formal")
	return e
}

// Publish makes a revision in which variant is the default of the flag.
func (e *Environment) Publish(variant string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	revision := int64(len(e.history) + 1)
	snapshot, err := eval.Compile(revision, []eval.Row{{
		Kind: eval.KindFlag, Name: "greeting", From: revision,
		Document: []byte(`{"flag":{"defaultVariant":"` + variant +
			`","state":"ENABLED","variants":{"formal":"Good day","plain":"Hi"}},"guidon":{"project":"shop","type":"string"}}`),
	}})
	if err != nil {
		panic(err)
	}
	e.history = append(e.history, snapshot)
}

// Kill makes a revision in which the flag is killed: it serves "off", which says
// "...".
func (e *Environment) Kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	revision := int64(len(e.history) + 1)
	snapshot, err := e.history[revision-2].With(revision, []eval.Row{{
		Kind: eval.KindEmergency, Name: "greeting", From: revision,
		Document: fmt.Appendf(nil, `{"active":true,"log":[{"revision":%d,"value":"...","variant":"off"}]}`, revision),
	}}, nil)
	if err != nil {
		panic(err)
	}
	e.history = append(e.history, snapshot)
}

// Snapshot implements propagate.Snapshots.
func (e *Environment) Snapshot() *eval.Snapshot {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.history[len(e.history)-1]
}

// errUnknown is of a revision that there is not.
var errUnknown = errors.New("there is no such revision")

// Emergencies implements propagate.Snapshots.
func (e *Environment) Emergencies() eval.Emergencies { return e.Snapshot().Emergencies() }

// EmergenciesAt implements propagate.Snapshots.
func (e *Environment) EmergenciesAt(_ context.Context, revision int64) (eval.Emergencies, error) {
	if log := e.Emergencies(); log.Revision() >= revision {
		return log, nil
	}
	return eval.Emergencies{}, errUnknown
}

// FlagAt implements propagate.Snapshots.
func (e *Environment) FlagAt(_ context.Context, key string, revision int64) (*eval.Flag, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if revision < 1 || revision > int64(len(e.history)) {
		return nil, errUnknown
	}
	return e.history[revision-1].Flag(key), nil
}

// Nearest implements propagate.Snapshots: all revisions are kept.
func (e *Environment) Nearest(ctx context.Context, key string, revision int64) (*eval.Flag, int64, error) {
	flag, err := e.FlagAt(ctx, key, revision)
	return flag, revision, err
}

// Service returns the Propagator of one service. change may be nil.
func (e *Environment) Service(mode propagate.Mode, change func(*propagate.Config)) *propagate.Propagator {
	keys := new(propagate.Keyring)
	if err := keys.Set(Key.ID, []propagate.Key{Key}); err != nil {
		panic(err)
	}
	c := propagate.Config{
		Snapshots:   e,
		Keys:        keys,
		Environment: func() string { return "production" },
		Mode:        mode,
		Now:         func() time.Time { return time.Unix(1763900000, 0) },
	}
	if change != nil {
		change(&c)
	}
	p, err := propagate.New(c)
	if err != nil {
		panic(err)
	}
	return p
}

// Greet returns the variant of the greeting under ctx.
func Greet(ctx context.Context, p *propagate.Propagator) string {
	return p.Evaluate(ctx, "greeting", eval.String, nil).Variant()
}

// Header returns a header that pins environment at revision 1, signed by key.
func Header(environment string, key propagate.Key) string {
	value, err := propagate.Encode(propagate.Header{
		Correlation: "0198c0de5a7e7f00a1b2c3d4e5f60718",
		Root:        "4f3c2b1a09d8e7f6",
		Environment: environment,
		Revision:    1,
		Time:        1763900000,
		Subject:     "user-77",
		HasSubject:  true,
	}, key)
	if err != nil {
		panic(err)
	}
	return value
}

// Inbound is what may arrive under the name "guidon", and what has to become
// of it at an internal listener.
type Inbound struct {
	Name      string
	Values    []string
	Outcome   propagate.Outcome
	Forwarded bool // the bytes go on to the next service, readable here or not
}

// Inbounds returns one of each kind.
func Inbounds() []Inbound {
	valid := Header("production", Key)
	return []Inbound{
		{"none", nil, propagate.Absent, false},
		{"valid", []string{valid}, propagate.Verified, true},
		{"forged", []string{Header("production", propagate.Key{ID: Key.ID, Secret: [32]byte{9}})}, propagate.BadTag, false},
		{"duplicated", []string{valid, valid}, propagate.Duplicate, false},
		{"joined", []string{valid + ", " + valid}, propagate.BadTag, false},
		{"oversize", []string{strings.Repeat("x", propagate.MaxHeaderLength+1)}, propagate.Oversize, false},
		{"rubbish", []string{"on"}, propagate.Malformed, false},
		{"foreign environment", []string{Header("staging", Key)}, propagate.ForeignEnvironment, true},
		{"unknown key", []string{Header("production", propagate.Key{ID: "k9", Secret: [32]byte{9}})}, propagate.UnknownKey, true},
	}
}
