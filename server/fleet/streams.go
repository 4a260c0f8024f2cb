package fleet

import (
	"cmp"
	"context"
	"slices"
	"strings"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// maxPrograms bounds the programs of an environment that are told apart.
const maxPrograms = 100

// program is what clients of another protocol call themselves.
type program struct{ protocol, name string }

// Attend notes a stream of a client of another protocol than ours, which has no
// name of its own and does not say what it holds, and returns what notes its
// end. Clients are counted by protocol and by what their program calls itself;
// programs that are too many are counted together, without a name.
func (f *Fleet) Attend(env, protocol, name string) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.environment(env)
	p := program{protocol, clip(name)}
	if _, known := e.programs[p]; !known && len(e.programs) >= maxPrograms {
		p.name = ""
	}
	e.programs[p]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if e.programs[p]--; e.programs[p] <= 0 {
			delete(e.programs, p) // it may be gone already
		}
	}
}

// Streams returns how many streams of other protocols there are, to any replica,
// in an environment ("" for all), sorted. If the others cannot be asked, it
// returns those of this replica with the error, which is [store.ErrUnavailable].
func (f *Fleet) Streams(ctx context.Context, env string) ([]*guidonv1.Streams, error) {
	all, err := f.gather(ctx, env)
	slices.SortFunc(all.streams, byProgram)
	return all.streams, err
}

// streams are those of an environment's programs. It is called under the
// lock.
func (e *environment) streams(env string) (out []*guidonv1.Streams) {
	for p, n := range e.programs {
		out = append(out, &guidonv1.Streams{Environment: env, Protocol: p.protocol, Client: p.name, Streams: n})
	}
	return out
}

// addStreams joins what one replica counts with what another does.
func addStreams(to []*guidonv1.Streams, more ...*guidonv1.Streams) []*guidonv1.Streams {
	for _, s := range more {
		i := slices.IndexFunc(to, func(known *guidonv1.Streams) bool { return byProgram(known, s) == 0 })
		if i < 0 {
			to = append(to, &guidonv1.Streams{Environment: s.GetEnvironment(), Protocol: s.GetProtocol(), Client: s.GetClient(), Streams: s.GetStreams()})
			continue
		}
		to[i].Streams += s.GetStreams()
	}
	return to
}

func byProgram(a, b *guidonv1.Streams) int {
	return cmp.Or(strings.Compare(a.GetEnvironment(), b.GetEnvironment()), strings.Compare(a.GetProtocol(), b.GetProtocol()),
		strings.Compare(a.GetClient(), b.GetClient()))
}
