package store

import "github.com/guidon-flags/guidon/sdk/eval"

// Limits of one change set. They bound how long Apply holds the lock of an
// environment and how large an audit entry can grow.
const (
	// MaxOperations is the number of operations a change set may hold: room for
	// 10,000 flags, each put, described and given a schema, with their segments.
	MaxOperations = 40_000
	// MaxDefinitionBytes bounds the definitions of a change set taken together.
	MaxDefinitionBytes = 16 << 20
	// MaxEnvironmentBytes bounds the names and documents of an environment
	// taken together.
	MaxEnvironmentBytes = 100 << 20
	// MaxSchemaBytes bounds the JSON Schema of a flag in canonical form.
	MaxSchemaBytes = 64 << 10
	// MaxDocumentBytes bounds one definition in canonical form.
	MaxDocumentBytes = 512 << 10
	// MaxTextBytes bounds a reason, a description and an actor.
	MaxTextBytes = 4 << 10
	// MaxNameBytes bounds an idempotency key, a correlation ID, an owner and a tag.
	MaxNameBytes = 200
	// MaxTags bounds the tags of one flag.
	MaxTags = 50
	// MaxLinks bounds the links of one flag.
	MaxLinks = 20
	// MaxRequires bounds the prerequisites of one flag, and the variants that
	// one of them names.
	MaxRequires = 20
)

// A ChangeSet is the only unit of writing: an ordered list of operations on
// one or more environments that takes effect as a whole or not at all. Each
// environment it changes gets one new revision and one audit entry.
type ChangeSet struct {
	// Actor is who makes the change, as the audit log will show it. Required.
	Actor string
	// Reason is why, in the actor's words. May be empty, but not where an
	// environment is protected.
	Reason string
	// IdempotencyKey makes the change set safe to repeat: a second Apply by
	// the same actor with the same key returns the first one's result, and is
	// refused with [ErrKeyReused] if it asks for something else. Empty means
	// that every Apply is a change set of its own. Results are kept for 30 days.
	IdempotencyKey string
	// CorrelationID ties the audit entries to the request that caused them.
	CorrelationID string
	// Expect names the revision the actor saw, by environment. Apply refuses
	// with [ErrConflict] if the environment has moved on. An environment that
	// is not in the map is not checked.
	Expect map[string]int64
	// Operations are applied in order; a later one sees what an earlier one did.
	Operations []Operation
	// DryRun does everything but write: the result says what would happen,
	// with the revisions the environments would get.
	DryRun bool
	// IsolateInvalid writes flags that do not compile instead of refusing the
	// change set: they resolve to PARSE_ERROR, their siblings live, and each
	// problem is a warning of the result. It is for imports. JSON that cannot
	// be read, and bad keys, are refused all the same.
	IsolateInvalid bool
	// intent stands for the operations where they follow from it and from what
	// is there: repeated, the same intent is the same request.
	intent string
	// unplanned is why no operations follow from the intent now. The change set
	// may have been carried out before all the same.
	unplanned error
}

// An Operation is one of [PutFlag], [SetState], [SetDefaultVariant],
// [SetAttributes], [ArchiveFlag], [RestoreFlag], [DeleteFlag], [RemoveFlag], [DescribeFlag],
// [SetSchema], [PutSegment], [DeleteSegment], [PutSettings], [KillFlag] and
// [UnkillFlag].
type Operation interface{ step() (step, error) }

// PutFlag writes the definition of a flag in one environment, and creates the
// flag if the installation has no such key. The other environments are left
// as they are: a flag that was never put there is FLAG_NOT_FOUND there.
//
// Project, Kind, Type and Scope belong to the key in all environments. They
// are fixed by the first put; later puts leave them empty or repeat them, and
// are refused if they differ: another type is another key.
type PutFlag struct {
	Environment string
	Key         string
	// Project is who owns the flag. Empty means "default" for a new key.
	Project string
	// Kind is release, experiment, ops, permission or config. Empty means
	// release for a new key.
	Kind string
	// Type is boolean, string, integer, float or object. Empty means the type
	// of the variants for a new key.
	Type string
	// Scope is request or local. Empty means local for kind ops, else request,
	// for a new key.
	Scope string
	// Definition is the flagd definition: state, variants, defaultVariant,
	// targeting, metadata.
	Definition []byte
	// Owner, Description and Tags describe the key in all environments. They
	// are outside revisions. Empty leaves what is there.
	Owner       string
	Description string
	Tags        []string
	// CreateOnly leaves a flag that the environment already has as it is.
	CreateOnly bool
	// Attach has the flag decided at the root of each request in this
	// environment and carried in the header, or no longer. Nil leaves what is
	// there; a new flag is not attached.
	Attach *bool
	// Overridable lets overrides force the flag in this environment, or no
	// longer. Nil leaves what is there; a new flag is not overridable.
	Overridable *bool
	// Pierce is never, or empty: whether a kill may change the flag for
	// requests that are under way. Nil leaves what is there.
	Pierce *string
	// ClientVisible lets client keys see the flag in this environment, or no
	// longer. Nil leaves what is there; a new flag is not visible to them.
	ClientVisible *bool
	// PinUnavailable is nearest, or empty: what a request gets whose pinned
	// revision is no longer kept, the flag as of the oldest that is, or an error.
	// Nil leaves what is there.
	PinUnavailable *string
	// Requires lists the flag's prerequisites. Nil leaves what is there.
	Requires *[]Requirement
}

// Requirement is a prerequisite: Flag must resolve to one of Variants.
type Requirement struct {
	Flag     string   `json:"flag"`
	Variants []string `json:"variants"`
}

// SetAttributes changes how one flag of one environment is treated, and leaves
// its definition as it is. What is nil stays as it is; see [PutFlag].
type SetAttributes struct {
	Environment    string
	Key            string
	Attach         *bool
	Overridable    *bool
	Pierce         *string
	ClientVisible  *bool
	PinUnavailable *string
}

// SetState switches a flag of one environment on or off: flagd's state,
// ENABLED or DISABLED.
type SetState struct {
	Environment string
	Key         string
	State       string
}

// SetDefaultVariant names the variant a flag resolves to when its targeting
// does not decide. An empty Variant means the caller's own default.
type SetDefaultVariant struct {
	Environment string
	Key         string
	Variant     string
}

// ArchiveFlag retires a flag in every environment that has it. An archived
// flag stays in snapshots, its state DISABLED: each caller gets its own
// default. It cannot be edited any more.
type ArchiveFlag struct {
	Key string
}

// RestoreFlag takes an archived flag back into use in every environment that
// has it. It stays DISABLED until it is switched on: what it was before it was
// archived may be long ago.
type RestoreFlag struct {
	Key string
}

// DeleteFlag removes an archived flag from every environment. What it was
// stays readable at older revisions, and its key stays taken, so that no
// service which still asks for it meets another flag.
type DeleteFlag struct {
	Key string
}

// RemoveFlag takes a flag out of one environment, where it is then as if it had
// never been put, and may be put again. The others keep it. It is for flags that
// are in use: one that is archived is deleted, from all environments.
type RemoveFlag struct {
	Environment string
	Key         string
}

// DescribeFlag changes what is said of a key in all environments. It makes no
// revision. What is nil stays as it is.
type DescribeFlag struct {
	Key                string
	Owner, Description *string
	Tags               *[]string
	// Links are http and https URLs.
	Links *[]string
}

// SetSchema gives a flag of kind config the JSON Schema that the value of each
// of its variants must meet, in all environments. Nil takes it away.
type SetSchema struct {
	Key string
	// Schema is a JSON Schema, draft 2020-12, that refers to no other document.
	Schema []byte
}

// DeleteSegment removes a segment that no flag and no segment refers to.
type DeleteSegment struct {
	Environment string
	Name        string
}

// PutSegment writes a named condition that targeting refers to by $ref.
type PutSegment struct {
	Environment string
	Name        string
	// Project is who owns the segment. Empty means "default" for a new one.
	Project string
	// Condition is JsonLogic.
	Condition []byte
	// CreateOnly leaves a segment that the environment already has as it is.
	CreateOnly bool
}

// PutSettings replaces the settings of an environment that evaluation and the
// header depend on. An allow-list whose attributes may not fit the header is
// refused; see [eval.Settings.TravelBytes].
type PutSettings struct {
	Environment string
	Settings    eval.Settings
}

// Applied is what a change set did.
type Applied struct {
	// ChangeID names the change set; its audit entries carry it. Empty for a
	// dry run and for a change set that changed nothing and had no
	// idempotency key.
	ChangeID string
	// Revisions holds the new revision of each environment that changed, and
	// the unchanged one of each that the operations named in vain.
	Revisions map[string]int64
	// Unchanged is true if everything was as asked already: no revision and no
	// audit entry was written.
	Unchanged bool
	// Changes has one element per operation and environment it touched, in
	// the order of the operations.
	Changes []Changed
	// Warnings are things the actor should know and that stop nothing: a flag
	// that cannot be recomputed downstream, with the attribute that does not
	// travel; a flag that was isolated.
	Warnings []string
	// Drafts holds, for a dry run, what was compiled to validate it, by
	// environment.
	Drafts map[string]Draft `json:"-"`
}

// Draft is the part of an environment that a change set concerns: the flags it
// changes, those that read what it changes, and what they all need.
type Draft struct {
	Before, After *eval.Snapshot
	// Affected are the keys of the flags that may resolve differently, sorted.
	Affected []string
}

// Changed is what became of one row.
type Changed struct {
	Environment string
	Kind        eval.Kind
	Name        string
	Action      ChangeAction
	// Before and After are the canonical documents, nil for none. They are
	// not kept with the result of an idempotency key: a repeated Apply
	// answers without them.
	Before, After []byte
}

// ChangeAction says what an operation did to a row.
type ChangeAction string

// The actions of [Changed].
const (
	ActionCreated   ChangeAction = "created"
	ActionChanged   ChangeAction = "changed"
	ActionArchived  ChangeAction = "archived"
	ActionKilled    ChangeAction = "killed"
	ActionUnkilled  ChangeAction = "unkilled"
	ActionRestored  ChangeAction = "restored"
	ActionDeleted   ChangeAction = "deleted"
	ActionUnchanged ChangeAction = "unchanged"
)
