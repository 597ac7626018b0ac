package main

import (
	"os"
	"testing"
)

// TestForm compares form.go with event.Fields.
func TestForm(t *testing.T) {
	want, err := form()
	if err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile("../form.go"); err != nil || string(have) != string(want) {
		t.Errorf("form.go is not what event.Fields says: run make generate (%v)", err)
	}
}
