package main

// A mode is what travels with a call.
type mode string

const (
	// pinned is Guidon as it is: the guidon header.
	pinned mode = "pin"
	// off is nothing but the evaluation context.
	off mode = "off"
	// once is that, but each service evaluates a flag once for each call it gets
	// and keeps to it.
	once mode = "once"
	// decisions is the evaluation context and the decisions made on the way
	// here, without a pin: what was not decided above is decided anew.
	decisions mode = "decisions"
)

// keeps reports whether a service keeps to what it has decided.
func (m mode) keeps() bool { return m == once || m == decisions }
