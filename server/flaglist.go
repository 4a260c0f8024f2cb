package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// List merges the environments' lists by key. The store says which flags there
// are and what describes them; what a flag is comes from the hub, which has it
// compiled. While Postgres is away the hub alone answers, without descriptions.
func (s flags) List(ctx context.Context, req *guidonv1.FlagServiceListRequest) (*guidonv1.FlagServiceListResponse, error) {
	if req.GetRevision() != 0 || req.GetTime() != nil {
		return s.listAt(ctx, req)
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	from, err := parseCursor(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	environments, err := s.listed(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	lists := make([]flagList, len(environments))
	for i, e := range environments {
		reading, cancel := s.fallback(ctx)
		lists[i], err = s.read(reading, e, req, size, from)
		cancel()
		if err != nil {
			return nil, err
		}
	}
	keys := nextKeys(lists, size)
	if len(keys) == 0 {
		return &guidonv1.FlagServiceListResponse{}, nil
	}
	out := &guidonv1.FlagServiceListResponse{}
	for _, key := range keys {
		for _, l := range lists {
			if err := l.emit(ctx, key, out); err != nil {
				return nil, err
			}
		}
	}
	out.NextPageToken = nextCursor(lists, keys[len(keys)-1])
	return out, nil
}

// listAt lists what one environment had at a moment, with what describes the flags
// now, deleted ones included: that belongs to no revision.
func (s flags) listAt(ctx context.Context, req *guidonv1.FlagServiceListRequest) (*guidonv1.FlagServiceListResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	snapshot, err := s.snapshot(ctx, e, req)
	if err != nil {
		return nil, err
	}
	filter := store.FlagFilter{Project: req.GetProject(), Query: req.GetQuery()}
	if !req.GetIncludeArchived() {
		filter.Lifecycle = "active"
	}
	page, next, err := pageOf(matching(snapshot, filter), (*eval.Flag).Key, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(page))
	for i, f := range page {
		keys[i] = f.Key()
	}
	described, err := s.store.Descriptions(ctx, keys)
	if err != nil { // without it, a file made of this list would take it away from the flags
		return nil, err
	}
	out := &guidonv1.FlagServiceListResponse{NextPageToken: next}
	for _, f := range page {
		flag, err := toFlag(e.Name(), f)
		if err != nil {
			return nil, err
		}
		describe(flag, described[f.Key()])
		out.Flags = append(out.Flags, flag)
	}
	return out, nil
}

// matching are the flags of a snapshot that a filter lets through, as far as
// their keys tell.
func matching(snapshot *eval.Snapshot, filter store.FlagFilter) []*eval.Flag {
	var out []*eval.Flag
	for f := range snapshot.Flags() {
		if (filter.Project == "" || f.Project() == filter.Project) && (filter.Lifecycle == "" || !f.Archived()) &&
			strings.Contains(strings.ToLower(f.Key()), strings.ToLower(filter.Query)) {
			out = append(out, f)
		}
	}
	return out
}

// listed are the environments that a list is about: one, or all there are.
func (s flags) listed(ctx context.Context, name string) ([]*hub.Environment, error) {
	if name == "" && auth.FromContext(ctx).Kind == auth.Admin {
		return s.all()
	}
	e, err := s.environment(ctx, name)
	return []*hub.Environment{e}, err
}

// flagList is the next part of one environment's list, by key.
type flagList struct {
	environment *hub.Environment
	rows        []store.Flag
	// token is the store's for the page that rows are from; next is for the
	// page after, empty if there is none.
	token, next string
}

// read returns what follows the cursor in one environment.
func (s flags) read(ctx context.Context, e *hub.Environment, req *guidonv1.FlagServiceListRequest, size int, from cursor) (flagList, error) {
	filter := store.FlagFilter{Project: req.GetProject(), Query: req.GetQuery()}
	if !req.GetIncludeArchived() {
		filter.Lifecycle = "active"
	}
	l := flagList{environment: e, token: from.Tokens[e.Name()]}
	for {
		rows, next, err := s.store.Flags(ctx, e.Name(), filter, store.Page{Size: size, Token: l.token})
		if errors.Is(err, store.ErrUnavailable) {
			l.rows = remembered(e, filter, from.After)
			return l, nil
		}
		if err != nil {
			return l, err
		}
		l.rows = slices.DeleteFunc(rows, func(f store.Flag) bool { return f.Key <= from.After })
		if l.next = next; len(l.rows) > 0 || next == "" {
			return l, nil
		}
		l.token = next
	}
}

// remembered lists flags as far as the hub knows them.
func remembered(e *hub.Environment, filter store.FlagFilter, after string) []store.Flag {
	var rows []store.Flag
	for _, f := range matching(e.Snapshot(), filter) {
		if f.Key() > after {
			rows = append(rows, store.Flag{Key: f.Key()})
		}
	}
	return rows
}

// nextKeys returns the smallest keys, at most size, of which no list can hold
// more entries than it shows.
func nextKeys(lists []flagList, size int) []string {
	var keys []string
	bound, bounded := "", false
	for _, l := range lists {
		for _, f := range l.rows {
			keys = append(keys, f.Key)
		}
		if last := len(l.rows) - 1; l.next != "" && (!bounded || l.rows[last].Key < bound) {
			bound, bounded = l.rows[last].Key, true
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	keys = slices.DeleteFunc(keys, func(key string) bool { return bounded && key > bound })
	return keys[:min(len(keys), size)]
}

// emit appends the flag called key, if the list has it.
func (l flagList) emit(ctx context.Context, key string, out *guidonv1.FlagServiceListResponse) error {
	i, ok := slices.BinarySearchFunc(l.rows, key, func(f store.Flag, key string) int { return strings.Compare(f.Key, key) })
	if !ok {
		return nil
	}
	// The store may be a moment ahead of the hub.
	if err := l.environment.Reach(ctx, l.rows[i].FromRevision); err != nil {
		return err
	}
	f := l.environment.Snapshot().Flag(key)
	if f == nil {
		return nil
	}
	flag, err := toFlag(l.environment.Name(), f)
	if err != nil {
		return err
	}
	describe(flag, l.rows[i])
	out.Flags = append(out.Flags, flag)
	return nil
}

// cursor is where a list goes on: after a key, which each environment's own
// page may begin before.
type cursor struct {
	After  string            `json:"after"`
	Tokens map[string]string `json:"tokens,omitempty"`
}

func parseCursor(token string) (cursor, error) {
	var c cursor
	if token == "" {
		return c, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return c, &store.FieldError{Field: "page_token", Message: "is not one that this list returned"}
	}
	return c, nil
}

// nextCursor is where the lists go on after key; empty if they all end there.
func nextCursor(lists []flagList, key string) string {
	c := cursor{After: key, Tokens: map[string]string{}}
	more := false
	for _, l := range lists {
		name := l.environment.Name()
		rest := len(l.rows) > 0 && l.rows[len(l.rows)-1].Key > key
		if !rest && l.next != "" {
			c.Tokens[name] = l.next
		} else if l.token != "" {
			c.Tokens[name] = l.token
		}
		more = more || rest || l.next != ""
	}
	if !more {
		return ""
	}
	raw, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings can be marshalled
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}
