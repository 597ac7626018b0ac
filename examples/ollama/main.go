// Command ollama asks a local model through LangChainGo, with the answer streamed.
// go-openai and every other client that lets one set its http.Client go the same way.
//
//	HEDGEROW_API_KEY=phc_… HEDGEROW_HOST=http://127.0.0.1:4100 go run ./examples/ollama
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/tmc/langchaingo/llms"
	"github.com/tmc/langchaingo/llms/ollama"

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

	server := os.Getenv("OLLAMA_URL")
	if server == "" {
		server = "http://127.0.0.1:11434"
	}
	llm, err := ollama.New(ollama.WithServerURL(server), ollama.WithModel("llama3.2"), ollama.WithHTTPClient(&http.Client{Transport: client.Transport(nil)}))
	if err != nil {
		log.Print(err)
		return
	}
	ctx = hedgerow.WithSurface(hedgerow.WithUser(ctx, "ada"), "Chat")
	_, err = llms.GenerateFromSinglePrompt(ctx, llm, "What is a hedgerow?", llms.WithStreamingFunc(func(_ context.Context, chunk []byte) error {
		_, err := os.Stdout.Write(chunk)
		return err
	}))
	fmt.Println()
	if err != nil {
		log.Print(err)
	}
}
