package main

// A mode is what travels with a call.
type mode string

const (
	// pinned is Guidon as it is: the guidon header.
	pinned mode = "pin"
	// off is nothing but the evaluation context.
	off mode = "off"
	// decisions is the evaluation context and the decisions made on the way
	// here, without a pin: what was not decided above is decided anew.
	decisions mode = "decisions"
)
