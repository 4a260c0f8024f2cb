package eval

import (
	"bytes"
	"slices"
)

// Narrow returns the snapshot of some of the projects, at the same revision: the
// flags that has says true of, the rows that these read, which may be flags of
// other projects that they require, the settings, and the emergencies of all of
// them. Emergencies of flags that are gone belong to the project that their row
// names. The result is what [Compile] makes of those rows, but shares what was
// compiled; its digest is over those rows alone.
func (s *Snapshot) Narrow(has func(project string) bool) *Snapshot {
	keep := map[Name]bool{}
	for _, f := range s.order {
		if !has(f.Project()) {
			continue
		}
		for _, name := range f.links.dependencies {
			keep[name] = true
		}
	}
	if s.settings != nil {
		keep[s.settings.row.name()] = true
	}
	for key, e := range s.emergencies {
		if e.project != "" && has(e.project) {
			keep[Name{KindEmergency, key}] = true
		}
	}
	next := &Snapshot{
		revision: s.revision, settings: s.settings,
		flags: new(flagTable).with(len(s.order)), segments: map[string]*segment{}, emergencies: map[string]*emergency{}, users: map[Name][]string{},
	}
	for _, f := range s.order {
		if keep[f.row.name()] {
			next.flags.put(f)
			next.order = append(next.order, f)
		}
	}
	next.flags.done()
	for name, g := range s.segments {
		if keep[g.row.name()] {
			next.segments[name] = g
		}
	}
	for key, e := range s.emergencies {
		if keep[Name{KindEmergency, key}] {
			next.emergencies[key] = e
		}
	}
	for name, row := range s.newer {
		if keep[name] {
			if next.newer == nil {
				next.newer = map[Name]Row{}
			}
			next.newer[name] = row
		}
	}
	for name, keys := range s.users {
		keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return next.flags.get(key) == nil })
		if len(keys) > 0 {
			next.users[name] = keys
		}
	}
	next.log = newEmergencyLog(next.emergencies)
	next.digests = s.digests.narrow(func(n Name) bool { _, ok := next.Row(n); return ok })
	return next
}

// narrow returns the digests of those rows that keep says true of.
func (d *digests) narrow(keep func(Name) bool) *digests {
	next := &digests{}
	for i, b := range d.buckets {
		rows := slices.DeleteFunc(slices.Clone(b.rows), func(r rowDigest) bool { return !keep(r.name) })
		switch len(rows) {
		case len(b.rows):
			next.buckets[i] = b
		case 0:
			next.buckets[i] = emptyBucket
		default:
			next.buckets[i] = &bucket{rows: rows}
			next.buckets[i].sum = next.buckets[i].digest()
		}
	}
	next.add()
	return next
}

// Since returns the rows that s has and before has not, or not as they are, and
// the names of those that before has alone: what [Snapshot.With] makes s of.
func (s *Snapshot) Since(before *Snapshot) (upserts []Row, deletes []Name) {
	for row := range s.Rows() {
		if was, ok := before.Row(row.name()); !ok || was.From != row.From || !bytes.Equal(was.Document, row.Document) {
			upserts = append(upserts, row)
		}
	}
	for row := range before.Rows() {
		if _, ok := s.Row(row.name()); !ok {
			deletes = append(deletes, row.name())
		}
	}
	return upserts, deletes
}
