package store

import (
	"fmt"

	"github.com/guidon-flags/guidon/store/audit"
)

// A Revocation asks for the end of an API key or of an override.
type Revocation struct {
	ID string
	// Actor and Reason are for the audit log. Actor is required.
	Actor, Reason string
	// CorrelationID ties the audit entry to the request.
	CorrelationID string
}

// check refuses one that is for nothing that could be there; what says what it
// is for.
func (r Revocation) check(what string) error {
	if err := checkActor(r.Actor, r.Reason, r.CorrelationID); err != nil {
		return err
	}
	if !isID(r.ID) {
		return r.notFound(what)
	}
	return nil
}

func (r Revocation) notFound(what string) error {
	return fmt.Errorf("%s %.128q: %w", what, r.ID, ErrNotFound)
}

func (r Revocation) record() audit.Record {
	return audit.Record{Actor: r.Actor, Reason: r.Reason, Correlation: r.CorrelationID}
}
