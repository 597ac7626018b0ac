package app

import (
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/internal/price"
)

// TestPriceWords: the page of an event says how old the prices are.
func TestPriceWords(t *testing.T) {
	a := new(App)
	a.prices.Store(price.Default())
	_, date := price.Default().Dates()
	words := a.priceWords("openai", "gpt-4.1")
	if !strings.Contains(words, "input $2, cache read $0.5, output $8") || !strings.Contains(words, "The table is of "+date.Format("2006-01-02")+", ") || !strings.HasSuffix(words, " old.") && !strings.HasSuffix(words, " of today.") {
		t.Errorf("got %q", words)
	}
	if words := a.priceWords("openai", "no-such-model"); words != "" {
		t.Errorf("a model without a price: %q", words)
	}
}
