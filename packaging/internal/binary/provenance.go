package binary

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// ProvenanceFile is the statement of how a release's files were built. It is not
// signed; the release workflow adds an attestation that is.
const ProvenanceFile = "provenance.intoto.json"

// Statement is an in-toto statement, version 1, with SLSA's provenance, version 1.
// https://slsa.dev/spec/v1.0/provenance describes its fields.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

// Subject is a file that the statement is about.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string            `json:"buildType"`
	ExternalParameters   map[string]string `json:"externalParameters"`
	InternalParameters   map[string]string `json:"internalParameters"`
	ResolvedDependencies []dependency      `json:"resolvedDependencies"`
}

type dependency struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

type runDetails struct {
	Builder  builder  `json:"builder"`
	Metadata metadata `json:"metadata"`
}

type builder struct {
	ID string `json:"id"`
}

type metadata struct {
	StartedOn  time.Time `json:"startedOn"`
	FinishedOn time.Time `json:"finishedOn"`
}

const repository = "https://github.com/hedgerow/hedgerow"

// WriteProvenance writes [ProvenanceFile] for files of a folder that were built from
// started to finished.
func WriteProvenance(s Source, dir string, files []string, started, finished time.Time) error {
	st := Statement{Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1"}
	for _, f := range files {
		sum, err := Sum(filepath.Join(dir, f))
		if err != nil {
			return err
		}
		st.Subject = append(st.Subject, Subject{f, map[string]string{"sha256": sum}})
	}
	st.Predicate = predicate{
		buildDefinition{
			BuildType:            repository + "/blob/main/docs/install.md#building-a-release",
			ExternalParameters:   map[string]string{"version": s.Version, "source": "git+" + repository},
			InternalParameters:   map[string]string{"go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH},
			ResolvedDependencies: []dependency{{"git+" + repository, map[string]string{"gitCommit": s.Commit}}},
		},
		// This does not verify which machine has run it.
		runDetails{builder{repository + "/blob/main/docs/install.md#building-a-release"}, metadata{started.UTC().Truncate(time.Second), finished.UTC().Truncate(time.Second)}},
	}
	b, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ProvenanceFile), append(b, '\n'), 0o644)
}
