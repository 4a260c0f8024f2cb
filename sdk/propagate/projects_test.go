package propagate_test

import (
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// A process that sees some projects only does not take the kills of others, which
// a header tells of, for a loss of its own log; one of a flag that it sees is.
func TestKillsOfOtherProjects(t *testing.T) {
	t.Parallel()
	all := shop(t)
	part := newWorld(t, settingsRow(t, shopTravel), flagRow(t, "pricing", "on", "", ""))
	p := newPropagator(t, all.instance())
	i := part.instance()
	quiet := newPropagator(t, i, func(c *propagate.Config) {
		c.Keys = new(propagate.Keyring)
		if err := c.Keys.Set("", []propagate.Key{testKey}); err != nil {
			t.Fatal(err)
		}
	})
	root := p.Root(t.Context(), map[string]any{"targetingKey": "u1", "plan": "gold"})
	header(root, t) // seals it
	all.kill(t, "stock", "off", "false")
	warned := newPropagator(t, all.instance())
	met := hop(root, p, warned)
	if h := header(met, t); h.Known != 2 {
		t.Fatalf("the header says k=%d, want 2", h.Known)
	}
	part.publish(t) // the revision of the kill, empty here
	i.catchUp()
	below := hop(met, warned, quiet)
	if got := got(quiet.Evaluate(below, "pricing", eval.Boolean, nil)); got != "on true pin" {
		t.Errorf("pricing is %q, want on at the pin", got)
	}
	for _, flag := range []string{"stock", "banner"} { // killed, and decided at the root
		if r := quiet.Evaluate(below, flag, eval.Boolean, nil); r.ErrorCode() != eval.CodeFlagNotFound || r.PinUnavailable {
			t.Errorf("%s is %q, want an unknown flag", flag, got(r))
		}
	}

	// A server that was restored has lost the kill of a flag that the process sees.
	all.kill(t, "pricing", "off", "false")
	warned = newPropagator(t, all.instance())
	met = hop(root, p, warned)
	part.publish(t)
	i.catchUp()
	if r := quiet.Evaluate(hop(met, warned, quiet), "pricing", eval.Boolean, nil); !r.PinUnavailable {
		t.Errorf("pricing is %q without the log of its kill, want an error", got(r))
	}
}
