package server

import (
	"encoding/base64"
	"slices"
	"strconv"

	"github.com/guidon-flags/guidon/store"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// pageSize checks how many elements a request asks for.
func pageSize(asked int32) (int, error) {
	switch {
	case asked == 0:
		return defaultPage, nil
	case asked < 0 || asked > maxPage:
		return 0, &store.FieldError{Field: "page_size", Message: "must be from 1 to 1000, is " + strconv.Itoa(int(asked))}
	}
	return int(asked), nil
}

// storePage converts a request for a page of something that the store lists.
func storePage(size int32, token string) (store.Page, error) {
	n, err := pageSize(size)
	return store.Page{Size: n, Token: token}, err
}

// pageOf returns the page of a list held in memory that follows the element
// that a token names, and the token of the next one. A token is the name of the
// last element of the page before: it stays good when the list changes, unless
// that very element goes away.
func pageOf[T any](list []T, name func(T) string, size int32, token string) (page []T, next string, err error) {
	n, err := pageSize(size)
	if err != nil {
		return nil, "", err
	}
	if token != "" {
		last, err := base64.RawURLEncoding.DecodeString(token)
		at := slices.IndexFunc(list, func(e T) bool { return name(e) == string(last) })
		if err != nil || at < 0 {
			return nil, "", &store.FieldError{Field: "page_token", Message: "is not one that this list returned"}
		}
		list = list[at+1:]
	}
	if len(list) > n {
		list = list[:n]
		next = base64.RawURLEncoding.EncodeToString([]byte(name(list[n-1])))
	}
	return list, next, nil
}
