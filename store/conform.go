package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"

	"github.com/guidon-flags/guidon/sdk/eval"
)

const (
	// maxHeldSteps bounds what is judged while the locks are held: what would take
	// longer is judged without them, and the change set tried again.
	maxHeldSteps = 10_000
	// maxSchemaSteps bounds what is judged for one change set.
	maxSchemaSteps = 20_000_000
)

// errUnjudged is the outcome of a change set whose values have to be held to
// their schemas without the locks first.
var errUnjudged = errors.New("values were not held to their schemas yet")

// conformity is what a change set knows of how definitions meet schemas. It is
// kept over its tries, for neither changes.
type conformity struct {
	left     int // steps
	schemas  map[[32]byte]*schema
	verdicts map[judged][]failure
	pending  []unjudged
}

// knows notes a schema that was compiled before it is needed.
func (c *conformity) knows(s *schema) { c.schemas[sha256.Sum256(s.text)] = s }

// judged names a schema and a definition by their hashes.
type judged struct{ schema, document [32]byte }

type unjudged struct {
	judged
	schema, document []byte
}

func newConformity() *conformity {
	return &conformity{left: maxSchemaSteps, schemas: map[[32]byte]*schema{}, verdicts: map[judged][]failure{}}
}

// conform checks the values of flags that have a schema: of each flag that
// changed, and in all environments where the schema did.
func (d *draft) conform(known *conformity) error {
	known.pending = nil
	held := maxHeldSteps
	for _, key := range slices.Sorted(maps.Keys(d.flags)) {
		f := d.flags[key]
		if f.Schema == nil {
			continue
		}
		fresh := f.stored == nil || !bytes.Equal(f.stored.Schema, f.Schema)
		name := eval.Name{Kind: eval.KindFlag, Name: key}
		for _, env := range slices.Sorted(maps.Keys(d.environments)) {
			r := d.environments[env].rows[name]
			if r == nil || r.document == nil || !fresh && !r.changed() {
				continue
			}
			u := unjudged{judged{sha256.Sum256(f.Schema), sha256.Sum256(r.document)}, f.Schema, r.document}
			if len(known.pending) > 0 || !known.judgeWithin(u, &held) {
				known.pending = append(known.pending, u)
				continue
			}
			index := f.step
			if r.changed() {
				index = r.step
			}
			for _, p := range known.verdicts[u.judged] {
				d.refused.add(&OperationError{Index: index, Environment: env, Name: name, Path: p.path, Err: invalidError(p.message)})
			}
		}
	}
	if len(known.pending) > 0 {
		d.refused = refusals{} // they are all found again
		return errUnjudged
	}
	return nil
}

// judgeWithin judges a definition within some steps, which become fewer, and
// reports whether they were enough.
func (c *conformity) judgeWithin(u unjudged, steps *int) bool {
	if _, known := c.verdicts[u.judged]; known {
		return true
	}
	before := min(*steps, c.left)
	left := before
	found, err := c.judge(u, &left)
	*steps -= before - left
	c.left -= before - left
	if err != nil {
		return false
	}
	c.verdicts[u.judged] = found
	return true
}

// judge holds a definition to its schema in as many steps as are left; of them
// one value takes only so many. An error is that they were not enough.
func (c *conformity) judge(u unjudged, left *int) ([]failure, error) {
	compiled := c.schemas[u.judged.schema]
	if compiled == nil {
		if *left -= compileSteps(u.schema); *left < 0 {
			*left = 0
			return nil, errTooLong
		}
		var err error
		if compiled, err = compileSchema(u.schema); err != nil {
			return []failure{{"schema", err.Error()}}, nil //nolint:nilerr // it was good when it was written
		}
		c.schemas[u.judged.schema] = compiled
	}
	return compiled.failures(u.document, left)
}

// judgePending judges what a try found to be too much for it.
func (c *conformity) judgePending(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for _, u := range c.pending {
		if err := ctx.Err(); err != nil {
			return dbError("apply", err)
		}
		if steps := c.left; soon.Err() != nil || !c.judgeWithin(u, &steps) {
			return &FieldError{"operations", "to hold all values to their schemas takes too long: make several change sets of them"}
		}
	}
	return nil
}
