package guidonnats

import "github.com/nats-io/nats.go"

// Carrier is the headers of one message as a propagate.Carrier. Names are used
// exactly as they are: NATS, unlike HTTP, tells cases apart. Set panics on a nil
// map; Zone.Outgoing makes one.
type Carrier nats.Header

// Values implements propagate.Carrier.
func (c Carrier) Values(name string) []string { return c[name] }

// Set implements propagate.Carrier.
func (c Carrier) Set(name, value string) { c[name] = []string{value} }
