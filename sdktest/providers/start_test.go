package providers_test

import (
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/internal/providertest"
)

func start(t testing.TB, o providertest.Options) *providertest.Server {
	t.Helper()
	o.Now = func() time.Time { return time.Unix(1760000000, 0) }
	s := providertest.New(o)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
