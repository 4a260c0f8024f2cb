package server_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
)

const (
	evaluatePath = "/guidon.v1.EvaluationService/Evaluate"
	applyPath    = "/guidon.v1.ChangeService/Apply"
)

// unchanged fails the test if anything was written since the mark.
func (g *guidon) unchanged(t testing.TB, before mark) {
	t.Helper()
	if after := g.mark(t); !cmp.Equal(before, after, cmp.AllowUnexported(mark{})) {
		t.Errorf("a refused request changed something: %+v, was %+v", after, before)
	}
}

// TestBadInput: each refused request says what is wrong and where, as a
// client's mistake, and changes nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	before := g.mark(t)
	const put = `{"operations":[{"putFlag":{"environment":"staging","key":"b","definition":`
	for name, tt := range map[string]struct {
		path, body string
		header     []string
		status     int
		code       string
		says       string
	}{
		"unknown environment":          {evaluatePath, `{"environment":"nowhere","key":"a"}`, nil, 404, "not_found", `nowhere`},
		"no environment":               {evaluatePath, `{"key":"a"}`, nil, 400, "invalid_argument", "environment"},
		"apply, unknown environment":   {applyPath, `{"operations":[{"setState":{"environment":"nowhere","key":"a","state":"ENABLED"}}]}`, nil, 404, "not_found", "nowhere"},
		"apply, unknown flag":          {applyPath, `{"operations":[{"setState":{"environment":"staging","key":"nothing","state":"ENABLED"}}]}`, nil, 404, "not_found", "nothing"},
		"get, unknown flag":            {"/guidon.v1.FlagService/Get", `{"environment":"staging","key":"nothing"}`, nil, 404, "not_found", "nothing"},
		"history, unknown flag":        {"/guidon.v1.FlagService/History", `{"environment":"staging","key":"nothing"}`, nil, 404, "not_found", "nothing"},
		"revoke, unknown key":          {"/guidon.v1.KeyService/Revoke", `{"id":"01a208dc-dc3b-78ca-b50e-483f46a91d3a"}`, nil, 404, "not_found", ""},
		"revoke, not an id":            {"/guidon.v1.KeyService/Revoke", `{"id":"x"}`, nil, 404, "not_found", ""},
		"create key, unknown kind":     {"/guidon.v1.KeyService/Create", `{"kind":"root","name":"x"}`, nil, 400, "invalid_argument", "kind"},
		"create key, in the past":      {"/guidon.v1.KeyService/Create", `{"kind":"admin","name":"x","expiresAt":"2001-01-01T00:00:00Z"}`, nil, 400, "invalid_argument", "expires_at"},
		"malformed JSON":               {evaluatePath, `{"environment":`, nil, 400, "invalid_argument", "unexpected"},
		"no JSON":                      {evaluatePath, ``, nil, 400, "invalid_argument", "empty"},
		"JSON array":                   {evaluatePath, `[]`, nil, 400, "invalid_argument", ""},
		"unknown field":                {evaluatePath, `{"envronment":"staging","key":"a"}`, nil, 400, "invalid_argument", `envronment`},
		"unknown nested field":         {applyPath, `{"operations":[{"setState":{"environment":"staging","kye":"a"}}]}`, nil, 400, "invalid_argument", `kye`},
		"field twice":                  {evaluatePath, `{"environment":"staging","environment":"production"}`, nil, 400, "invalid_argument", "environment"},
		"two operations in one":        {applyPath, `{"operations":[{"archiveFlag":{"key":"a"},"setState":{"key":"a"}}]}`, nil, 400, "invalid_argument", ""},
		"attribute twice":              {evaluatePath, `{"environment":"staging","key":"a","context":{"plan":"x","plan":"y"}}`, nil, 400, "invalid_argument", "plan"},
		"wrong type":                   {evaluatePath, `{"environment":"staging","key":7}`, nil, 400, "invalid_argument", "key"},
		"not UTF-8":                    {evaluatePath, "{\"environment\":\"\xff\"}", nil, 400, "invalid_argument", "UTF-8"},
		"too deep":                     {evaluatePath, `{"environment":"staging","key":"a","context":{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}`, nil, 400, "invalid_argument", ""},
		"unknown value type":           {evaluatePath, `{"environment":"staging","key":"a","type":"color"}`, nil, 400, "invalid_argument", "color"},
		"negative revision":            {evaluatePath, `{"environment":"staging","key":"a","revision":-1}`, nil, 400, "invalid_argument", "revision"},
		"revision of the future":       {evaluatePath, `{"environment":"staging","key":"a","revision":77}`, nil, 404, "not_found", "is at revision 2, 77"},
		"get, of the future":           {"/guidon.v1.FlagService/Get", `{"environment":"staging","key":"a","revision":77}`, nil, 404, "not_found", "77"},
		"snapshot, of the future":      {"/guidon.v1.SyncService/GetSnapshot", `{"environment":"staging","revision":77}`, nil, 404, "not_found", "77"},
		"page too large":               {"/guidon.v1.FlagService/List", `{"pageSize":1001}`, nil, 400, "invalid_argument", "page_size"},
		"page negative":                {"/guidon.v1.AuditService/List", `{"pageSize":-1}`, nil, 400, "invalid_argument", "page_size"},
		"bad flag token":               {"/guidon.v1.FlagService/List", `{"pageToken":"%%%"}`, nil, 400, "invalid_argument", "page_token"},
		"bad history token":            {"/guidon.v1.FlagService/History", `{"environment":"staging","key":"a","pageToken":"x.y"}`, nil, 400, "invalid_argument", "page_token"},
		"bad store token":              {"/guidon.v1.AuditService/List", `{"pageToken":"%%%"}`, nil, 400, "invalid_argument", "token"},
		"bad environment token":        {"/guidon.v1.EnvironmentService/List", `{"pageToken":"bm8"}`, nil, 400, "invalid_argument", "page_token"},
		"bad key token":                {"/guidon.v1.KeyService/List", `{"pageToken":"%%%"}`, nil, 400, "invalid_argument", "token"},
		"revert, of the future":        {"/guidon.v1.ChangeService/Revert", `{"environment":"staging","revision":"77"}`, nil, 404, "not_found", "77"},
		"revert, the first":            {"/guidon.v1.ChangeService/Revert", `{"environment":"staging","revision":"1"}`, nil, 400, "invalid_argument", "is the first"},
		"revert, no revision":          {"/guidon.v1.ChangeService/Revert", `{"environment":"staging"}`, nil, 400, "invalid_argument", "revision"},
		"revert, nowhere":              {"/guidon.v1.ChangeService/Revert", `{"environment":"nowhere","revision":"2"}`, nil, 404, "not_found", "nowhere"},
		"restore, of the future":       {"/guidon.v1.ChangeService/Restore", `{"environment":"staging","revision":"77","reason":"x"}`, nil, 404, "not_found", "77"},
		"restore, negative":            {"/guidon.v1.ChangeService/Restore", `{"environment":"staging","revision":"-2","reason":"x"}`, nil, 400, "invalid_argument", "revision"},
		"promote, to itself":           {"/guidon.v1.ChangeService/Promote", `{"environment":"staging","to":"staging","flags":["a"]}`, nil, 400, "invalid_argument", "to"},
		"promote, nothing":             {"/guidon.v1.ChangeService/Promote", `{"environment":"staging","to":"development"}`, nil, 400, "invalid_argument", "names"},
		"promote, unknown flag":        {"/guidon.v1.ChangeService/Promote", `{"environment":"staging","to":"development","flags":["nothing"]}`, nil, 404, "not_found", "nothing"},
		"copy, not empty":              {"/guidon.v1.ChangeService/Copy", `{"environment":"production","to":"staging"}`, nil, 400, "invalid_argument", "just created"},
		"create, bad name":             {"/guidon.v1.EnvironmentService/Create", `{"name":"A b"}`, nil, 400, "invalid_argument", "name"},
		"create, taken name":           {"/guidon.v1.EnvironmentService/Create", `{"name":"staging"}`, nil, 409, "already_exists", "staging"},
		"create, retention":            {"/guidon.v1.EnvironmentService/Create", `{"name":"x","retentionDays":3}`, nil, 400, "invalid_argument", "retention_days"},
		"update, nowhere":              {"/guidon.v1.EnvironmentService/Update", `{"name":"nowhere"}`, nil, 404, "not_found", "nowhere"},
		"update, protected":            {"/guidon.v1.EnvironmentService/Update", `{"name":"production","protected":false}`, nil, 400, "invalid_argument", "reason"},
		"compare, nowhere":             {"/guidon.v1.EnvironmentService/Compare", `{"environment":"staging","other":"nowhere"}`, nil, 404, "not_found", "nowhere"},
		"compare, nothing":             {"/guidon.v1.EnvironmentService/Compare", `{"environment":"staging"}`, nil, 400, "invalid_argument", "other"},
		"project, bad name":            {"/guidon.v1.ProjectService/Create", `{"name":""}`, nil, 400, "invalid_argument", "name"},
		"project, taken name":          {"/guidon.v1.ProjectService/Create", `{"name":"default"}`, nil, 409, "already_exists", "default"},
		"project, in use":              {"/guidon.v1.ProjectService/Archive", `{"name":"default"}`, nil, 400, "failed_precondition", "1 flags"},
		"project, unknown":             {"/guidon.v1.ProjectService/Archive", `{"name":"nobody"}`, nil, 404, "not_found", "nobody"},
		"time and revision":            {"/guidon.v1.RevisionService/Get", `{"environment":"staging","revision":"1","time":"2026-01-01T00:00:00Z"}`, nil, 400, "invalid_argument", "time"},
		"before there was anything":    {"/guidon.v1.RevisionService/Get", `{"environment":"staging","time":"0001-01-01T00:00:00Z"}`, nil, 404, "not_found", "staging"},
		"diff from nothing":            {"/guidon.v1.RevisionService/Diff", `{"environment":"staging"}`, nil, 400, "invalid_argument", "from_revision"},
		"blame, unknown flag":          {"/guidon.v1.RevisionService/Blame", `{"environment":"staging","key":"nothing"}`, nil, 404, "not_found", "nothing"},
		"delete, not archived":         {applyPath, `{"operations":[{"deleteFlag":{"key":"a"}}]}`, nil, 400, "failed_precondition", "archive it first"},
		"restore, never archived":      {applyPath, `{"operations":[{"restoreFlag":{"key":"nothing"}}]}`, nil, 404, "not_found", "nothing"},
		"schema, not for this kind":    {applyPath, `{"operations":[{"setSchema":{"key":"a","schema":{}}}]}`, nil, 400, "invalid_argument", "kind config"},
		"link, a script":               {applyPath, `{"operations":[{"describeFlag":{"key":"a","links":{"values":["javascript:x"]}}}]}`, nil, 400, "invalid_argument", "links"},
		"no operation":                 {applyPath, `{"operations":[{}]}`, nil, 400, "invalid_argument", "operation 0"},
		"no operations":                {applyPath, `{}`, nil, 400, "invalid_argument", "operations"},
		"no definition":                {applyPath, put + `null}}]}`, nil, 400, "invalid_argument", "definition"},
		"definition without variants":  {applyPath, put + `{"state":"ENABLED"}}}]}`, nil, 400, "invalid_argument", "variants"},
		"definition with a bad state":  {applyPath, put + `{"state":"ON","variants":{"on":true},"defaultVariant":"on"}}}]}`, nil, 400, "invalid_argument", "state"},
		"default that is no variant":   {applyPath, put + `{"state":"ENABLED","variants":{"on":true},"defaultVariant":"off"}}}]}`, nil, 400, "invalid_argument", "defaultVariant"},
		"bad flag key":                 {applyPath, strings.Replace(put, `"b"`, `"b c"`, 1) + `{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"}}}]}`, nil, 400, "invalid_argument", "key"},
		"protected, without a reason":  {applyPath, `{"operations":[{"setState":{"environment":"production","key":"a","state":"ENABLED"}}],"reason":" "}`, nil, 400, "invalid_argument", "reason"},
		"second operation is bad":      {applyPath, `{"operations":[{"setState":{"environment":"staging","key":"a","state":"DISABLED"}},{"setState":{"environment":"staging","key":"a","state":"MAYBE"}}]}`, nil, 400, "invalid_argument", "operation 1"},
		"NUL, flag key":                {"/guidon.v1.FlagService/Get", `{"environment":"staging","key":"a\u0000"}`, nil, 400, "invalid_argument", "key"},
		"NUL, definition of a flag":    {"/guidon.v1.SyncService/GetDefinition", `{"environment":"staging","key":"a\u0000","revision":"1"}`, nil, 400, "invalid_argument", "key"},
		"NUL, history":                 {"/guidon.v1.FlagService/History", `{"environment":"staging","key":"a\u0000"}`, nil, 400, "invalid_argument", "key"},
		"NUL, query":                   {"/guidon.v1.FlagService/List", `{"environment":"staging","query":"\u0000"}`, nil, 400, "invalid_argument", "query"},
		"NUL, audit":                   {"/guidon.v1.AuditService/List", `{"flag":"a\u0000"}`, nil, 400, "invalid_argument", "flag"},
		"NUL, environment of a key":    {"/guidon.v1.KeyService/Create", `{"kind":"server","environment":"\u0000","name":"x"}`, nil, 400, "invalid_argument", "environment"},
		"NUL, expected revision":       {applyPath, `{"operations":[{"setState":{"environment":"staging","key":"a","state":"DISABLED"}}],"expectedRevisions":{"\u0000":1}}`, nil, 400, "invalid_argument", "expected_revisions"},
		"NUL, in an operation":         {applyPath, `{"operations":[{"setState":{"environment":"staging","key":"a","state":"DISABLED"}},{"setState":{"environment":"\u0000","key":"a","state":"ENABLED"}}]}`, nil, 400, "invalid_argument", "operations[1].set_state.environment"},
		"text":                         {evaluatePath, `{"environment":"staging","key":"a"}`, []string{"Content-Type", "text/plain"}, 415, "", ""},
		"form":                         {applyPath, `operations=`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "", ""},
		"unknown compression":          {evaluatePath, `{}`, []string{"Content-Encoding", "br"}, 501, "unimplemented", "br"},
		"oversize":                     {evaluatePath, `{"environment":"staging","key":"a"` + strings.Repeat(" ", 1<<20) + `}`, nil, 429, "resource_exhausted", ""},
		"oversize, compressed":         {evaluatePath, gzipped(`{"environment":"staging","key":"a"` + strings.Repeat(" ", 1<<20) + `}`), []string{"Content-Encoding", "gzip"}, 429, "resource_exhausted", ""},
		"oversize change":              {applyPath, `{"operations":[` + strings.Repeat(" ", 32<<20) + `]}`, nil, 429, "resource_exhausted", ""},
		"missing key":                  {evaluatePath, `{"environment":"staging","key":"a"}`, []string{"Authorization", ""}, 401, "unauthenticated", "Bearer"},
		"wrong key":                    {applyPath, `{}`, []string{"Authorization", "Bearer gdn_admin_x"}, 401, "unauthenticated", ""},
		"wrong key, oversize":          {applyPath, strings.Repeat(" ", 33<<20), []string{"Authorization", "Bearer gdn_admin_x"}, 401, "unauthenticated", ""},
		"from another site's page":     {applyPath, `{"operations":[{"archiveFlag":{"key":"a"}}]}`, []string{"Sec-Fetch-Site", "cross-site"}, 403, "", ""},
		"from another origin's script": {applyPath, `{"operations":[{"archiveFlag":{"key":"a"}}]}`, []string{"Origin", "https://evil.example"}, 403, "", ""},
	} {
		header := append([]string{"Content-Type", "application/json", "Authorization", "Bearer " + g.admin}, tt.header...)
		a := g.do(t, http.MethodPost, tt.path, tt.body, header...)
		if a.status != tt.status || a.code() != tt.code {
			t.Errorf("%s: %d %s %.300q, want %d %s", name, a.status, a.code(), a.body, tt.status, tt.code)
		}
		if !strings.Contains(a.body, tt.says) {
			t.Errorf("%s: %.300q does not say %q", name, a.body, tt.says)
		}
		if tt.status != 403 && a.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: no request ID", name)
		}
	}
	g.unchanged(t, before)
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

func TestGetIsRefused(t *testing.T) {
	t.Parallel()
	g := start(t)
	before := g.mark(t)
	for _, r := range rpcs() {
		if r.procedure == guidonv1connect.SyncServiceGetDeltaProcedure {
			continue // reads, and says so; see TestPollByETag
		}
		a := g.do(t, http.MethodGet, r.procedure+"?encoding=json&message=%7B%7D&connect=v1", "", "Authorization", "Bearer "+g.admin)
		if a.status != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %d, want 405", r.procedure, a.status)
		}
	}
	g.unchanged(t, before)
}

// TestBadBinary: what JSON cannot say and protobuf can.
func TestBadBinary(t *testing.T) {
	t.Parallel()
	g := start(t)
	before := g.mark(t)
	deep := structpb.NewBoolValue(true)
	for range 5000 {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	for name, message := range map[string]proto.Message{
		"NaN": &guidonv1.EvaluationServiceEvaluateRequest{Environment: "staging", Key: "a", Context: &structpb.Struct{
			Fields: map[string]*structpb.Value{"x": structpb.NewNumberValue(math.NaN())},
		}},
		"deep": &guidonv1.EvaluationServiceEvaluateRequest{Environment: "staging", Key: "a", Context: &structpb.Struct{
			Fields: map[string]*structpb.Value{"x": deep},
		}},
	} {
		raw, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		a := g.do(t, http.MethodPost, evaluatePath, string(raw), "Content-Type", "application/proto", "Authorization", "Bearer "+g.admin)
		if a.status != http.StatusBadRequest || a.code() != "invalid_argument" {
			t.Errorf("%s: %d %.300q, want 400 invalid_argument", name, a.status, a.body)
		}
	}
	a := g.do(t, http.MethodPost, evaluatePath, "\xff\xff\xff", "Content-Type", "application/proto", "Authorization", "Bearer "+g.admin)
	if a.status != http.StatusBadRequest {
		t.Errorf("garbage: %d %q, want 400", a.status, a.body)
	}
	g.unchanged(t, before)
}

func TestStaleRevision(t *testing.T) {
	t.Parallel()
	g := start(t)
	seen := g.apply(t, "staging", putFlag("staging", "a", "on"))
	newest := g.apply(t, "staging", putFlag("staging", "b", "on"))
	before := g.mark(t)
	_, err := g.changes(g.admin).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{
		Operations:        []*guidonv1.Operation{setState("staging", "a", "DISABLED")},
		ExpectedRevisions: map[string]int64{"staging": seen},
	})
	if connect.CodeOf(err) != connect.CodeAborted {
		t.Fatalf("Apply at a stale revision: %v, want aborted", err)
	}
	want := &guidonv1.Conflict{
		Environment: "staging", ExpectedRevision: seen, Revision: newest,
		Changed: []*guidonv1.Change{{Environment: "staging", Kind: "flag", Name: "b", Action: "created"}},
	}
	if diff := cmp.Diff(want, detail[*guidonv1.Conflict](t, err), protocmp.Transform()); diff != "" {
		t.Errorf("detail (-want +got):\n%s", diff)
	}
	g.unchanged(t, before)
}

// TestProblemsAreDetails: a program finds each problem with its place.
func TestProblemsAreDetails(t *testing.T) {
	t.Parallel()
	g := start(t)
	before := g.mark(t)
	_, err := g.changes(g.admin).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{
		putFlag("staging", "good", "on"),
		putFlag("staging", "bad", "maybe"),
	}})
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Fatalf("Apply: %v, want invalid_argument", err)
	}
	invalid := detail[*guidonv1.Invalid](t, err)
	if len(invalid.GetProblems()) != 1 {
		t.Fatalf("%d problems, want 1: %v", len(invalid.GetProblems()), invalid)
	}
	p := invalid.GetProblems()[0]
	if p.GetOperation() != 1 || p.GetEnvironment() != "staging" || p.GetName() != "bad" ||
		p.GetPath() != "$.flag.defaultVariant" || p.GetMessage() == "" {
		t.Errorf("problem %v, want operation 1, staging, bad, $.flag.defaultVariant", p)
	}
	g.unchanged(t, before)
}

// detail returns the detail of an error that is of type T.
func detail[T proto.Message](t testing.TB, err error) T {
	t.Helper()
	var none T
	connectErr, ok := errors.AsType[*connect.Error](err)
	if !ok {
		t.Fatalf("%v is not a Connect error", err)
	}
	for _, d := range connectErr.Details() {
		if value, err := d.Value(); err == nil {
			if found, ok := value.(T); ok {
				return found
			}
		}
	}
	t.Fatalf("%v has no detail of type %T", err, none)
	return none
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	g := start(t)
	request := &guidonv1.ChangeServiceApplyRequest{
		Operations: []*guidonv1.Operation{putFlag("staging", "a", "on")}, IdempotencyKey: "once",
	}
	first, err := g.changes(g.admin).Apply(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	before := g.mark(t)
	second, err := g.changes(g.admin).Apply(t.Context(), request)
	if err != nil || second.GetChangeId() != first.GetChangeId() || second.GetRevisions()["staging"] != first.GetRevisions()["staging"] {
		t.Errorf("the same again: %v, %v, want %v", second, err, first)
	}
	request.Operations = []*guidonv1.Operation{putFlag("staging", "b", "on")}
	if _, err := g.changes(g.admin).Apply(t.Context(), request); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("another change set under the same key: %v, want already_exists", err)
	}
	g.unchanged(t, before)
}

// TestLargeChangeSet: an admin key may send more than a mebibyte of changes.
func TestLargeChangeSet(t *testing.T) {
	t.Parallel()
	g := start(t)
	var b strings.Builder
	const flags = 12
	for i := range flags {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"putFlag":{"environment":"staging","key":"large%d","definition":{"state":"ENABLED","variants":{"on":%q},"defaultVariant":"on"}}}`,
			i, strings.Repeat("x", 100<<10))
	}
	a := g.post(t, applyPath, g.admin, `{"operations":[`+b.String()+`]}`)
	if a.status != http.StatusOK {
		t.Fatalf("a change set of %d bytes: %d %.300q, want 200", b.Len(), a.status, a.body)
	}
	// And the snapshot goes out in chunks.
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), nil)
	f.reach(2)
	if f.snapshot.Len() != flags {
		t.Errorf("%d flags, want %d", f.snapshot.Len(), flags)
	}
}
