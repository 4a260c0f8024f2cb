package main

// A kind is how a call travels.
type kind string

const (
	http1         kind = "http/1.1"
	h2c           kind = "h2c"
	connectUnary  kind = "connect unary"
	connectServer kind = "connect server stream"
	connectBidi   kind = "connect two-way stream"
	grpcUnary     kind = "grpc unary"
	grpcBidi      kind = "grpc two-way stream"
	natsRequest   kind = "nats request"
	jetStream     kind = "jetstream"
)

var kinds = []kind{http1, connectUnary, grpcUnary, jetStream, h2c, connectServer, natsRequest, grpcBidi, connectBidi}

// rows are the services by distance from the edge. Each calls all of the next
// row.
var rows = [][]string{
	{"web"},
	{"cart", "pricing", "search"},
	{"tax", "ranking", "stock"},
	{"vendors", "reviews", "ledger"},
	{"mailer", "audit", "invoices"},
}

// A call is an edge of the mesh.
type call struct {
	to   string
	kind kind
}

// callsOf lists whom a service calls, and how: every kind of call is there, and
// most services are reached by several.
func callsOf(row, column int) []call {
	if row+1 == len(rows) {
		return nil
	}
	calls := make([]call, 0, len(rows[row+1]))
	for i, to := range rows[row+1] {
		calls = append(calls, call{to, kinds[(2*row+len(rows[row+1])*column+i)%len(kinds)]})
	}
	return calls
}
