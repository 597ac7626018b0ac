package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/app"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// control is a hedgerow that a subcommand talks to: the one that is running on
// the data folder or, if none is, one that is opened without a network for as
// long as the command takes.
type control struct {
	http  *http.Client
	app   *app.App // nil where another process serves
	close func()
}

// startWait is how long a command waits for the socket of a server that uses the folder:
// a server forwards calls before it opens its socket.
const startWait = 3 * time.Second

// openControl connects to the hedgerow of the data folder. It does not create
// the folder, and returns an error for a folder of another program.
func openControl(ctx context.Context, c *config.Config) (*control, error) {
	if ctl, err := dialControl(ctx, c.SocketPath()); err == nil {
		return ctl, nil
	}
	if err := c.RequireSettings(); err != nil {
		return nil, err
	}
	a, err := app.Offline(ctx, c)
	if exit := (*config.ExitError)(nil); errors.As(err, &exit) && exit.Code == config.ExitInUse {
		for end := time.Now().Add(startWait); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			if ctl, err := dialControl(ctx, c.SocketPath()); err == nil {
				return ctl, nil
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if first := a.FirstStart(); first.First && !c.Quiet {
		// The folder was new: these are not shown again.
		fmt.Fprintf(os.Stderr, "hedgerow: %s is a new data folder\n  API key            %s   (shown this once)\n  sign in            start hedgerow serve, then hedgerow project sign-in-link\n", c.Data, first.APIKey.Reveal())
	}
	ctl, err := dialControl(ctx, c.SocketPath())
	if err != nil {
		a.Close(ctx)
		return nil, fmt.Errorf("reach the data folder: %w", err)
	}
	ctl.app = a
	ctl.close = func() { a.Close(context.WithoutCancel(ctx)) }
	return ctl, nil
}

func dialControl(ctx context.Context, path string) (*control, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	_ = conn.Close()
	return &control{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, close: func() {}}, nil
}

// call sends in as JSON, if it is not nil, and reads the answer into out.
func (c *control) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	return c.send(ctx, method, path, "application/json", body, out)
}

// send sends a body of some kind and reads the JSON of the answer into out.
func (c *control) send(ctx context.Context, method, path, kind string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://hedgerow"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return event.NewError(event.CodeUnavailable, "hedgerow has stopped", "start it, or run the command again to work on its folder directly", err)
		}
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		var e struct {
			Error struct {
				Code    event.Code `json:"code"`
				Message string     `json:"message"`
				Hint    string     `json:"hint"`
			} `json:"error"`
		}
		if json.Unmarshal(b, &e) == nil && e.Error.Message != "" {
			err := event.NewError(e.Error.Code, e.Error.Message, e.Error.Hint, nil)
			if e.Error.Code == event.CodeInvalid {
				return config.Exit(config.ExitConfig, err) // an invalid command line
			}
			return err
		}
		return fmt.Errorf("%s %s: status %d", method, path, resp.StatusCode)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}
