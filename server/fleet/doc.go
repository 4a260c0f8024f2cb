// Package fleet knows which instances are connected, to this replica and to the
// others, and which revision and keys each of them holds.
//
// The one idea: what is known of an instance lives in memory, on whichever
// replica heard it, and each replica tells the others in one write every few
// seconds, whatever happened meanwhile. An instance may stream from one replica
// and acknowledge to another: who reads joins what all of them heard, by name.
//
// What instances say is hearsay, good for showing and for waiting: nothing here
// decides what anybody may do.
package fleet
