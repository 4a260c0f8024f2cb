package main

// toxic is one way in which a network misbehaves.
type toxic struct {
	name, kind, attributes string
	share                  float64 // of the connections
}
