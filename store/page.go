package store

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"

	"github.com/jackc/pgx/v5"
)

// A Page asks for one piece of a list.
type Page struct {
	// Size is how many elements to return at most, 1 to 1000. Zero means 100.
	// A list of large documents may return fewer before it ends: the next
	// token alone says whether there is more.
	Size int
	// Token is the next token of the page before, as it was given. Empty means
	// the first page.
	Token string
}

const (
	defaultPage = 100
	maxPage     = 1000
	// maxPageBytes bounds the documents of one page taken together.
	maxPageBytes = 8 << 20
)

// limit returns the size to ask for.
func (p Page) limit() (int, error) {
	switch {
	case p.Size == 0:
		return defaultPage, nil
	case p.Size < 0 || p.Size > maxPage:
		return 0, &FieldError{Field: "page_size", Message: "must be from 1 to 1000"}
	}
	return p.Size, nil
}

// after decodes the token into the key of the last element of the page before
// and reports whether there was one. A token is a cursor, not a secret: who
// forges one sees what a page number would have shown.
func (p Page) after(key any) (bool, error) {
	if p.Token == "" {
		return false, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(p.Token)
	if err == nil {
		err = json.Unmarshal(raw, key)
	}
	if err != nil || bytes.Contains(raw, []byte(`\u0000`)) { // nothing that Postgres holds has one
		return false, errPageToken
	}
	return true, nil
}

var errPageToken = &FieldError{Field: "page_token", Message: "is not one that a list returned"}

// pageToken is the token for what follows key.
func pageToken(key any) string {
	raw, err := json.Marshal(key)
	if err != nil {
		panic(err) // keys are structs of strings and numbers
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// listByID reads one page of a table whose IDs are UUIDv7, so that their order is
// that of creation, the newest first. The statement ends in a condition, to
// which what makes the page is added; id tells the ID of an element.
func listByID[R, T any](ctx context.Context, db *DB, table, sql string, args pgx.StrictNamedArgs, page Page,
	element func(R) T, id func(T) string,
) ([]T, string, error) {
	var after struct{ ID string }
	paged, err := page.after(&after)
	if err != nil {
		return nil, "", err
	}
	if paged && !isID(after.ID) {
		return nil, "", errPageToken
	}
	limit, err := page.limit()
	if err != nil {
		return nil, "", err
	}
	all := pgx.StrictNamedArgs{"after": after.ID, "limit": limit}
	maps.Copy(all, args)
	rows, err := read[R](ctx, db, table, sql+`
		AND (@after = '' OR id < NULLIF(@after, '')::uuid)
		ORDER BY `+table+`.id DESC
		LIMIT @limit + 1`, all)
	if err != nil {
		return nil, "", err
	}
	out := make([]T, 0, min(len(rows), limit))
	for _, r := range rows[:min(len(rows), limit)] {
		out = append(out, element(r))
	}
	if len(rows) <= limit {
		return out, "", nil
	}
	after.ID = id(out[limit-1])
	return out, pageToken(after), nil
}
