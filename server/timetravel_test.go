package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store/storetest"
)

func (g *guidon) revisions() guidonv1connect.RevisionServiceClient {
	return guidonv1connect.NewRevisionServiceClient(http.DefaultClient, g.url, withKey(g.admin))
}

func TestTimeTravel(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := g.revisions()
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	g.apply(t, "staging", setState("staging", "a", "DISABLED"), putFlag("staging", "b", "on"))

	list, err := client.List(t.Context(), &guidonv1.RevisionServiceListRequest{Environment: "staging", PageSize: 2})
	if err != nil || len(list.GetRevisions()) != 2 || list.GetNextPageToken() == "" {
		t.Fatalf("first page = %v, %v", list, err)
	}
	newest := list.GetRevisions()[0]
	if newest.GetRevision() != 3 || newest.GetChanges() != 2 || newest.GetReason() != "a test" || newest.GetActor() == "" {
		t.Errorf("newest revision = %v", newest)
	}
	list, err = client.List(t.Context(), &guidonv1.RevisionServiceListRequest{Environment: "staging", PageToken: list.GetNextPageToken()})
	if err != nil || len(list.GetRevisions()) != 1 || list.GetNextPageToken() != "" {
		t.Fatalf("second page = %v, %v", list, err)
	}

	for name, c := range map[string]struct {
		at   *timestamppb.Timestamp
		want int64
	}{
		"now":         {nil, 3},
		"at 3":        {newest.GetCreatedAt(), 3},
		"just before": {timestamppb.New(newest.GetCreatedAt().AsTime().Add(-1000)), 2},
		"at 1":        {list.GetRevisions()[0].GetCreatedAt(), 1},
	} {
		got, err := client.Get(t.Context(), &guidonv1.RevisionServiceGetRequest{Environment: "staging", Time: c.at})
		if err != nil || got.GetRevision().GetRevision() != c.want {
			t.Errorf("%s: %v, %v, want revision %d", name, got, err, c.want)
		}
	}

	diff, err := client.Diff(t.Context(), &guidonv1.RevisionServiceDiffRequest{Environment: "staging", FromRevision: 2})
	if err != nil || len(diff.GetDiffs()) != 2 {
		t.Fatalf("diff = %v, %v", diff, err)
	}
	if d := diff.GetDiffs()[0]; d.GetAction() != "changed" || d.GetFields()[0].GetPath() != "$.flag.state" || diff.GetDiffs()[1].GetAction() != "created" {
		t.Errorf("diff = %v, want the state of a, and b", diff.GetDiffs())
	}

	export, err := client.Export(t.Context(), &guidonv1.RevisionServiceExportRequest{Environment: "staging", Revision: 2})
	if err != nil || !strings.Contains(export.GetDocument(), `"a":{`) || strings.Contains(export.GetDocument(), `"b":{`) {
		t.Errorf("export at 2 = %v, %v, want a and not b", export, err)
	}

	// A killed flag is exported as it is served, before its kill as it was.
	g.apply(t, "production", putFlag("production", "k", "on"))
	kill, err := guidonv1connect.NewChangeServiceClient(http.DefaultClient, g.url, withKey(g.admin)).Kill(t.Context(), &guidonv1.ChangeServiceKillRequest{
		Environment: "production", Kills: []*guidonv1.Kill{{Key: "k", Variant: "off"}}, Reason: "it burns",
	})
	if err != nil {
		t.Fatal(err)
	}
	for revision, want := range map[int64]string{kill.GetRevision(): `"defaultVariant":"off"`, kill.GetRevision() - 1: `"defaultVariant":"on"`} {
		export, err := client.Export(t.Context(), &guidonv1.RevisionServiceExportRequest{Environment: "production", Revision: revision})
		if err != nil || !strings.Contains(export.GetDocument(), want) {
			t.Errorf("export at %d = %s, %v, want %s", revision, export.GetDocument(), err, want)
		}
	}

	blame, err := client.Blame(t.Context(), &guidonv1.RevisionServiceBlameRequest{Environment: "staging", Key: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range blame.GetFields() {
		want := int64(2)
		if f.GetPath() == "$.flag.state" {
			want = 3
		}
		if f.GetRevision().GetRevision() != want {
			t.Errorf("%s was written by revision %d, want %d", f.GetPath(), f.GetRevision().GetRevision(), want)
		}
	}
	if len(blame.GetFields()) < 7 {
		t.Errorf("%d fields, want them all: %v", len(blame.GetFields()), blame.GetFields())
	}
}

// TestEveryReadTravels: whatever can be read as of a revision can be read as of a time.
func TestEveryReadTravels(t *testing.T) {
	t.Parallel()
	g := start(t)
	then := g.apply(t, "staging", putFlag("staging", "a", "on"), putSegment("staging", "people", structpb.NewBoolValue(true)))
	g.apply(t, "staging", setState("staging", "a", "DISABLED"), putFlag("staging", "b", "on"), putSegment("staging", "people", structpb.NewBoolValue(false)))
	made, err := g.revisions().Get(t.Context(), &guidonv1.RevisionServiceGetRequest{Environment: "staging", Revision: then})
	if err != nil {
		t.Fatal(err)
	}
	flags := guidonv1connect.NewFlagServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	segments := guidonv1connect.NewSegmentServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	environments := guidonv1connect.NewEnvironmentServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	ctx := t.Context()
	reads := func(revision int64, at *timestamppb.Timestamp) (map[string]string, error) {
		list, err1 := flags.List(ctx, &guidonv1.FlagServiceListRequest{Environment: "staging", Revision: revision, Time: at})
		flag, err2 := flags.Get(ctx, &guidonv1.FlagServiceGetRequest{Environment: "staging", Key: "a", Revision: revision, Time: at})
		one, err3 := g.evaluations(g.admin).Evaluate(ctx, &guidonv1.EvaluationServiceEvaluateRequest{Environment: "staging", Key: "a", Revision: revision, Time: at})
		all, err4 := g.evaluations(g.admin).EvaluateAll(ctx, &guidonv1.EvaluationServiceEvaluateAllRequest{Environment: "staging", Revision: revision, Time: at})
		explained, err5 := g.evaluations(g.admin).Explain(ctx, &guidonv1.EvaluationServiceExplainRequest{Environment: "staging", Key: "a", Revision: revision, Time: at})
		segment, err6 := segments.Get(ctx, &guidonv1.SegmentServiceGetRequest{Environment: "staging", Name: "people", Revision: revision, Time: at})
		listed, err7 := segments.List(ctx, &guidonv1.SegmentServiceListRequest{Environment: "staging", Revision: revision, Time: at})
		diff, err8 := g.revisions().Diff(ctx, &guidonv1.RevisionServiceDiffRequest{Environment: "staging", FromRevision: revision, FromTime: at})
		compared, err9 := environments.Compare(ctx, &guidonv1.EnvironmentServiceCompareRequest{Environment: "staging", Revision: revision, Time: at, Other: "staging"})
		other, err10 := environments.Compare(ctx, &guidonv1.EnvironmentServiceCompareRequest{Environment: "development", Other: "staging", OtherRevision: revision, OtherTime: at})
		return map[string]string{
			"list": strconv.Itoa(len(list.GetFlags())), "get": flag.GetFlag().GetState(), "evaluate": one.GetResolution().GetReason(),
			"evaluate all": strconv.Itoa(len(all.GetResolutions())), "explain": explained.GetResolution().GetReason(),
			"segment": segment.GetSegment().GetCondition().String(), "segments": strconv.FormatInt(listed.GetSegments()[0].GetRevision(), 10),
			"diff": fmt.Sprint(len(diff.GetDiffs()), diff.GetFromRevision()), "compare": fmt.Sprint(len(compared.GetDiffs()), compared.GetRevision()),
			"compare with another": fmt.Sprint(len(other.GetDiffs()), other.GetOtherRevision()),
		}, errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9, err10)
	}
	want := map[string]string{
		"list": "1", "get": "ENABLED", "evaluate": "STATIC", "evaluate all": "1", "explain": "STATIC", "segment": "bool_value:true", "segments": "2",
		"diff": "3 2", "compare": "3 2", "compare with another": "2 2",
	}
	for name, read := range map[string]func() (map[string]string, error){
		"revision": func() (map[string]string, error) { return reads(then, nil) },
		"time":     func() (map[string]string, error) { return reads(0, made.GetRevision().GetCreatedAt()) },
	} {
		got, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("as of a %s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := flags.List(ctx, &guidonv1.FlagServiceListRequest{Revision: then}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a list at a revision of no environment: %v, want invalid argument", err)
	}
	if _, err := flags.Get(ctx, &guidonv1.FlagServiceGetRequest{Environment: "staging", Key: "a", Revision: then, Time: timestamppb.Now()}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a revision and a time: %v, want invalid argument", err)
	}
}

func TestRevertConflictsByRow(t *testing.T) {
	t.Parallel()
	g := start(t)
	bad := g.apply(t, "staging", putFlag("staging", "a", "on"), putFlag("staging", "b", "on"))
	g.apply(t, "staging", putFlag("staging", "other", "on"))
	touched := g.apply(t, "staging", setState("staging", "b", "DISABLED"))
	before := g.mark(t)
	_, err := g.changes(g.admin).Revert(t.Context(), &guidonv1.ChangeServiceRevertRequest{Environment: "staging", Revision: bad, Reason: "broke"})
	if connect.CodeOf(err) != connect.CodeAborted {
		t.Fatalf("reverting what was changed since: %v, want aborted", err)
	}
	if c := detail[*guidonv1.Conflict](t, err); len(c.GetChanged()) != 1 || c.GetChanged()[0].GetName() != "b" {
		t.Errorf("conflict = %v, want b alone", c)
	}
	g.unchanged(t, before)
	dry, err := g.changes(g.admin).Revert(t.Context(), &guidonv1.ChangeServiceRevertRequest{Environment: "staging", Revision: touched, DryRun: true})
	if err != nil || len(dry.GetResult().GetChanges()) != 1 || len(dry.GetResult().GetChanges()[0].GetFields()) != 1 {
		t.Errorf("dry run = %v, %v, want one field of b", dry, err)
	}
	g.unchanged(t, before)
	for _, revision := range []int64{touched, bad} {
		if _, err := g.changes(g.admin).Revert(t.Context(), &guidonv1.ChangeServiceRevertRequest{Environment: "staging", Revision: revision}); err != nil {
			t.Errorf("reverting %d: %v", revision, err)
		}
	}
	e, err := g.hub.Environment("staging")
	if err != nil || e.Snapshot().Flag("a") != nil || e.Snapshot().Flag("b") != nil || e.Snapshot().Flag("other") == nil {
		t.Errorf("after the reverts: a, b or not other is there (%v)", err)
	}
	res, err := g.changes(g.admin).Restore(t.Context(), &guidonv1.ChangeServiceRestoreRequest{Environment: "staging", Revision: bad})
	if err != nil || len(res.GetResult().GetChanges()) != 3 {
		t.Errorf("restore = %v, %v, want a and b back and other gone", res, err)
	}
}

func TestCompareAndPromote(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "development",
		putSegment("development", "people", structpb.NewBoolValue(true)),
		putFlag("development", "base", "on"),
		putDefinition("development", "a", map[string]any{
			"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
			"targeting": map[string]any{"if": []any{map[string]any{"$ref": "people"}, "on"}},
		}))
	definition, err := structpb.NewStruct(map[string]any{"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "on"})
	if err != nil {
		t.Fatal(err)
	}
	g.apply(t, "development", &guidonv1.Operation{Operation: &guidonv1.Operation_PutFlag{PutFlag: &guidonv1.PutFlag{
		Environment: "development", Key: "top", Definition: definition,
		Requires: &guidonv1.Requirements{Requirements: []*guidonv1.Requirement{{Flag: "a", Variants: []string{"on"}}, {Flag: "base", Variants: []string{"on"}}}},
	}}})
	compare := func(token string) *guidonv1.EnvironmentServiceCompareResponse {
		t.Helper()
		res, err := g.environments(g.admin).Compare(t.Context(), &guidonv1.EnvironmentServiceCompareRequest{
			Environment: "staging", Other: "development", PageSize: 3, PageToken: token,
		})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first := compare("")
	if len(first.GetDiffs()) != 3 || first.GetNextPageToken() == "" || len(compare(first.GetNextPageToken()).GetDiffs()) != 1 {
		t.Errorf("compare = %v, want four differences on two pages", first)
	}
	request := &guidonv1.ChangeServicePromoteRequest{Environment: "development", To: "staging", Flags: []string{"top"}, DryRun: true}
	before := g.mark(t)
	dry, err := g.changes(g.admin).Promote(t.Context(), request)
	if err != nil || len(dry.GetResult().GetChanges()) != 4 {
		t.Fatalf("promoting one flag = %v, %v, want what it needs too", dry, err)
	}
	g.unchanged(t, before)
	request.DryRun, request.IdempotencyKey = false, "once"
	for range 2 {
		if _, err := g.changes(g.admin).Promote(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if d := compare(""); len(d.GetDiffs()) != 0 || d.GetRevision() != 2 {
		t.Errorf("after it compare = %v, want no difference, and one revision", d)
	}
	if r, err := g.evaluations(g.admin).Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{Environment: "staging", Key: "top"}); err != nil || r.GetResolution().GetVariant() != "on" {
		t.Errorf("top in staging = %v, %v, want on", r, err)
	}
}

func TestEnvironmentsAndProjects(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "development", putFlag("development", "a", "on"))
	if _, err := g.environments(g.admin).Create(t.Context(), &guidonv1.EnvironmentServiceCreateRequest{Name: "preview", Protected: true, RetentionDays: 45}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the environment is there", func() bool { _, err := g.hub.Environment("preview"); return err == nil })
	if _, err := g.changes(g.admin).Copy(t.Context(), &guidonv1.ChangeServiceCopyRequest{Environment: "development", To: "preview"}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a copy into a protected environment without a reason: %v", err)
	}
	if _, err := g.changes(g.admin).Copy(t.Context(), &guidonv1.ChangeServiceCopyRequest{Environment: "development", To: "preview", Reason: "try it"}); err != nil {
		t.Fatal(err)
	}
	got, err := g.environments(g.admin).Get(t.Context(), &guidonv1.EnvironmentServiceGetRequest{Name: "preview"})
	if e := got.GetEnvironment(); err != nil || e.GetFlagCount() != 1 || !e.GetProtected() || e.GetRetentionDays() != 45 || e.GetRevision() != 2 {
		t.Errorf("preview = %v, %v", got, err)
	}
	yes := true
	if _, err := g.environments(g.admin).Update(t.Context(), &guidonv1.EnvironmentServiceUpdateRequest{Name: "preview", Archived: &yes, Reason: "over"}); err != nil {
		t.Fatal(err)
	}
	before := g.mark(t)
	a := g.post(t, applyPath, g.admin, `{"operations":[{"setState":{"environment":"preview","key":"a","state":"DISABLED"}}],"reason":"x"}`)
	if a.code() != "failed_precondition" {
		t.Errorf("writing to an archived environment: %d %s", a.status, a.body)
	}
	g.unchanged(t, before)

	client := guidonv1connect.NewProjectServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	if _, err := client.Create(t.Context(), &guidonv1.ProjectServiceCreateRequest{Name: "shop", Description: "all of it"}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Archive(t.Context(), &guidonv1.ProjectServiceArchiveRequest{Name: "shop"}); err != nil {
		t.Fatal(err)
	}
	list, err := client.List(t.Context(), &guidonv1.ProjectServiceListRequest{PageSize: 1})
	if err != nil || len(list.GetProjects()) != 1 || list.GetNextPageToken() == "" || list.GetProjects()[0].GetFlagCount() != 1 {
		t.Errorf("first page = %v, %v", list, err)
	}
	list, err = client.List(t.Context(), &guidonv1.ProjectServiceListRequest{PageToken: list.GetNextPageToken()})
	if err != nil || len(list.GetProjects()) != 1 || !list.GetProjects()[0].GetArchived() {
		t.Errorf("second page = %v, %v", list, err)
	}
	op := putFlag("staging", "new", "on")
	op.GetPutFlag().Project = "shop"
	if _, err := g.changes(g.admin).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{op}}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a flag for an archived project: %v, want failed_precondition", err)
	}
}
