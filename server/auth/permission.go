package auth

import (
	"fmt"
	"slices"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// Action is what a call does, in the words of access control.
type Action string

// The actions that permissions are given for.
const (
	ActionEvaluate         Action = "evaluate"
	ActionSync             Action = "sync"
	ActionReadFlags        Action = "flags.read"
	ActionReadHistory      Action = "flags.history"
	ActionReadEnvironment  Action = "environment.read"
	ActionListEnvironments Action = "environments.list"
	ActionChange           Action = "change"
	ActionKill             Action = "kill"
	ActionReadAudit        Action = "audit.read"
	ActionReadKeys         Action = "keys.read"
	ActionManageKeys       Action = "keys.manage"
	ActionReadFleet        Action = "fleet.read"
	ActionReadOverrides    Action = "overrides.read"
	ActionManageOverrides  Action = "overrides.manage"
)

// permission is one row of the table.
type permission struct {
	action Action
	kinds  []Kind
}

var (
	anyKind   = []Kind{Server, Admin}
	adminOnly = []Kind{Admin}
)

// permissions holds every RPC of guidon.v1; a test walks the descriptors.
var permissions = map[string]permission{
	guidonv1connect.EvaluationServiceEvaluateProcedure:    {ActionEvaluate, anyKind},
	guidonv1connect.EvaluationServiceEvaluateAllProcedure: {ActionEvaluate, anyKind},
	guidonv1connect.EvaluationServiceExplainProcedure:     {ActionEvaluate, anyKind},

	guidonv1connect.SyncServiceSyncProcedure:           {ActionSync, anyKind},
	guidonv1connect.SyncServiceGetDefinitionProcedure:  {ActionSync, anyKind},
	guidonv1connect.SyncServiceGetEmergenciesProcedure: {ActionSync, anyKind},
	guidonv1connect.SyncServiceGetSnapshotProcedure:    {ActionSync, anyKind},
	guidonv1connect.SyncServiceAckProcedure:            {ActionSync, anyKind},
	guidonv1connect.SyncServiceGetDeltaProcedure:       {ActionSync, anyKind},

	guidonv1connect.FlagServiceListProcedure:    {ActionReadFlags, anyKind},
	guidonv1connect.FlagServiceGetProcedure:     {ActionReadFlags, anyKind},
	guidonv1connect.FlagServiceHistoryProcedure: {ActionReadHistory, adminOnly},

	guidonv1connect.EnvironmentServiceGetProcedure:  {ActionReadEnvironment, anyKind},
	guidonv1connect.EnvironmentServiceListProcedure: {ActionListEnvironments, adminOnly},

	guidonv1connect.ChangeServiceApplyProcedure:  {ActionChange, adminOnly},
	guidonv1connect.ChangeServiceKillProcedure:   {ActionKill, adminOnly},
	guidonv1connect.ChangeServiceUnkillProcedure: {ActionKill, adminOnly},

	guidonv1connect.AuditServiceListProcedure: {ActionReadAudit, adminOnly},

	guidonv1connect.FleetServiceListProcedure: {ActionReadFleet, adminOnly},

	guidonv1connect.KeyServiceListProcedure:   {ActionReadKeys, adminOnly},
	guidonv1connect.KeyServiceCreateProcedure: {ActionManageKeys, adminOnly},
	guidonv1connect.KeyServiceRevokeProcedure: {ActionManageKeys, adminOnly},

	// A token is as good as the right to make it.
	guidonv1connect.OverrideServiceListProcedure:   {ActionReadOverrides, adminOnly},
	guidonv1connect.OverrideServiceCreateProcedure: {ActionManageOverrides, adminOnly},
	guidonv1connect.OverrideServiceRevokeProcedure: {ActionManageOverrides, adminOnly},
}

// Known reports whether procedure ("/guidon.v1.FlagService/List") is in the
// permission table: an RPC that somebody may call.
func Known(procedure string) bool {
	_, ok := permissions[procedure]
	return ok
}

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
	return nil
}
