package fleet_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/fleet"
)

// page is what a relay may send, true or not.
func page(t *testing.T, instances ...*guidonv1.Instance) []byte {
	t.Helper()
	raw, err := proto.Marshal(&guidonv1.Instances{Instances: instances})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func taken(revisions ...int64) []*guidonv1.Acknowledged {
	var out []*guidonv1.Acknowledged
	for _, revision := range revisions {
		out = append(out, &guidonv1.Acknowledged{Revision: revision, AppliedAt: timestamppb.New(time.Unix(revision, 0))})
	}
	return out
}

// Whoever has a relay's key may say anything of clients that it may not have.
func TestHostileRelays(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	f := fleet.New(fleet.Config{Now: func() time.Time { return now }})
	relay := &guidonv1.Client{Instance: "edge"}
	wrong := &timestamppb.Timestamp{Seconds: 1 << 60, Nanos: -1}
	err := f.Behind("staging", relay, page(t,
		// Holds a revision that it never took; took some in any order, or too
		// many, or what cannot be.
		&guidonv1.Instance{Instance: "none", ConnectedAt: timestamppb.New(now), Revision: 9},
		&guidonv1.Instance{Instance: "older", ConnectedAt: timestamppb.New(now), Revision: 9, Acks: taken(3)},
		&guidonv1.Instance{Instance: "order", ConnectedAt: timestamppb.New(now), Revision: 1, Acks: taken(9, 3, 7)},
		&guidonv1.Instance{Instance: "many", ConnectedAt: timestamppb.New(now), Revision: 12, Acks: taken(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)},
		&guidonv1.Instance{Instance: "never", ConnectedAt: timestamppb.New(now), Revision: -4, Acks: taken(-4, 0)},
		&guidonv1.Instance{Instance: "times", ConnectedAt: timestamppb.New(now), AcknowledgedAt: wrong, Acks: []*guidonv1.Acknowledged{{Revision: 9, AppliedAt: wrong}}},
		&guidonv1.Instance{Instance: "when", ConnectedAt: wrong},
	))
	if err != nil {
		t.Fatal(err)
	}
	type ack struct {
		held bool
		at   int64
	}
	want := map[int64]map[string]ack{
		5: {"none": {}, "older": {}, "order": {true, 7}, "many": {true, 0}, "never": {}, "times": {true, 0}},
		7: {"none": {}, "older": {}, "order": {true, 7}, "many": {true, 7}, "never": {}, "times": {true, 0}},
		9: {"none": {}, "older": {}, "order": {true, 9}, "many": {true, 9}, "never": {}, "times": {true, 0}},
	}
	for revision, acks := range want {
		got, err := f.Acks(t.Context(), "staging", revision)
		if err != nil {
			t.Fatal(err)
		}
		shown := map[string]ack{}
		for _, a := range got {
			shown[a.Instance] = ack{held: a.Held}
			if !a.At.IsZero() {
				shown[a.Instance] = ack{a.Held, a.At.Unix()}
			}
		}
		if diff := cmp.Diff(acks, shown, cmp.AllowUnexported(ack{})); diff != "" {
			t.Errorf("Acks(%d) (-want +got):\n%s", revision, diff)
		}
	}
	instances, err := f.Instances(t.Context(), "staging")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range instances {
		if len(i.GetAcks()) > 8 {
			t.Errorf("%s: kept %d acks", i.GetInstance(), len(i.GetAcks()))
		}
		if _, err := protojson.Marshal(i); err != nil {
			t.Errorf("%s cannot be shown: %v", i.GetInstance(), err)
		}
	}
	for name, broken := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "half": page(t, instances...)[:40]} {
		if err := f.Behind("staging", relay, broken); !errors.Is(err, fleet.ErrBehind) {
			t.Errorf("a page of %s: %v, want ErrBehind", name, err)
		}
	}
}
