package auth

import (
	"fmt"
	"slices"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v1/evaluationv1connect"
	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v2/evaluationv2connect"
	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/sync/v1/syncv1connect"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// Action is what a call does, in the words of access control.
type Action string

// The actions that permissions are given for.
const (
	ActionEvaluate           Action = "evaluate"
	ActionSync               Action = "sync"
	ActionReadFlags          Action = "flags.read"
	ActionReadHistory        Action = "flags.history"
	ActionReadEnvironment    Action = "environment.read"
	ActionListEnvironments   Action = "environments.list"
	ActionManageProjects     Action = "projects.manage"
	ActionReadProjects       Action = "projects.read"
	ActionManageEnvironments Action = "environments.manage"
	ActionChange             Action = "change"
	ActionTryChange          Action = "change.try"
	ActionKill               Action = "kill"
	ActionReadAudit          Action = "audit.read"
	ActionEraseAudit         Action = "audit.erase"
	ActionReadKeys           Action = "keys.read"
	ActionManageKeys         Action = "keys.manage"
	ActionReadFleet          Action = "fleet.read"
	ActionReadHeader         Action = "header.read"
	ActionRoot               Action = "root"
	ActionRotateKeys         Action = "environment.rotate_key"
	ActionReadOverrides      Action = "overrides.read"
	ActionManageOverrides    Action = "overrides.manage"
)

// permission is one row of the table.
type permission struct {
	action Action
	kinds  []Kind
}

var (
	serverOrAdmin = []Kind{Server, Admin}
	adminOnly     = []Kind{Admin}
	// valuesTo may see what flags come to, definitionsTo how.
	valuesTo      = []Kind{Server, Client, Relay, Admin}
	definitionsTo = []Kind{Server, Relay, Admin}
)

// writing are the actions that change what the audit log is about: each call that
// succeeds, and changes something, is in it.
var writing = []Action{
	ActionManageProjects, ActionManageEnvironments, ActionChange, ActionKill, ActionEraseAudit,
	ActionManageKeys, ActionRotateKeys, ActionManageOverrides,
}

// forProjects are the actions of keys that are restricted to some projects: those
// that know how to leave out the others.
var forProjects = []Action{ActionEvaluate, ActionSync}

// OFREP stands for the paths of OFREP in the table.
const OFREP = "/ofrep/v1/evaluate/flags"

// State is the path that roots a request, in the table.
const State = "/guidon/v1/state"

// permissions holds every RPC of guidon.v1 and of flagd's protocols; a test
// walks the descriptors.
var permissions = map[string]permission{
	guidonv1connect.EvaluationServiceEvaluateProcedure:    {ActionEvaluate, serverOrAdmin},
	guidonv1connect.EvaluationServiceEvaluateAllProcedure: {ActionEvaluate, serverOrAdmin},
	guidonv1connect.EvaluationServiceExplainProcedure:     {ActionEvaluate, serverOrAdmin},

	guidonv1connect.SyncServiceSyncProcedure:           {ActionSync, definitionsTo},
	guidonv1connect.SyncServiceGetDefinitionProcedure:  {ActionSync, definitionsTo},
	guidonv1connect.SyncServiceGetEmergenciesProcedure: {ActionSync, definitionsTo},
	guidonv1connect.SyncServiceGetSnapshotProcedure:    {ActionSync, definitionsTo},
	guidonv1connect.SyncServiceAckProcedure:            {ActionSync, definitionsTo},
	guidonv1connect.SyncServiceGetDeltaProcedure:       {ActionSync, definitionsTo},

	guidonv1connect.FlagServiceListProcedure:    {ActionReadFlags, serverOrAdmin},
	guidonv1connect.FlagServiceGetProcedure:     {ActionReadFlags, serverOrAdmin},
	guidonv1connect.FlagServiceHistoryProcedure: {ActionReadHistory, adminOnly},

	guidonv1connect.RevisionServiceListProcedure:   {ActionReadHistory, adminOnly},
	guidonv1connect.RevisionServiceGetProcedure:    {ActionReadHistory, adminOnly},
	guidonv1connect.RevisionServiceDiffProcedure:   {ActionReadHistory, adminOnly},
	guidonv1connect.RevisionServiceExportProcedure: {ActionReadHistory, adminOnly},
	guidonv1connect.RevisionServiceBlameProcedure:  {ActionReadHistory, adminOnly},

	guidonv1connect.ProjectServiceListProcedure:    {ActionReadProjects, adminOnly},
	guidonv1connect.ProjectServiceCreateProcedure:  {ActionManageProjects, adminOnly},
	guidonv1connect.ProjectServiceArchiveProcedure: {ActionManageProjects, adminOnly},

	guidonv1connect.EnvironmentServiceCreateProcedure:  {ActionManageEnvironments, adminOnly},
	guidonv1connect.EnvironmentServiceUpdateProcedure:  {ActionManageEnvironments, adminOnly},
	guidonv1connect.EnvironmentServiceCompareProcedure: {ActionReadHistory, adminOnly},

	guidonv1connect.ChangeServiceRevertProcedure:  {ActionChange, adminOnly},
	guidonv1connect.ChangeServiceRestoreProcedure: {ActionChange, adminOnly},
	guidonv1connect.ChangeServicePromoteProcedure: {ActionChange, adminOnly},
	guidonv1connect.ChangeServiceCopyProcedure:    {ActionChange, adminOnly},

	guidonv1connect.SegmentServiceListProcedure: {ActionReadFlags, serverOrAdmin},
	guidonv1connect.SegmentServiceGetProcedure:  {ActionReadFlags, serverOrAdmin},

	guidonv1connect.EnvironmentServiceGetProcedure:                  {ActionReadEnvironment, definitionsTo},
	guidonv1connect.EnvironmentServiceRotatePropagationKeyProcedure: {ActionRotateKeys, adminOnly},
	guidonv1connect.EnvironmentServiceListProcedure:                 {ActionListEnvironments, adminOnly},

	guidonv1connect.ChangeServiceApplyProcedure:      {ActionChange, adminOnly},
	guidonv1connect.ChangeServiceDryRunProcedure:     {ActionTryChange, adminOnly},
	guidonv1connect.ChangeServiceKillProcedure:       {ActionKill, adminOnly},
	guidonv1connect.ChangeServiceUnkillProcedure:     {ActionKill, adminOnly},
	guidonv1connect.ChangeServiceKillReportProcedure: {ActionReadFleet, adminOnly},

	// A service may read the headers of its environment, and root requests in it.
	guidonv1connect.HeaderServiceVerifyProcedure:  {ActionReadHeader, serverOrAdmin},
	guidonv1connect.HeaderServiceExplainProcedure: {ActionEvaluate, serverOrAdmin},
	State: {ActionRoot, serverOrAdmin},

	guidonv1connect.AuditServiceListProcedure:   {ActionReadAudit, adminOnly},
	guidonv1connect.AuditServiceGetProcedure:    {ActionReadAudit, adminOnly},
	guidonv1connect.AuditServiceExportProcedure: {ActionReadAudit, adminOnly},
	guidonv1connect.AuditServiceVerifyProcedure: {ActionReadAudit, adminOnly},
	guidonv1connect.AuditServiceEraseProcedure:  {ActionEraseAudit, adminOnly},

	guidonv1connect.FleetServiceListProcedure: {ActionReadFleet, adminOnly},

	guidonv1connect.KeyServiceListProcedure:   {ActionReadKeys, adminOnly},
	guidonv1connect.KeyServiceCreateProcedure: {ActionManageKeys, adminOnly},
	guidonv1connect.KeyServiceRevokeProcedure: {ActionManageKeys, adminOnly},

	// A token is as good as the right to make it.
	guidonv1connect.OverrideServiceListProcedure:   {ActionReadOverrides, adminOnly},
	guidonv1connect.OverrideServiceCreateProcedure: {ActionManageOverrides, adminOnly},
	guidonv1connect.OverrideServiceRevokeProcedure: {ActionManageOverrides, adminOnly},

	OFREP: {ActionEvaluate, valuesTo},

	evaluationv1connect.ServiceResolveAllProcedure:     {ActionEvaluate, valuesTo},
	evaluationv1connect.ServiceResolveBooleanProcedure: {ActionEvaluate, valuesTo},
	evaluationv1connect.ServiceResolveStringProcedure:  {ActionEvaluate, valuesTo},
	evaluationv1connect.ServiceResolveFloatProcedure:   {ActionEvaluate, valuesTo},
	evaluationv1connect.ServiceResolveIntProcedure:     {ActionEvaluate, valuesTo},
	evaluationv1connect.ServiceResolveObjectProcedure:  {ActionEvaluate, valuesTo},
	evaluationv1connect.ServiceEventStreamProcedure:    {ActionEvaluate, valuesTo},

	evaluationv2connect.ServiceResolveBooleanProcedure: {ActionEvaluate, valuesTo},
	evaluationv2connect.ServiceResolveStringProcedure:  {ActionEvaluate, valuesTo},
	evaluationv2connect.ServiceResolveFloatProcedure:   {ActionEvaluate, valuesTo},
	evaluationv2connect.ServiceResolveIntProcedure:     {ActionEvaluate, valuesTo},
	evaluationv2connect.ServiceResolveObjectProcedure:  {ActionEvaluate, valuesTo},
	evaluationv2connect.ServiceEventStreamProcedure:    {ActionEvaluate, valuesTo},

	syncv1connect.FlagSyncServiceSyncFlagsProcedure:     {ActionSync, definitionsTo},
	syncv1connect.FlagSyncServiceFetchAllFlagsProcedure: {ActionSync, definitionsTo},
	syncv1connect.FlagSyncServiceGetMetadataProcedure:   {ActionSync, definitionsTo},
}

// Known reports whether procedure ("/guidon.v1.FlagService/List") is in the
// permission table: an RPC that somebody may call.
func Known(procedure string) bool {
	_, ok := permissions[procedure]
	return ok
}

// ActionOf is what a call of procedure does; empty if it is not in the table.
func ActionOf(procedure string) Action { return permissions[procedure].action }

// Writes reports whether calls of procedure change what the audit log is about.
// What instances acknowledge, and what is noted of a kill that spreads, is not.
func Writes(procedure string) bool { return slices.Contains(writing, ActionOf(procedure)) }

// Authorize returns nil if a principal may call procedure, and [ErrDenied]
// otherwise. Nobody may call anything; [ErrNoPrincipal] says so.
func Authorize(p Principal, procedure string) error {
	if p.Kind == "" {
		return ErrNoPrincipal
	}
	row, ok := permissions[procedure]
	if !ok {
		return fmt.Errorf("%w: no key may call %s", ErrDenied, procedure)
	}
	if !slices.Contains(row.kinds, p.Kind) {
		return fmt.Errorf("%w: a %s key has no permission %s", ErrDenied, p.Kind, row.action)
	}
	if len(p.projects) > 0 && (!slices.Contains(forProjects, row.action) || procedure == guidonv1connect.HeaderServiceExplainProcedure) {
		return fmt.Errorf("%w: a key that is restricted to projects has no permission %s", ErrDenied, row.action)
	}
	return nil
}
