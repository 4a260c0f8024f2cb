package fleet

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// maxPage bounds what is read of another replica, decompressed, in bytes: some
// forty thousand instances.
const maxPage = 32 << 20

// told is what the other replicas were told last.
type told struct {
	pages  map[string][]byte
	failed bool
}

// Run tells the other replicas what this one knows, until ctx ends; then it
// tells them that nobody is connected to it any more. A database that is away
// is no reason to end.
func (f *Fleet) Run(ctx context.Context) error {
	tick := time.NewTicker(f.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.tell(ctx)
		case <-ctx.Done():
			f.disconnect()
			f.tell(context.WithoutCancel(ctx))
			return ctx.Err()
		}
	}
}

// disconnect notes that no stream is left.
func (f *Fleet) disconnect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.environments {
		for _, i := range e.instances {
			i.streams, i.protocol = 0, ""
		}
		clear(e.programs)
	}
}

// tell shares what this replica knows, and logs when that stops or starts to
// succeed: once each.
func (f *Fleet) tell(ctx context.Context) {
	pages := f.pages()
	if f.cfg.Store == nil || len(pages) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(store.Background(ctx), shareTimeout)
	defer cancel()
	err := f.share(ctx, pages)
	switch {
	case err == nil && f.told.failed:
		f.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "other replicas can be told again who is connected")
	case err != nil && !f.told.failed && !errors.Is(err, context.Canceled):
		f.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "other replicas cannot be told who is connected", slog.Any("error", err))
	}
	f.told.failed = err != nil
	if err != nil {
		f.counted.failed.Add(1)
		f.told.pages = nil
		return
	}
	f.counted.shared.Add(1)
	f.told.pages = pages
}

// share writes pages, or that they are what they were.
func (f *Fleet) share(ctx context.Context, pages map[string][]byte) error {
	same := len(pages) == len(f.told.pages)
	for env, page := range pages {
		same = same && bytes.Equal(page, f.told.pages[env])
	}
	if same {
		there, err := f.cfg.Store.TouchFleet(ctx, f.cfg.Replica, len(pages))
		if err != nil || there {
			return err
		}
	}
	return f.cfg.Store.ShareFleet(ctx, f.cfg.Replica, pages)
}

// pages is what this replica knows, encoded. The same knowledge makes the same
// bytes.
func (f *Fleet) pages() map[string][]byte {
	f.mu.Lock()
	f.forget(f.cfg.Now())
	messages := map[string]*guidonv1.Instances{}
	for env := range f.environments {
		messages[env] = f.own(env)
	}
	f.mu.Unlock()
	pages := map[string][]byte{}
	for env, message := range messages {
		slices.SortFunc(message.GetInstances(), byName)
		slices.SortFunc(message.GetStreams(), byProgram)
		pages[env] = pack(message)
	}
	return pages
}

// own is what this replica knows of an environment. It is called under the lock.
func (f *Fleet) own(env string) *guidonv1.Instances {
	e, now := f.environments[env], f.cfg.Now()
	out := &guidonv1.Instances{}
	if e == nil {
		return out
	}
	for _, i := range e.instances {
		out.Instances = append(out.Instances, i.message(env, f.cfg.Replica, now))
	}
	out.Streams = e.streams(env)
	for _, said := range e.relays {
		if now.Sub(said.heardAt) > relayed {
			continue
		}
		for _, i := range said.instances {
			// A copy: who reads it joins and sorts.
			out.Instances = append(out.Instances, proto.CloneOf(i))
		}
		out.Streams = addStreams(out.Streams, said.streams...)
	}
	if len(e.pierced) > 0 {
		out.Pierced = maps.Clone(e.pierced)
	}
	return out
}

// message is an instance as it is shown. One that is not connected here has
// neither a protocol nor a time of connection.
func (i *instance) message(env, replica string, now time.Time) *guidonv1.Instance {
	m := &guidonv1.Instance{
		Environment: env, Service: i.client.GetService(), Instance: i.client.GetInstance(), Sdk: i.client.GetSdk(), Version: i.client.GetVersion(),
		Digest: i.digest, Replica: replica, PropagationKeyIds: i.keys,
	}
	if !i.ackedAt.IsZero() {
		m.AcknowledgedAt = timestamppb.New(i.ackedAt)
	}
	if i.connected(now) {
		m.Protocol, m.ConnectedAt = i.protocol, timestamppb.New(i.connectedAt)
	}
	for _, a := range i.acks {
		shown := &guidonv1.Acknowledged{Revision: a.revision}
		if !a.at.IsZero() {
			shown.AppliedAt = timestamppb.New(a.at)
		}
		m.Acks = append(m.Acks, shown)
		m.Revision = a.revision
	}
	return m
}

// pack encodes what unpack decodes.
func pack(message *guidonv1.Instances) []byte {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		panic(fmt.Sprintf("instances cannot be encoded: %v", err)) // clip made all text valid UTF-8
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(raw) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

func unpack(page []byte) (*guidonv1.Instances, error) {
	unzip, err := gzip.NewReader(bytes.NewReader(page))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(unzip, maxPage+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxPage {
		return nil, fmt.Errorf("larger than %d bytes", maxPage)
	}
	out := &guidonv1.Instances{}
	return out, proto.Unmarshal(raw, out)
}
