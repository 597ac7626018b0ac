package command

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/app"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// Health is the command that requests the running server's /readyz, for a
// container's health check, because the image has no other HTTP client. It exits
// with 0 if the server passes calls, or if the part of --for is ready.
func Health(c *config.Config) *cli.Command {
	return &cli.Command{
		Name:  "health",
		Usage: "check whether the local server is healthy; for container health checks",
		Flags: c.SubFlags(
			&cli.StringFlag{Name: "for", Usage: "component to check: ingest, store or web (default: whether calls are forwarded)"},
			&cli.DurationFlag{Name: "timeout", Value: 5 * time.Second, Usage: "timeout"},
		),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := c.LoadSub(cmd); err != nil {
				return err
			}
			if err := c.RequireData(); err != nil {
				return err
			}
			ctx, stop := context.WithTimeout(ctx, cmd.Duration("timeout"))
			defer stop()
			state, err := askReady(ctx, c, cmd.String("for"))
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.Root().Writer, state)
			return nil
		},
	}
}

// askReady returns the status of the server that listens here: "ok" or "degraded".
func askReady(ctx context.Context, c *config.Config, part string) (string, error) {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil || port == "0" {
		return "", config.Invalid(fmt.Sprintf("the address %q is not where the server listens", c.Listen), "give --listen or HEDGEROW_LISTEN as in the server's configuration, with its port", err)
	}
	// An IP address, because a container may not resolve localhost.
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	u := url.URL{Scheme: c.Scheme(), Host: net.JoinHostPort(host, port), Path: "/readyz"}
	if part != "" {
		u.RawQuery = url.Values{"for": {part}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	// No proxy of the environment: the server is on this machine. Its certificate is for
	// another name, and the request holds nothing to protect.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Do(req)
	if err != nil {
		return "", event.NewError(event.CodeUnavailable, "no hedgerow server responds at "+u.Host, "start hedgerow serve, or set --listen to the server's address", err)
	}
	defer resp.Body.Close()
	var body struct {
		app.Readiness
		Error *event.Error `json:"error"`
	}
	switch err := json.NewDecoder(resp.Body).Decode(&body); {
	case err != nil:
		return "", event.NewError(event.CodeUnavailable, "the server on "+u.Host+" is not hedgerow", "set --listen to the server's address", err)
	case resp.StatusCode == http.StatusOK:
		return body.Status, nil
	case body.Error != nil:
		return "", config.Exit(config.ExitConfig, body.Error)
	}
	var wrong []string
	for _, r := range body.Components {
		if r.Status != health.OK {
			wrong = append(wrong, fmt.Sprintf("%s is %s: %s", r.Component, r.Status, r.Message))
		}
	}
	return "", event.NewError(event.CodeUnavailable, "hedgerow is not ready", "run hedgerow doctor for details", errors.New(strings.Join(wrong, "; ")))
}
