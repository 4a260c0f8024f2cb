package guidon

import (
	"context"
	"log/slog"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// LogHandler adds to each record what ties it to its request: "correlation_id",
// "guidon_revision", the pin, once that is settled, "external_request_id" if an
// edge got one, and "guidon_override" if somebody's override forces a flag. It
// does so for records that are logged with the context of a request, as
// slog.InfoContext does.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	id := propagate.CorrelationID(ctx)
	if id == "" {
		return h.Handler.Handle(ctx, record)
	}
	record = record.Clone()
	record.AddAttrs(slog.String("correlation_id", id))
	if s, ok := propagate.FromContext(ctx); ok {
		if external := s.ExternalRequestID(); external != "" {
			record.AddAttrs(slog.String("external_request_id", external))
		}
		if pin, sealed := s.Pin(); sealed {
			record.AddAttrs(slog.Int64("guidon_revision", pin.Revision))
		}
		if s.Overridden() {
			record.AddAttrs(slog.Bool("guidon_override", true))
		}
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.Handler.WithGroup(name)}
}
