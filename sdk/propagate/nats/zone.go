package guidonnats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Zone is the subjects whose messages carry the flag state, and a Propagator
// that writes and reads it. It is safe for concurrent use.
type Zone struct {
	p        *propagate.Propagator
	subjects [][]string // patterns by token
}

// NewZone makes a Zone of subjects, which may have the wildcards of NATS: "*"
// for one token, ">" at the end for any number of them. A wildcard in the first
// place does not stand for names that begin with "$" or "_", the system's own
// and the inboxes of requests. An error names the subject that is wrong; without
// any subject there would be nothing to do, which is an error too.
func NewZone(p *propagate.Propagator, subjects ...string) (*Zone, error) {
	if len(subjects) == 0 {
		return nil, errors.New("a zone needs at least one subject")
	}
	z := &Zone{p: p}
	for i, subject := range subjects {
		tokens := strings.Split(subject, ".")
		for at, token := range tokens {
			if token == "" || strings.ContainsAny(token, " \t\r\n") || token == ">" && at != len(tokens)-1 {
				return nil, fmt.Errorf("subject %d: %q is not a subject of NATS", i, subject)
			}
		}
		z.subjects = append(z.subjects, tokens)
	}
	return z, nil
}

// Outgoing returns the message to publish in place of m: with the State of ctx
// if its subject is in the zone, else without any guidon header, not even one
// that was copied from another message. m and its headers are left alone; the
// data are shared. It fits PublishMsg and RequestMsg as well as JetStream's
// PublishMsg. Whoever publishes again after a failure publishes the same bytes,
// with the same message or another one under the same ctx.
func (z *Zone) Outgoing(ctx context.Context, m *nats.Msg) *nats.Msg {
	out := &nats.Msg{Subject: m.Subject, Reply: m.Reply, Data: m.Data, Header: maps.Clone(m.Header)}
	inside := z.contains(m.Subject)
	carries := inside && propagate.CorrelationID(ctx) != "" // else there is no State
	if z.p.Mode() != propagate.Off && (carries || !inside) {
		strip(out.Header)
	}
	if carries {
		if out.Header == nil {
			out.Header = make(nats.Header, 2)
		}
		z.p.Inject(ctx, Carrier(out.Header))
	}
	return out
}

// Incoming returns ctx with the State of the message that h belongs to, as the
// Propagator's mode says: whatever State ctx has is of somebody else. At an edge
// it also takes from h what could be mistaken for ours further down.
func (z *Zone) Incoming(ctx context.Context, h nats.Header) context.Context {
	ctx = z.p.Extract(ctx, Carrier(h))
	if z.p.Mode() == propagate.Edge {
		strip(h)
	}
	return ctx
}

// Handler returns a nats.MsgHandler that calls handle with the State of each
// message. ctx is what all messages share: values, and a deadline if need be.
func (z *Zone) Handler(ctx context.Context, handle func(context.Context, *nats.Msg)) nats.MsgHandler {
	return func(m *nats.Msg) { handle(z.Incoming(ctx, m.Header), m) }
}

func (z *Zone) contains(subject string) bool {
	for _, pattern := range z.subjects {
		if matches(pattern, subject) {
			return true
		}
	}
	return false
}

func matches(pattern []string, subject string) bool {
	for i, want := range pattern {
		token, rest, more := strings.Cut(subject, ".")
		wild := want == "*" || want == ">"
		switch {
		case token == "", !wild && token != want:
			return false
		case wild && i == 0 && (token[0] == '$' || token[0] == '_'):
			return false
		case want == ">":
			return true
		case !more:
			return i == len(pattern)-1
		}
		subject = rest
	}
	return false
}

// strip deletes our headers, in every spelling that a bridge to another
// transport would make the same.
func strip(h nats.Header) {
	for name := range h {
		if propagate.Reserved(name) {
			delete(h, name)
		}
	}
}
