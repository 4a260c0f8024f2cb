package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"

	"github.com/guidon-flags/guidon/store"
)

// Errors of this package. None of them says whether a key, an environment or
// a flag exists.
var (
	// ErrNoPrincipal says that a call carries no key, or none that is valid.
	ErrNoPrincipal = errors.New("not authenticated")
	// ErrDenied says that the principal may not do this.
	ErrDenied = errors.New("permission denied")
)

// Kind is what a key is for.
type Kind string

// The kinds of key.
const (
	// Server is a key of one environment: it evaluates, syncs and reads flags.
	Server Kind = "server"
	// Client is a key of one environment that is no secret, for it is in
	// browsers and apps: it gets the values of client-visible flags.
	Client Kind = "client"
	// Relay is a key of one environment: it syncs on behalf of others.
	Relay Kind = "relay"
	// Admin is a key of the installation: it does everything.
	Admin Kind = "admin"
)

// Principal is who makes a call. The zero value is nobody: it has no kind, and
// no kind is allowed nothing.
type Principal struct {
	// KeyID names the key. It is no secret.
	KeyID string
	// Name is what people call the key.
	Name string
	Kind Kind
	// environment that the key belongs to; empty for an admin key.
	environment string
	// origins are the web origins whose pages may use the key.
	origins []string
	// propagates says that the key's callers send guidon headers along.
	propagates bool
	// projects are those that the key is restricted to; none for all.
	projects []string
	// open says that there is no key, and that none was needed.
	open bool
	// text is for asking again; behind a pointer it never prints.
	text *store.KeyText
}

// String is the principal as the audit log shows it: "key:<id> <name>".
func (p Principal) String() string {
	if p.KeyID == "" {
		return "nobody"
	}
	return "key:" + p.KeyID + " " + p.Name
}

// Environment is the environment a call that asks for the one called name is
// about. A key of one environment stands for it: an empty name means that one,
// and any other is [ErrDenied], whether it exists or not. An admin key gets what
// it asks for, an empty name included.
func (p Principal) Environment(name string) (string, error) {
	switch {
	case p.Kind == Admin:
		return name, nil
	case p.Kind != "" && p.environment != "" && (name == "" || name == p.environment):
		return p.environment, nil
	}
	return "", fmt.Errorf("%w: this key is not for environment %q", ErrDenied, name)
}

// KeyText returns the key itself, for those who must present it again; empty
// where there is none.
func (p Principal) KeyText() string {
	if p.text == nil {
		return ""
	}
	return p.text.Reveal()
}

// AllowsOrigin reports whether a page of a web origin may use the key. Where no
// key is needed, pages that this machine serves may go without.
func (p Principal) AllowsOrigin(origin string) bool {
	if p.open {
		u, err := url.Parse(origin)
		return err == nil && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback())
	}
	return slices.Contains(p.origins, origin) || slices.Contains(p.origins, "*")
}

// Propagates reports whether the key's callers send guidon headers along, so that
// nothing they are given may be kept for the next request.
func (p Principal) Propagates() bool { return p.propagates }

// Projects are those that the key is restricted to; none for all. They must not
// be changed.
func (p Principal) Projects() []string { return p.projects }

type principalKey struct{}

// WithPrincipal returns a context that carries p.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the principal of a call, or nobody.
func FromContext(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
