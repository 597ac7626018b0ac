// Command cmd serves the Go SDK to PostHog's SDK test harness; see package
// sdkadapter.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/hedgerow/hedgerow/sdktest/adapter"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen at; the harness expects port 8080")
	flag.Parse()
	if err := serve(*listen); err != nil {
		fmt.Fprintln(os.Stderr, "sdkadapter:", err)
		os.Exit(1)
	}
}

func serve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	// The harness is another container, which speaks http.
	if err := os.Setenv("HEDGEROW_ALLOW_INSECURE_POSTHOG", "1"); err != nil {
		return fmt.Errorf("allow http: %w", err)
	}
	a := sdkadapter.New(sdkadapter.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	defer a.Close()
	fmt.Println("listening at", l.Addr())
	s := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	go func() {
		<-stop
		_ = s.Close()
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
