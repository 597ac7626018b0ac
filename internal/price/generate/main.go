// Command generate writes the built-in prices: genai.json from the data of
// genai-prices, and litellm.json from LiteLLM's price file, for what the first
// lacks. "make prices" fetches both by the lockfile next to this file and runs
// it. corrections.json is written by hand.
//
// Both sources are data under the MIT license; the files say whose and of which day.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/hedgerow/hedgerow/internal/price"
)

func main() {
	genai := flag.String("genai", "", "prices in the form of genai-prices' feed")
	genaiVersion := flag.String("genai-version", "", "version of the package that they are from")
	litellm := flag.String("litellm", "", "LiteLLM's model_prices_and_context_window.json")
	litellmVersion := flag.String("litellm-version", "", "version of the package that it is from")
	date := flag.String("date", "", "day of the data, as 2026-01-31")
	flag.Parse()
	if err := run(*genai, *genaiVersion, *litellm, *litellmVersion, *date); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(genai, genaiVersion, litellm, litellmVersion, date string) error {
	day, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return fmt.Errorf("read -date: %w", err)
	}
	f, err := os.Open(genai)
	if err != nil {
		return err
	}
	defer f.Close()
	rows, err := price.ParseGenAI(f, day)
	if err != nil {
		return err
	}
	base := price.Overlay{
		Source: "https://pypi.org/project/genai-prices/" + genaiVersion,
		Notice: "data of genai-prices " + genaiVersion + ", Copyright (c) Pydantic Services Inc., MIT license; converted by hedgerow",
		Date:   day, Rows: rows,
	}
	if err := price.Save("internal/price/genai.json", base); err != nil {
		return err
	}
	b, err := os.ReadFile(litellm)
	if err != nil {
		return err
	}
	more, err := fromLiteLLM(b)
	if err != nil {
		return err
	}
	more = price.MissingRows(rows, more)
	fmt.Printf("%d models of genai-prices %s, %d of LiteLLM %s that it lacks or has in less detail\n", len(rows), genaiVersion, len(more), litellmVersion)
	return price.Save("internal/price/litellm.json", price.Overlay{
		Source: "https://pypi.org/project/litellm/" + litellmVersion,
		Notice: "model_prices_and_context_window.json of LiteLLM " + litellmVersion + ", Copyright (c) Berri AI, MIT license; converted by hedgerow, without what genai-prices has",
		Date:   day, Rows: more,
	})
}
