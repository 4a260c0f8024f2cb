package store

import "context"

type originKey struct{}

// WithOrigin returns a context for what is done at somebody's request: the audit
// log says where it came from, in the words of origin. They are about a person,
// and erased with the name: see [DB.Erase].
func WithOrigin(ctx context.Context, origin string) context.Context {
	return context.WithValue(ctx, originKey{}, origin)
}

func originOf(ctx context.Context) string {
	origin, _ := ctx.Value(originKey{}).(string)
	return origin
}
