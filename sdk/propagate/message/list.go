package message

import "github.com/guidon-flags/guidon/sdk/propagate"

// List carries over headers that are a list of pairs. It fits every client
// whose header is a struct of Key and Value, both of them text or bytes: the
// record headers of the Kafka clients, the user properties of MQTT 5. What is
// set becomes part of *headers; a list that other messages share is copied
// first.
//
// One List serves one message, from one goroutine.
func List[H ~struct {
	Key   K
	Value V
}, K, V ~string | ~[]byte](headers *[]H,
) propagate.Carrier {
	return list[H, K, V]{headers}
}

type pair[K, V ~string | ~[]byte] struct {
	Key   K
	Value V
}

type list[H ~struct {
	Key   K
	Value V
}, K, V ~string | ~[]byte] struct{ headers *[]H }

// Values implements propagate.Carrier.
func (l list[H, K, V]) Values(name string) (values []string) {
	for _, h := range *l.headers {
		if p := pair[K, V](h); string(p.Key) == name {
			values = append(values, string(p.Value))
		}
	}
	return values
}

// Set implements propagate.Carrier.
func (l list[H, K, V]) Set(name, value string) {
	next := make([]H, 0, len(*l.headers)+1)
	for _, h := range *l.headers {
		if string(pair[K, V](h).Key) != name {
			next = append(next, h)
		}
	}
	*l.headers = append(next, H(pair[K, V]{K(name), V(value)})) //nolint:gocritic // others may share the old list
}
