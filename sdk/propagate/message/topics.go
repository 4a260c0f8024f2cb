package message

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Topics is the topics, queues or routing keys whose readers all belong to the
// zone: messages to them, and to no others, carry the flag state. It is safe for
// concurrent use.
type Topics struct {
	p        *propagate.Propagator
	names    map[string]bool
	prefixes []string
}

// NewTopics makes Topics of names, of which one that ends in "*" stands for all
// that begin like it. An error names the one that is wrong: an empty one, one
// with a "*" elsewhere, or "*" alone, which would let the state go anywhere.
// Without any name there would be nothing to do, which is an error too.
func NewTopics(p *propagate.Propagator, names ...string) (*Topics, error) {
	if len(names) == 0 {
		return nil, errors.New("a zone needs at least one topic")
	}
	t := &Topics{p: p, names: make(map[string]bool, len(names))}
	for i, name := range names {
		prefix, open := strings.CutSuffix(name, "*")
		switch {
		case prefix == "" || strings.Contains(prefix, "*"):
			return nil, fmt.Errorf("topic %d: %q is not a name, or the beginning of one and an asterisk", i, name)
		case open:
			t.prefixes = append(t.prefixes, prefix)
		default:
			t.names[name] = true
		}
	}
	return t, nil
}

// Allow reports whether messages to a topic carry the flag state.
func (t *Topics) Allow(topic string) bool {
	if t.names[topic] {
		return true
	}
	for _, prefix := range t.prefixes {
		if strings.HasPrefix(topic, prefix) {
			return true
		}
	}
	return false
}

// Inject writes the State of ctx into the headers of a message to a topic, and
// seals it; to a topic outside of the zone it writes nothing and returns false.
// What was copied into a message to such a topic is for the copier to take out:
// see [propagate.Reserved].
func (t *Topics) Inject(ctx context.Context, topic string, c propagate.Carrier) bool {
	if !t.Allow(topic) {
		return false
	}
	t.p.Inject(ctx, c)
	return true
}
