package store

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

func (o DescribeFlag) step() (step, error) {
	s := step{action: audit.ActionDescribeFlag, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}, describes: true}
	if err := o.check(); err != nil {
		return s, err
	}
	if o.Owner != nil {
		s.owner = *o.Owner
	}
	s.key = func(f *flagDraft) error {
		if o.Owner != nil {
			f.Owner = *o.Owner
		}
		if o.Description != nil {
			f.Description = *o.Description
		}
		if o.Tags != nil {
			f.Tags = sortedSet(*o.Tags)
		}
		if o.Links != nil {
			f.Links = sortedSet(*o.Links)
		}
		return nil
	}
	return s, nil
}

func (o DescribeFlag) check() error {
	if err := checkKey("key", o.Key); err != nil {
		return err
	}
	if o.Owner != nil {
		if err := checkText("owner", *o.Owner, MaxNameBytes); err != nil {
			return err
		}
	}
	if o.Description != nil {
		if err := checkText("description", *o.Description, MaxTextBytes); err != nil {
			return err
		}
	}
	if o.Tags != nil {
		if err := checkTags(*o.Tags); err != nil {
			return err
		}
	}
	if o.Links != nil {
		return checkLinks(*o.Links)
	}
	return nil
}

func checkTags(tags []string) error {
	if len(tags) > MaxTags {
		return &FieldError{"tags", fmt.Sprintf("more than %d", MaxTags)}
	}
	for _, tag := range tags {
		if err := checkText("tags", tag, MaxNameBytes); tag == "" || err != nil {
			return cmp.Or[error](err, &FieldError{"tags", "a tag is empty"})
		}
	}
	return nil
}

// checkLinks lets nothing through that a page could not show as a link.
func checkLinks(links []string) error {
	if len(links) > MaxLinks {
		return &FieldError{"links", fmt.Sprintf("more than %d", MaxLinks)}
	}
	for _, link := range links {
		if err := checkText("links", link, MaxTextBytes/2); err != nil {
			return err
		}
		u, err := url.Parse(link)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return &FieldError{"links", fmt.Sprintf("%.128q is not an http or https URL", link)}
		}
	}
	return nil
}

func sortedSet(s []string) []string {
	if len(s) == 0 {
		return []string{}
	}
	return slices.Compact(slices.Sorted(slices.Values(s)))
}

// describe takes over what a put says about the key; empty says nothing.
func (f *flagDraft) describe(owner, description string, tags []string) {
	was := f.flagRow
	f.Owner, f.Description = cmp.Or(owner, f.Owner), cmp.Or(description, f.Description)
	if len(tags) > 0 {
		f.Tags = sortedSet(tags)
	}
	f.described = !bytes.Equal(was.description(), f.description())
}

// undescribed is a flag of which nobody said anything.
var undescribed = flagRow{Tags: []string{}}

// description is what is said about a key, as JSON.
func (f *flagRow) description() json.RawMessage { return f.said(&f.Owner, "") }

// record is what the installation's chain says of it: the same, with the owner as
// the hash of a text, which can be erased.
func (f *flagRow) record() json.RawMessage {
	if f.Owner == "" {
		return f.said(&f.Owner, "")
	}
	return f.said(nil, hex.EncodeToString(f.OwnerHash))
}

func (f *flagRow) said(owner *string, ownerHash string) json.RawMessage {
	raw, err := json.Marshal(struct {
		Description string          `json:"description"`
		Links       []string        `json:"links,omitempty"`
		Owner       *string         `json:"owner,omitempty"`
		OwnerHash   string          `json:"owner_hash,omitempty"`
		Schema      json.RawMessage `json:"schema,omitempty"`
		Tags        []string        `json:"tags"`
	}{f.Description, f.Links, owner, ownerHash, f.Schema, f.Tags})
	if err != nil {
		panic(err) // strings and canonical JSON always encode
	}
	return raw
}

// editKey carries out a step that is about a key and no environment.
func (d *draft) editKey(index int, s step) error {
	f := d.flags[s.name.Name]
	if f == nil || f.Project == "" || f.Lifecycle == lifecycleDeleted {
		return ErrNotFound
	}
	before := f.description()
	if err := s.key(f); err != nil {
		return err
	}
	f.step = index
	c := Changed{Kind: s.name.Kind, Name: s.name.Name, Action: ActionUnchanged}
	if after := f.description(); !bytes.Equal(before, after) {
		c.Action, c.Before, c.After = ActionChanged, before, after
	}
	d.changes = append(d.changes, c)
	return nil
}
