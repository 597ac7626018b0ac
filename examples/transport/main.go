// Command transport calls a model with nothing but net/http and captures the call:
// the way for every client that lets one set its http.Client.
//
//	OPENAI_API_KEY=… HEDGEROW_API_KEY=phc_… HEDGEROW_HOST=http://127.0.0.1:4100 go run ./examples/transport
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/hedgerow/hedgerow"
)

func main() {
	ctx := context.Background()
	client, err := hedgerow.New(hedgerow.Config{})
	if err != nil {
		log.Print(err)
	}
	defer func() {
		if err := client.Close(ctx); err != nil {
			log.Print(err)
		}
	}()
	h := &http.Client{Transport: client.Transport(http.DefaultTransport)}

	base := os.Getenv("OPENAI_BASE_URL")
	if base == "" {
		base = "https://api.openai.com/v1"
	}
	req, err := http.NewRequestWithContext(hedgerow.WithTags(ctx, "production"), http.MethodPost, base+"/chat/completions",
		strings.NewReader(`{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"What is a hedgerow?"}],"user":"ada"}`))
	if err != nil {
		log.Print(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+os.Getenv("OPENAI_API_KEY"))
	res, err := h.Do(req)
	if err != nil {
		log.Print(err)
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(res.Status, len(body) > 0, err)
}
