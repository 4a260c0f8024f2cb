package propagate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// privateDestinations is where headers go if nobody says otherwise: the
// machine itself and names that cannot belong to anybody on the internet.
var privateDestinations = []string{"localhost", "internal", "local", "svc"}

// destinations decides which hosts may be told a request's flag state.
type destinations struct {
	suffixes []string
	private  bool // loopback addresses and names of a single label too
}

func newDestinations(list []string) (destinations, error) {
	if list == nil {
		return destinations{suffixes: privateDestinations, private: true}, nil
	}
	d := destinations{suffixes: make([]string, 0, len(list))}
	for i, host := range list {
		bare := strings.ToLower(strings.Trim(host, "."))
		if _, err := netip.ParseAddr(bare); bare == "" || err != nil && strings.ContainsAny(bare, "/:*@, ") {
			return destinations{}, fmt.Errorf("destination %d: %q is not a host name, a host suffix or an address", i, host)
		}
		d.suffixes = append(d.suffixes, bare)
	}
	return d, nil
}

// allow reports whether host, without a port, is inside the zone. A suffix
// matches whole labels: "example.com" is not a suffix of "badexample.com".
func (d destinations) allow(host string) bool {
	if strings.ContainsAny(host, ",/@") { // a list of hosts, or worse: it would pass for its last name
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, suffix := range d.suffixes {
		if rest, ok := strings.CutSuffix(host, suffix); ok && (rest == "" || rest[len(rest)-1] == '.') {
			return true
		}
	}
	if !d.private || host == "" {
		return false
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	_, err := strconv.ParseUint(host, 0, 64) // many resolvers read a number as an IPv4 address
	return err != nil && !strings.ContainsAny(host, ".:")
}
