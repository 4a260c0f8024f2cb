package audit

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/gowebpki/jcs"
)

// Actions of operations, as they stand in records.
const (
	ActionPutFlag              = "flag.put"
	ActionSetState             = "flag.state"
	ActionSetDefault           = "flag.default"
	ActionSetAttributes        = "flag.attributes"
	ActionArchiveFlag          = "flag.archive"
	ActionKillFlag             = "flag.kill"
	ActionUnkillFlag           = "flag.unkill"
	ActionRestoreFlag          = "flag.restore"
	ActionDeleteFlag           = "flag.delete"
	ActionRemoveFlag           = "flag.remove"
	ActionDescribeFlag         = "flag.describe"
	ActionPutSegment           = "segment.put"
	ActionRevert               = "revert"
	ActionRestore              = "restore"
	ActionPromote              = "promote"
	ActionCopy                 = "copy"
	ActionCreateEnvironment    = "environment.create"
	ActionUpdateEnvironment    = "environment.update"
	ActionArchiveEnvironment   = "environment.archive"
	ActionCreateProject        = "project.create"
	ActionArchiveProject       = "project.archive"
	ActionDeleteSegment        = "segment.delete"
	ActionPutSettings          = "settings.put"
	ActionCreateKey            = "key.create"
	ActionRevokeKey            = "key.revoke"
	ActionCreatePropagationKey = "propagation_key.create"
	ActionSwitchPropagationKey = "propagation_key.switch"
	ActionCreateCheckpointKey  = "checkpoint_key.create"
	ActionRemovePropagationKey = "propagation_key.remove"
	ActionDropAudit            = "audit.drop"
	ActionEraseAudit           = "audit.erase"
	ActionCreateOverrideKey    = "override_key.create"
	ActionCreateOverride       = "override.create"
	ActionRevokeOverride       = "override.revoke"
	ActionRecover              = "environment.recover"
	// ActionChange is the action of a record whose operations differ.
	ActionChange = "change"
)

// Record is what an entry says: who did what, when, why and from where.
type Record struct {
	Actor string `json:"actor,omitempty"`
	// PersonHash is the hash of the name that ends the actor, ReasonHash that of
	// the reason and OriginHash that of the origin, where they stand in a payload
	// as [Text]s; see [Entry.Record].
	PersonHash string `json:"person_hash,omitempty"`
	ReasonHash string `json:"reason_hash,omitempty"`
	OriginHash string `json:"origin_hash,omitempty"`
	// Action is that of the operations if they agree, else ActionChange.
	Action string `json:"action"`
	Reason string `json:"reason,omitempty"`
	// Origin is from where: an address, and the program that called.
	Origin string `json:"origin,omitempty"`
	// Change links the entries that one change set wrote in several chains.
	Change string `json:"change"`
	// Environment is empty in the installation's chain.
	Environment string `json:"environment,omitempty"`
	// Revision is the one the change made; 0 in the installation's chain.
	Revision    int64       `json:"revision,omitempty"`
	Correlation string      `json:"correlation,omitempty"`
	Time        time.Time   `json:"time"`
	Operations  []Operation `json:"operations"`
}

// Operation is one thing that was done.
type Operation struct {
	Action string `json:"action"`
	// Kind is flag, segment, settings, emergency, key, propagation_key,
	// override_key or override; with Name it says to what.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Before and After are canonical documents; nil for none.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Canonical is a document as it stands in payloads.
func Canonical(document []byte) ([]byte, error) { return jcs.Transform(document) }

// Record decodes the payload of the entry, with its texts in their places and
// [Erased] where there is none any more.
func (e Entry) Record() (Record, error) {
	r, err := e.stored()
	if err == nil {
		r, err = r.opened(e.Texts)
	}
	if err != nil {
		return Record{}, fmt.Errorf("audit entry %d of %q: %w", e.Seq, e.Scope, err)
	}
	return r, nil
}

// stored decodes the payload as it is.
func (e Entry) stored() (Record, error) {
	var r Record
	err := json.Unmarshal(e.Payload, &r)
	return r, err
}
