package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// MCP serves the tools on standard input and output, as MCP clients start
// local servers.
func MCP(c *config.Config) *cli.Command {
	return &cli.Command{
		Name:  "mcp",
		Usage: "serve hedgerow's MCP tools to an AI assistant on standard input and output",
		Flags: c.SubFlags(projectFlag()),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := c.LoadSub(cmd); err != nil {
				return err
			}
			b := &bridge{c: c, endpoint: "http://hedgerow/mcp" + projectQuery(cmd), idle: 500 * time.Millisecond}
			defer b.close()
			// A wrong folder or project is reported immediately on the terminal,
			// not only to the assistant.
			if err := b.check(ctx); err != nil {
				return err
			}
			return b.run(ctx, &sdk.IOTransport{Reader: os.Stdin, Writer: keepOpen{os.Stdout}})
		},
	}
}

// maxForward limits the number of concurrent messages.
const maxForward = 16

type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// bridge forwards messages between an MCP client on standard input and /mcp on
// the data folder's socket. Assistants run it for days, so it uses the folder
// only while needed: it looks for the running server with every message, and
// without one it opens the folder itself and closes it after an idle time. A
// server can be started and stopped meanwhile.
type bridge struct {
	c        *config.Config
	endpoint string
	idle     time.Duration

	mu    sync.Mutex
	own   *control // the folder, opened here; nil where it is not
	users int      // messages that are using own
	letGo *time.Timer
}

// acquire connects to the folder's hedgerow; release releases it.
func (b *bridge) acquire(ctx context.Context) (ctl *control, release func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.own == nil {
		b.c.Quiet = true
		ctl, err := openControl(ctx, b.c)
		if err != nil {
			return nil, nil, err
		}
		if ctl.app == nil {
			return ctl, ctl.http.CloseIdleConnections, nil
		}
		b.own = ctl
	}
	if b.letGo != nil {
		b.letGo.Stop()
	}
	b.users++
	return b.own, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.users--; b.users == 0 {
			b.letGo = time.AfterFunc(b.idle, b.release)
		}
	}, nil
}

func (b *bridge) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users == 0 && b.own != nil {
		b.own.http.CloseIdleConnections()
		b.own.close()
		b.own = nil
	}
}

func (b *bridge) close() {
	b.mu.Lock()
	b.users = 0
	b.mu.Unlock()
	b.release()
}

func (b *bridge) check(ctx context.Context) error {
	ctl, release, err := b.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	u, err := url.Parse(b.endpoint)
	if err != nil {
		return err
	}
	return ctl.call(ctx, http.MethodGet, "/api/v1/connections?"+u.RawQuery, nil, nil)
}

// run forwards messages until the client closes its end, and then waits for
// pending answers.
func (b *bridge) run(ctx context.Context, client sdk.Transport) error {
	conn, err := client.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxForward)
	for {
		msg, err := conn.Read(ctx)
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			wg.Wait()
			return nil
		case err != nil:
			wg.Wait()
			return event.NewError(event.CodeInvalid, "standard input is not JSON-RPC messages, one per line", "let an MCP client start hedgerow mcp; see docs/mcp.md", err)
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b.forward(ctx, conn, msg)
		})
	}
}

// forward forwards one message, and the response to the client. Requests are
// independent, so each has its own connection.
func (b *bridge) forward(ctx context.Context, client sdk.Connection, msg jsonrpc.Message) {
	req, _ := msg.(*jsonrpc.Request)
	call := req != nil && req.IsCall()
	err := b.exchange(ctx, client, msg, call)
	if err == nil || !call || ctx.Err() != nil {
		return
	}
	// Without an answer the client would wait forever.
	answer := &jsonrpc.Response{ID: req.ID}
	if wire := (*jsonrpc.Error)(nil); errors.As(err, &wire) {
		answer.Error = wire
	} else {
		e := event.AsError(err)
		if e.Code == event.CodeInternal {
			e = event.NewError(event.CodeUnavailable, "hedgerow did not answer", "check that hedgerow serve is running, and try again", nil)
		}
		answer.Error = &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: e.Message + ". What to do: " + e.Hint}
	}
	_ = client.Write(ctx, answer)
}

func (b *bridge) exchange(ctx context.Context, client sdk.Connection, msg jsonrpc.Message, call bool) error {
	ctl, release, err := b.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	server, err := (&sdk.StreamableClientTransport{Endpoint: b.endpoint, HTTPClient: &http.Client{Transport: explained{ctl.http.Transport}}, DisableStandaloneSSE: true, MaxRetries: -1}).Connect(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	if err := server.Write(ctx, msg); err != nil || !call {
		return err
	}
	for {
		got, err := server.Read(ctx)
		if err != nil {
			return err
		}
		if err := client.Write(ctx, got); err != nil {
			return nil // the client has disconnected
		}
		if _, last := got.(*jsonrpc.Response); last {
			return nil
		}
	}
}

// explained converts rejections that are not JSON-RPC to errors that are: those
// of the SDK's handler, in plain text, and those of the data folder's socket.
// Their texts would be lost otherwise.
type explained struct{ next http.RoundTripper }

func (e explained) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.next.RoundTrip(r)
	if err != nil || resp.StatusCode < 400 || resp.StatusCode >= 500 {
		return resp, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if _, err := jsonrpc.DecodeMessage(body); err != nil {
		why := &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: strings.TrimSpace(string(body))}
		var ours struct {
			Error struct{ Message, Hint string } `json:"error"`
		}
		switch {
		case json.Unmarshal(body, &ours) == nil && ours.Error.Message != "":
			why.Message = ours.Error.Message + ". What to do: " + ours.Error.Hint
		case strings.HasPrefix(why.Message, "JSON RPC not handled"):
			why.Code = jsonrpc.CodeMethodNotFound
		}
		// forward sets the id of its request.
		none, _ := jsonrpc.MakeID("refused")
		if body, err = jsonrpc.EncodeMessage(&jsonrpc.Response{ID: none, Error: why}); err != nil {
			return nil, err
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}
