// Package admin serves the admin UI, a single-page application over Guidon's
// public Connect API, from files embedded in the binary.
//
// The one idea: the binary is complete by itself. Assets are named by the hash
// of their content and may be cached for ever; index.html is asked for again
// each time, so a new binary is a new UI at the next page load. The page runs
// under a Content-Security-Policy that allows nothing but this origin.
//
// The package knows neither keys nor sessions: the files are public, and every
// call that the application makes is authorised by the API like any other.
// Without a built application the handler says how to build one.
package admin
