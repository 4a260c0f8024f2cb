package propagate

import "net/http"

// Carrier is the headers of one message of some transport. Names are lower
// case; a transport with case-insensitive headers may spell them as it likes,
// one with case-sensitive keys must not.
type Carrier interface {
	// Values returns every value that came under name, in order: a carrier
	// that hides duplicates hides smuggling. Nil if there is none.
	Values(name string) []string

	// Set writes value under name in place of all there were.
	Set(name, value string)
}

// HTTPCarrier carries over the headers of an HTTP request.
type HTTPCarrier http.Header

// Values implements Carrier.
func (h HTTPCarrier) Values(name string) []string { return h[canonicalName(name)] }

// Set implements Carrier.
func (h HTTPCarrier) Set(name, value string) { h[canonicalName(name)] = []string{value} }

// outgoing is an HTTPCarrier for the two headers that Inject sets, with room for
// their values.
type outgoing struct {
	HTTPCarrier
	pin, id [1]string
}

// Set implements Carrier.
func (o *outgoing) Set(name, value string) {
	values := o.id[:]
	if name == HeaderName {
		values = o.pin[:]
	}
	values[0] = value
	o.HTTPCarrier[canonicalName(name)] = values
}

// canonicalName spares the names that every request asks for the price of
// being spelled out again.
func canonicalName(name string) string {
	switch name {
	case HeaderName:
		return "Guidon"
	case SeenName:
		return "Guidonseen"
	case overrideName:
		return "Guidonoverride"
	case "baggage":
		return "Baggage"
	case correlationName:
		return "X-Correlation-Id"
	case "x-request-id":
		return "X-Request-Id"
	case "traceparent":
		return "Traceparent"
	}
	return http.CanonicalHeaderKey(name)
}
