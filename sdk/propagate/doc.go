// Package propagate gives all services of one request the same flag state.
//
// # The idea
//
// The value of a flag is a pure function: value = f(revision, evaluation
// context). Services of one request disagree because a change reaches them at
// different moments, so each uses another revision, and because each knows
// something else about the subject. So the first service to see a request, its
// root, writes both down once and signs it, and the request carries it along:
//
//	guidon: 1;c="…";o="…";e="production";r=1042;t=1763900000;u="user-77";
//	        a="country=NZ&plan=gold";d="checkout.new-pricing:on^";i="k1";s=:…:
//
// that is: correlation ID and root, environment and revision (the pin), the
// root's clock, the subject, the attributes that may travel, and decisions.
// Every service that holds the pin computes the same value, however many
// changes are published meanwhile. Values never travel; what a service cannot
// compute from the pin alone, because it needed data that does not travel, is
// decided at the root and rides along as the name of a variant.
//
// The promise (Property C): all evaluations of a flag of scope "request" that
// descend from one root, for its subject, give the same variant and the same
// value, or an explicit ERROR.
//
// The promise does not cover, and counts where it happens: emergencies, which
// change a value on purpose (see below); a hop that drops the header, so that
// the next service roots the request again; evaluations for somebody else than
// the request is about; and a service that was cut off while the environment's
// key changed, until it hears of the new one, since it cannot read what is
// signed with it; and flags that ask for the nearest revision, once their pin is
// no longer kept, since the oldest revision kept is another one tomorrow.
//
// # The pieces
//
// A [Propagator] holds what one process needs: [Snapshots], the flags at the
// newest revision and a way to older ones; a [Keyring]; a [Mode] that says how
// far its listeners trust what arrives. [Propagator.Middleware] and
// [Propagator.Transport] carry the state over net/http; other transports use
// [Propagator.Extract] and [Propagator.Inject] over a [Carrier] of theirs.
// [Propagator.Evaluate] applies the rules.
//
// A [State] is what one request holds, in its context.Context. At the root it
// is open: Config.Context, [Enrich] and the first evaluation add what they
// know. The first evaluation of a request flag, or the first outgoing call,
// seals it, since from then on somebody relies on it.
//
// A process whose API key is restricted to some projects gets keys that verify and
// do not sign. It follows headers and passes them on as they came: it mints none,
// adds no emergency that it knows of, and tells its callers of none. What it roots
// stays with it, which is counted ([NotMinted]). Flags that it does not see are
// FLAG_NOT_FOUND to it, also where the header carries a decision on them, an
// override or an emergency: these name a variant, and its value is with the flag.
//
// # The rules, in this order
//
//  1. an emergency that is newer than the pin: the newest that this process or
//     the request knows of, with the value that comes with it
//  2. an override that travels with the request
//  3. a decision of the root, for the request's own subject
//  4. the flag as it was at the pin, evaluated with nothing but what travels
//  5. the code default and an ERROR, if that definition cannot be had
//
// A flag may ask for something else than rule 5, by "pinUnavailable": "nearest":
// where its pin is older than what the server keeps, it is taken as of the oldest
// revision kept, and rules 2 to 4 apply to that. Each such answer says so
// ([Result.Nearest]) and is counted. Whether a flag asks for it is read off its
// newest definition that this process knows: that of the pin is gone, that of the
// oldest revision was written before anybody thought of such pins, and whoever
// turns it off again must not have to wait until history has moved on. A flag
// that exists no more asks for nothing. Neither is a revision replaced that is
// merely out of reach, nor one that a restore has lost.
//
// What a request has met of emergencies it takes along: the header names them, and
// an answer tells its caller of those that were news ([SeenName]). So a kill
// reaches requests under way wherever they go next, and no value goes back.
//
// Flags of scope "local" stand outside: newest revision, full local context,
// never in the header. So do evaluations without a State.
//
// # Why absent is safe, and trust is not access
//
// A header that is forged, doubled, too long or misspelled counts as none: the
// service roots the request itself, counts why, and answers as if the caller
// had never heard of Guidon. Headers that only another service can read (another
// environment, key or format version) are passed on byte for byte. At an [Edge],
// the zero Mode, nothing is believed at all. Whoever holds an environment's key
// can forge its headers: a flag is not an authorisation.
//
// # Why there is no expiry
//
// An old header is followed like a new one, whatever the clocks say: messages
// wait in queues for days, and re-rooting them would tear their requests. A pin
// ends when the server no longer keeps its revision, and then as an ERROR.
//
// # What this package does not do
//
// It does no I/O of its own, starts no goroutine, reads only the clock it is
// given and writes no log: an Observer hears of each kind of event once, and
// [Propagator.Stats] counts. It neither fetches snapshots nor keys.
package propagate
