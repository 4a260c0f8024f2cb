// Package guidon connects an application to Guidon: it keeps the flags of one
// environment in the process, evaluates them through OpenFeature, and makes all
// services of one request see one flag state.
//
// The one idea: [Open] gives a [Client], which is three things. [Client.Provider]
// is the OpenFeature provider; [Client.Middleware] and [Client.Transport] carry
// the guidon header in and out of a service. Evaluations read memory: they need
// no network, do not fail, and go on with the last values known for as long as
// Guidon cannot be reached.
//
// The package has no rules of its own. Flags are evaluated by package eval,
// kept by package feed, and propagated by package propagate; what is here joins
// them, speaks OpenFeature, and logs. Flags are not authorisation: whoever holds
// an environment's propagation keys can choose variants in it.
package guidon
