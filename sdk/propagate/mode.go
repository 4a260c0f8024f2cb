package propagate

import "fmt"

// Mode says how far a listener trusts what arrives (propagation.md §2).
type Mode uint8

const (
	// Edge believes nothing: guidon headers, look-alikes and baggage members
	// are removed before the handler runs, and every request is a root. It is
	// the zero value, so that forgetting to choose is safe.
	Edge Mode = iota

	// Internal is for listeners that only services of the zone can reach:
	// signed headers are followed, and correlation IDs are taken over.
	Internal

	// Off neither reads nor writes guidon headers: every evaluation uses the
	// newest revision and what this process knows of the request. Correlation
	// IDs are handled as in Internal.
	Off
)

var modeNames = [...]string{"edge", "internal", "off"}

// String returns "edge", "internal" or "off".
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}
