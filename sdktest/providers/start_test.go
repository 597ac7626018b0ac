package providers_test

import (
	"testing"
	"time"

	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

func start(t testing.TB, o simprovider.Options) *simprovider.Server {
	t.Helper()
	o.Now = func() time.Time { return time.Unix(1760000000, 0) }
	s := simprovider.New(o)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
