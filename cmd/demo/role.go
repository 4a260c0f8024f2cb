package main

import "time"

// flipped is the flag that all services read.
const flipped = "checkout.new-pricing"

// fallbacks are the code's own defaults, by flag key. They say which type a
// flag is asked for in; a flag that is not here is a boolean, false by default.
var fallbacks = map[string]any{
	"shop.banner":               "Welcome",
	"shop.recommendations":      "popular",
	"cart.limits":               map[string]any{"items": 10.0, "holdMinutes": 5.0},
	"inventory.reserve-seconds": int64(600),
	"mailer.template":           "plain",
}

// A role is what one service of the shop does: which flags it reads, and whom
// it calls.
type role struct {
	name  string
	reads []string
	steps []step // one after the other
}

// A step calls some services at the same time.
type step struct {
	after time.Duration
	calls []call
}

// A call goes to a service in some way.
type call struct {
	name string
	over way
}

// roles are the shop, callers before those they call. The first is where
// requests come in.
var roles = []role{
	{
		name:  "web",
		reads: []string{flipped, "shop.banner", "shop.recommendations"},
		steps: []step{
			{calls: []call{{"cart", overHTTP}, {"pricing", overProxy}}},
			{after: 50 * time.Millisecond, calls: []call{{"mailer", overJetStream}}},
		},
	},
	{
		name:  "cart",
		reads: []string{flipped, "checkout.free-shipping", "cart.limits"},
		steps: []step{{calls: []call{{"inventory", overConnect}}}},
	},
	{
		name:  "pricing",
		reads: []string{flipped, "checkout.free-shipping"},
		steps: []step{{calls: []call{{"inventory", overGRPC}}}},
	},
	{name: "inventory", reads: []string{flipped, "inventory.reserve-seconds"}},
	{name: "mailer", reads: []string{flipped, "checkout.free-shipping", "shop.recommendations", "mailer.template"}},
}
