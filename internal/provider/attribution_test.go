package provider_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

func TestAttributionFieldNames(t *testing.T) {
	got, err := provider.AttributionFields([]string{" feature", "", "tenant.id", "feature", "surface", "customer_id"})
	if want := []string{"feature", "tenant.id", "surface", "customer_id"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err := provider.AttributionFields([]string{""}); got != nil || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for name, words := range map[string]string{
		"model": "field of a provider's API", "messages": "field of a provider's API", "tools": "field of a provider's API", "input": "field of a provider's API",
		"Stream_Options": "field of a provider's API", "generationConfig": "field of a provider's API", "generation_config": "field of a provider's API", "safetySettings": "field of a provider's API",
		"inferenceConfig": "field of a provider's API", "anthropic_version": "field of a provider's API", "top_k": "field of a provider's API", "safety_identifier": "field of a provider's API",
		"user": "always read", "session": "always read", "session_id": "always read", "trace": "always read", "metadata": "always read",
		"prompt_variables": "hedgerow's own", "$set": "cannot be", "a b": "cannot be", `q"`: "cannot be", "ümlaut": "cannot be", strings.Repeat("x", 101): "cannot be",
	} {
		_, err := provider.AttributionFields([]string{"fine", name})
		var e *event.Error
		if !errors.As(err, &e) || e.Code != event.CodeInvalid || !strings.Contains(e.Message, words) || e.Hint == "" {
			t.Errorf("%s: %v, want %q in it", name, err, words)
		}
	}
	many := make([]string, 51)
	for i := range many {
		many[i] = "f" + strings.Repeat("x", i)
	}
	if _, err := provider.AttributionFields(many); err == nil {
		t.Error("51 names were accepted")
	}
}
