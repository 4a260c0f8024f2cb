package relay

import "testing"

// A connection to the upstream that died without a word is not used again.
func TestTransportAsksWhetherTheUpstreamIsThere(t *testing.T) {
	t.Parallel()
	if h2 := newTransport().HTTP2; h2 == nil || h2.SendPingTimeout == 0 || h2.PingTimeout == 0 {
		t.Errorf("HTTP2 = %+v, want pings", h2)
	}
}
