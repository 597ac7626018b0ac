package api

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
)

// A file of examples may be long.
const (
	importRoute = "POST /api/v1/datasets/{dataset}/import"
	maxImport   = 32 << 20 // bytes
)

// datasetRoutes are the routes of datasets and their runs.
func (a *API) datasetRoutes() []route {
	return []route{
		{"GET /api/v1/datasets", read, false, a.listDatasets},
		{"POST /api/v1/datasets", write, false, a.createDataset},
		{"GET /api/v1/datasets/{dataset}", read, false, a.getDataset},
		{"DELETE /api/v1/datasets/{dataset}", write, false, a.deleteDataset},
		{"GET /api/v1/datasets/{dataset}/examples", read, false, a.listExamples},
		{"POST /api/v1/datasets/{dataset}/examples", write, false, a.addExample},
		{"DELETE /api/v1/datasets/{dataset}/examples/{example}", write, false, a.removeExample},
		{importRoute, write, false, a.importExamples},
		{"GET /api/v1/datasets/{dataset}/export", read, false, a.exportExamples},
		{"GET /api/v1/datasets/{dataset}/compare", read, false, a.compareRuns},
		{"GET /api/v1/datasets/{dataset}/runs", read, false, a.listRuns},
		{"POST /api/v1/datasets/{dataset}/runs", spend, false, a.startRun},
		{"GET /api/v1/datasets/{dataset}/runs/{run}", read, false, a.getRun},
		{"POST /api/v1/datasets/{dataset}/runs/{run}/cancel", write, false, a.cancelRun},
		{"POST /api/v1/datasets/{dataset}/runs/{run}/resume", spend, false, a.resumeRun},
		{"DELETE /api/v1/datasets/{dataset}/runs/{run}", write, false, a.deleteRun},
	}
}

func (a *API) listDatasets(_ *http.Request, p Principal) (any, error) {
	return map[string]any{"datasets": emptyList(a.c.Datasets.Sets(p.ProjectID))}, nil
}

// emptyList is a list that is [] in JSON where it has nothing.
func emptyList[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// DatasetInput makes a dataset.
type DatasetInput struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

func (a *API) createDataset(r *http.Request, p Principal) (any, error) {
	var in DatasetInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	s, err := a.c.Datasets.Create(r.Context(), p.ProjectID, in.Name, in.Description)
	if err != nil {
		return nil, err
	}
	return map[string]any{"dataset": s}, nil
}

func (a *API) getDataset(r *http.Request, p Principal) (any, error) {
	s, err := a.c.Datasets.Set(p.ProjectID, r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"dataset": s, "runs": emptyList(a.c.Datasets.Runs(p.ProjectID, s.ID))}, nil
}

func (a *API) deleteDataset(r *http.Request, p Principal) (any, error) {
	s, err := a.c.Datasets.Set(p.ProjectID, r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	if err := a.c.Datasets.Delete(r.Context(), p.ProjectID, s.ID); err != nil {
		return nil, err
	}
	return map[string]any{"deleted": s.ID}, nil
}

func (a *API) listExamples(r *http.Request, p Principal) (any, error) {
	if err := a.opens(r, p, "datasets"); err != nil {
		return nil, err
	}
	list, err := a.c.Datasets.Examples(r.Context(), p.ProjectID, r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"examples": emptyList(list)}, nil
}

// ExampleInput is a new example, or a generation to save as one.
type ExampleInput struct {
	dataset.Example
	FromGeneration string `json:"from_generation"` // uuid of its event; other fields lie over what it gives
}

func (a *API) addExample(r *http.Request, p Principal) (any, error) {
	var in ExampleInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	x := in.Example
	if in.FromGeneration != "" {
		if err := a.opens(r, p, "events"); err != nil {
			return nil, err
		}
		e, err := a.c.Query.Event(r.Context(), p.ProjectID, in.FromGeneration, true)
		if err != nil {
			return nil, err
		}
		from, err := dataset.FromGeneration(e)
		if err != nil {
			return nil, err
		}
		from.ID, from.Note, from.Expected = x.ID, x.Note, x.Expected
		if x.Variables != nil {
			from.Variables = x.Variables
		}
		if len(x.Messages) > 0 {
			from.Messages = x.Messages
		}
		x = from
	}
	list, err := a.c.Datasets.Add(r.Context(), p.ProjectID, r.PathValue("dataset"), x)
	if err != nil {
		return nil, err
	}
	return map[string]any{"example": list[0]}, nil
}

func (a *API) removeExample(r *http.Request, p Principal) (any, error) {
	if err := a.c.Datasets.Remove(r.Context(), p.ProjectID, r.PathValue("dataset"), r.PathValue("example")); err != nil {
		return nil, err
	}
	return map[string]any{"deleted": r.PathValue("example")}, nil
}

func (a *API) importExamples(r *http.Request, p Principal) (any, error) {
	list, err := dataset.ParseJSONL(r.Body)
	if err != nil {
		return nil, err
	}
	added, err := a.c.Datasets.Add(r.Context(), p.ProjectID, r.PathValue("dataset"), list...)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(added))
	for i, x := range added {
		ids[i] = x.ID
	}
	return map[string]any{"imported": len(added), "ids": ids}, nil
}

func (a *API) exportExamples(r *http.Request, p Principal) (any, error) {
	if err := a.opens(r, p, "datasets"); err != nil {
		return nil, err
	}
	s, err := a.c.Datasets.Set(p.ProjectID, r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := a.c.Datasets.WriteJSONL(r.Context(), &b, p.ProjectID, s.ID); err != nil {
		return nil, err
	}
	return file{s.ID + ".jsonl", "application/jsonl", b.Bytes()}, nil
}

// runOf is the run that a path names, which is of the dataset that it names.
func (a *API) runOf(r *http.Request, p Principal, id string) (dataset.Run, error) {
	s, err := a.c.Datasets.Set(p.ProjectID, r.PathValue("dataset"))
	if err != nil {
		return dataset.Run{}, err
	}
	run, err := a.c.Datasets.Run(p.ProjectID, id)
	if err == nil && run.SetID != s.ID {
		err = event.NewError(event.CodeNotFound, "the dataset has no such run", "list the dataset's runs to see which exist", nil)
	}
	return run, err
}

func (a *API) listRuns(r *http.Request, p Principal) (any, error) {
	s, err := a.c.Datasets.Set(p.ProjectID, r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"runs": emptyList(a.c.Datasets.Runs(p.ProjectID, s.ID))}, nil
}

func (a *API) startRun(r *http.Request, p Principal) (any, error) {
	if a.c.Runs == nil {
		return nil, errNoServer()
	}
	var in dataset.Plan
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	run, err := a.c.Runs.Start(r.Context(), p.ProjectID, r.PathValue("dataset"), in)
	if err != nil {
		return nil, err
	}
	return map[string]any{"run": run}, nil
}

func (a *API) getRun(r *http.Request, p Principal) (any, error) {
	if err := a.opens(r, p, "datasets"); err != nil {
		return nil, err
	}
	run, err := a.runOf(r, p, r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	results, err := a.c.Datasets.Results(r.Context(), p.ProjectID, run.ID)
	if err != nil {
		return nil, err
	}
	return map[string]any{"run": run, "results": emptyList(results), "checks": dataset.Tallies(results)}, nil
}

func (a *API) cancelRun(r *http.Request, p Principal) (any, error) {
	if a.c.Runs == nil {
		return nil, errNoServer()
	}
	run, err := a.runOf(r, p, r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	if err := a.c.Runs.Cancel(r.Context(), p.ProjectID, run.ID); err != nil {
		return nil, err
	}
	return map[string]any{"cancelled": run.ID}, nil
}

func (a *API) resumeRun(r *http.Request, p Principal) (any, error) {
	if a.c.Runs == nil {
		return nil, errNoServer()
	}
	run, err := a.runOf(r, p, r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	if run, err = a.c.Runs.Resume(r.Context(), p.ProjectID, run.ID); err != nil {
		return nil, err
	}
	return map[string]any{"run": run}, nil
}

func (a *API) deleteRun(r *http.Request, p Principal) (any, error) {
	run, err := a.runOf(r, p, r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	if err := a.c.Datasets.DeleteRun(r.Context(), p.ProjectID, run.ID); err != nil {
		return nil, err
	}
	return map[string]any{"deleted": run.ID}, nil
}

func (a *API) compareRuns(r *http.Request, p Principal) (any, error) {
	one, other := strings.TrimSpace(r.FormValue("a")), strings.TrimSpace(r.FormValue("b"))
	if one == "" || other == "" {
		return nil, event.Invalid("the runs to compare are missing", `set "a" and "b" to ids of runs of this dataset`)
	}
	for _, id := range []string{one, other} {
		if _, err := a.runOf(r, p, id); err != nil {
			return nil, err
		}
	}
	if err := a.opens(r, p, "datasets"); err != nil {
		return nil, err
	}
	return a.c.Datasets.Compare(r.Context(), p.ProjectID, one, other)
}
