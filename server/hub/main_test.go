package hub

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The cluster that all tests share lives as long as the process.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Start.func2"))
}
