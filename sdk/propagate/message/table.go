package message

import (
	"maps"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Table carries over headers that are a table of values of any type, as AMQP
// has them. Text and bytes are read as they are; a list, which a table can hold
// under one key, is several values; anything else is a value that cannot be a
// header, and is refused as one. What is set is text, in *headers; a table that
// other messages share is copied first, and a nil one is made.
//
// One Table serves one message, from one goroutine.
func Table[T ~map[string]any](headers *T) propagate.Carrier { return table[T]{headers} }

type table[T ~map[string]any] struct{ headers *T }

// Values implements propagate.Carrier.
func (t table[T]) Values(name string) []string {
	value, ok := (*t.headers)[name]
	if !ok {
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		return []string{textOf(value)}
	}
	values := make([]string, 0, len(list))
	for _, v := range list {
		values = append(values, textOf(v))
	}
	return values
}

func textOf(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// Set implements propagate.Carrier.
func (t table[T]) Set(name, value string) {
	own := maps.Clone(*t.headers)
	if own == nil {
		own = make(T, 2)
	}
	own[name] = value
	*t.headers = own
}
