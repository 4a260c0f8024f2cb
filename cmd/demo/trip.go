package main

import (
	"errors"
	"fmt"
	"net/url"
)

// tripHeader comes with a call in place of the guidon header while propagation
// is off, whatever the transport. Its value names the person, as the query of
// /checkout does.
const tripHeader = "shop-trip"

// A trip is one request on its way through the services: in which mode it
// started, how it came here, and for whom it is. With propagation on the guidon
// header knows for whom, and only web fills in the person.
type trip struct {
	mode   mode
	via    way
	person Person
}

// tripFrom reads what came under tripHeader.
func tripFrom(values []string, via way) (trip, error) {
	switch len(values) {
	case 0:
		return trip{mode: on, via: via}, nil
	case 1:
	default:
		return trip{}, errors.New(tripHeader + " came more than once")
	}
	query, err := url.ParseQuery(values[0])
	if err != nil {
		return trip{}, fmt.Errorf("%s: %w", tripHeader, err)
	}
	person, err := personFrom(query)
	if err != nil {
		return trip{}, fmt.Errorf("%s: %w", tripHeader, err)
	}
	return trip{off, via, person}, nil
}

// header is what a call carries under tripHeader; nothing with propagation on.
func (t trip) header() []string {
	if t.mode == on {
		return nil
	}
	return []string{t.person.query().Encode()}
}
