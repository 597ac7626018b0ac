package api

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
)

// importBillRoute takes exports of providers, which may be long.
const importBillRoute = "POST /api/v1/reconcile/imports"

// reconcileRoutes are the routes of bills.
func (a *API) reconcileRoutes() []route {
	return []route{
		{"GET /api/v1/reconcile", read, false, a.compareBill},
		{"GET /api/v1/reconcile/imports", read, false, a.listBills},
		{importBillRoute, admin, false, a.importBill},
		{"DELETE /api/v1/reconcile/imports/{import}", admin, false, a.eraseBill},
		{"POST /api/v1/reconcile/fetch", admin, false, a.fetchBill},
		{"GET /api/v1/reconcile/keys", admin, false, a.listAdminKeys},
		{"PUT /api/v1/reconcile/keys/{provider}", admin, false, a.setAdminKey},
		{"DELETE /api/v1/reconcile/keys/{provider}", admin, false, a.deleteAdminKey},
	}
}

// period reads UTC days. Without any it is the last 30 days, today among them.
func (a *API) period(from, to string) (start, end time.Time, err error) {
	today := a.now().UTC().Truncate(24 * time.Hour)
	start, end = today.AddDate(0, 0, -29), today.AddDate(0, 0, 1)
	for _, x := range []struct {
		name, value string
		at          *time.Time
	}{{"from", from, &start}, {"to", to, &end}} {
		if x.value == "" {
			continue
		}
		t, err := time.Parse(time.DateOnly, x.value)
		if err != nil {
			if t, err = time.Parse(time.RFC3339, x.value); err != nil {
				return start, end, event.Invalid(x.name+" is not a day", "write it as 2026-11-01; bills have UTC days")
			}
		}
		*x.at = t.UTC()
	}
	return start, end, nil
}

func (a *API) compareBill(r *http.Request, p Principal) (any, error) {
	from, to, err := a.period(r.FormValue("from"), r.FormValue("to"))
	if err != nil {
		return nil, err
	}
	limit, err := intParam(r.Form, "limit")
	if err != nil {
		return nil, err
	}
	page, err := intParam(r.Form, "page")
	if err != nil {
		return nil, err
	}
	if page < 0 || limit < 0 || limit > maxBillRows {
		return nil, event.Invalid("the page or its limit is out of range", fmt.Sprintf("pages begin at 1 and have at most %d rows", maxBillRows))
	}
	report, err := a.c.Bills.Compare(r.Context(), reconcile.Question{Project: p.ProjectID, Provider: r.FormValue("provider"), Account: r.FormValue("account"), From: from, To: to})
	if err != nil {
		return nil, err
	}
	report.Page(cmp.Or(page, 1), cmp.Or(limit, maxBillRows))
	return report, nil
}

// maxBillRows bounds the models, and the days by model, of a page of a comparison.
const maxBillRows = 1000

func (a *API) listBills(_ *http.Request, p Principal) (any, error) {
	return map[string]any{"imports": emptyList(a.c.Bills.Imports(p.ProjectID))}, nil
}

func (a *API) importBill(r *http.Request, p Principal) (any, error) {
	files, err := billFiles(r)
	if err != nil {
		return nil, err
	}
	list, err := a.c.Bills.Import(r.Context(), p.ProjectID, reconcile.Source{Account: r.FormValue("account")}, files...)
	if err != nil {
		return nil, err
	}
	return map[string]any{"imports": list}, nil
}

// billFiles reads one file, which is the body, or several of a form.
func billFiles(r *http.Request) ([]reconcile.File, error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "multipart/form-data" {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, billTooLarge(err)
		}
		return []reconcile.File{{Name: r.FormValue("name"), Data: b}}, nil
	}
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, event.NewError(event.CodeInvalid, "the form cannot be read", "send each file as a part of multipart/form-data", err)
	}
	var files []reconcile.File
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, billTooLarge(err)
		}
		if part.FileName() == "" {
			continue
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return nil, billTooLarge(err)
		}
		files = append(files, reconcile.File{Name: part.FileName(), Data: b})
	}
}

func billTooLarge(err error) error {
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return event.NewError(event.CodeTooLarge, "the files are larger than 64 MiB", "compress them with gzip, or export a shorter period", nil)
	}
	return event.NewError(event.CodeInvalid, "the body ended early", "send it again", err)
}

func (a *API) eraseBill(r *http.Request, p Principal) (any, error) {
	id := r.PathValue("import")
	if err := a.c.Bills.Delete(r.Context(), p.ProjectID, id); err != nil {
		return nil, err
	}
	return map[string]any{"deleted": id}, nil
}

// FetchBillInput says which bill to fetch.
type FetchBillInput struct {
	Provider string `json:"provider"`
	Account  string `json:"account"`
	From     string `json:"from"` // the first UTC day
	To       string `json:"to"`   // the day after the last
}

func (a *API) fetchBill(r *http.Request, p Principal) (any, error) {
	var in FetchBillInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	from, to, err := a.period(in.From, in.To)
	if err != nil {
		return nil, err
	}
	list, err := a.c.Bills.Fetch(r.Context(), p.ProjectID, in.Provider, in.Account, from, to)
	if err != nil {
		return nil, err
	}
	return map[string]any{"imports": list}, nil
}

func (a *API) listAdminKeys(_ *http.Request, p Principal) (any, error) {
	return map[string]any{"keys": a.c.Bills.Keys(p.ProjectID)}, nil
}

// AdminKeyInput keeps a provider's admin key.
type AdminKeyInput struct {
	Key string `json:"key"`
}

func (a *API) setAdminKey(r *http.Request, p Principal) (any, error) {
	var in AdminKeyInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	return done(a.c.Bills.SetKey(r.Context(), p.ProjectID, r.PathValue("provider"), strings.TrimSpace(in.Key)))
}

func (a *API) deleteAdminKey(r *http.Request, p Principal) (any, error) {
	return done(a.c.Bills.DeleteKey(r.Context(), p.ProjectID, r.PathValue("provider")))
}
