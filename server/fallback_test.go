package server_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestPostgresHangs: a database that takes connections and answers nothing holds
// up nobody who can be answered without it, whichever key they come with.
func TestPostgresHangs(t *testing.T) {
	t.Parallel()
	w, url := newWire(t)
	db := open(t, store.Config{DatabaseURL: url})
	before := &guidon{db: db}
	server, admin := before.key(t, store.KeyServer, "staging"), before.key(t, store.KeyAdmin, "") // which the server is not shown yet
	g := startOn(t, db)
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	w.hang()
	storetest.Eventually(t, "the hub knows that the database is away", g.hub.Away)

	// Whoever waits for the database until a timeout waits for 5 s at least, and
	// a list of three environments for 30.
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for range 20 {
		for _, key := range []string{server, admin} {
			if res, err := g.evaluations(key).Evaluate(ctx, &guidonv1.EvaluationServiceEvaluateRequest{Environment: "staging", Key: "a"}); err != nil || res.GetResolution().GetVariant() != "on" {
				t.Fatalf("Evaluate = %v, %v, want variant on", res, err)
			}
		}
	}
	flags := guidonv1connect.NewFlagServiceClient(http.DefaultClient, g.url, withKey(admin))
	if list, err := flags.List(ctx, &guidonv1.FlagServiceListRequest{}); err != nil || len(list.GetFlags()) != 1 {
		t.Errorf("List of all environments = %v, %v, want the flag", list, err)
	}
	if got, err := flags.Get(ctx, &guidonv1.FlagServiceGetRequest{Environment: "staging", Key: "a"}); err != nil || got.GetFlag().GetKey() != "a" {
		t.Errorf("Get = %v, %v, want the flag", got, err)
	}
	list, err := guidonv1connect.NewFleetServiceClient(http.DefaultClient, g.url, withKey(admin)).List(ctx, &guidonv1.FleetServiceListRequest{})
	if err != nil || !list.GetPartial() {
		t.Errorf("FleetService.List = %v, %v, want a partial list", list, err)
	}
	projects, err := guidonv1connect.NewProjectServiceClient(http.DefaultClient, g.url, withKey(admin)).List(ctx, &guidonv1.ProjectServiceListRequest{})
	if err != nil || len(projects.GetProjects()) != 1 || projects.GetProjects()[0].GetFlagCount() != 1 {
		t.Errorf("ProjectService.List = %v, %v, want the project of the flag", projects, err)
	}
	if _, err := guidonv1connect.NewEnvironmentServiceClient(http.DefaultClient, g.url, withKey(admin)).List(ctx, &guidonv1.EnvironmentServiceListRequest{}); err != nil {
		t.Errorf("EnvironmentService.List: %v", err)
	}
}
