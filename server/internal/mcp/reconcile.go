package mcp

import (
	"context"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
)

type reconcileIn struct {
	Provider string `json:"provider" jsonschema:"whose bill"`
	From     string `json:"from,omitempty" jsonschema:"first UTC day, such as 2026-11-01; default: the last 30 days"`
	To       string `json:"to,omitempty" jsonschema:"day after the last UTC day; at most 92 days"`
	Account  string `json:"account,omitempty" jsonschema:"only charges of this account; default: all accounts"`
	By       string `json:"by,omitempty" jsonschema:"rows by model (the default), day, or day_and_model"`
}

type billCause struct {
	Reason string    `json:"reason"`
	Label  string    `json:"label"`
	USD    query.USD `json:"usd,omitzero" jsonschema:"omitted if it cannot be computed; it is then part of open"`
	Detail string    `json:"detail,omitempty"`
}

type billRow struct {
	Day           string      `json:"day,omitempty"`
	Model         string      `json:"model,omitempty"`
	ProviderUSD   query.USD   `json:"provider_usd,omitzero" jsonschema:"omitted if no bill is imported"`
	HedgerowUSD   query.USD   `json:"hedgerow_usd,omitzero"`
	AtLeast       bool        `json:"hedgerow_at_least,omitempty" jsonschema:"true: the calls cost at least hedgerow_usd, since some have no known cost"`
	Difference    query.USD   `json:"difference_usd,omitzero"`
	Causes        []billCause `json:"causes,omitempty" jsonschema:"they add up to the difference"`
	ProviderCalls event.Int   `json:"provider_calls,omitzero"`
	Calls         int64       `json:"calls"`
	UncostedCalls int64       `json:"uncosted_calls,omitempty" jsonschema:"recorded calls of unknown cost"`
}

type reconcileOut struct {
	Provider string    `json:"provider"`
	From     string    `json:"from"`
	To       string    `json:"to" jsonschema:"the day after the last"`
	Total    billRow   `json:"total" jsonschema:"over the days with a bill"`
	Rows     []billRow `json:"rows,omitempty" jsonschema:"at most 200"`
	RowCount int       `json:"row_count" jsonschema:"number of all rows; total is their sum"`
	NoBill   []string  `json:"days_without_bill,omitempty" jsonschema:"days without imported costs"`
	NoUsage  []string  `json:"days_without_usage,omitempty" jsonschema:"days without imported quantities, so tokens cannot be compared"`
}

type billImport struct {
	ID       string    `json:"id"`
	Report   string    `json:"report"`
	Provider string    `json:"provider"`
	Accounts []string  `json:"accounts"`
	At       time.Time `json:"imported_at"`
	From     string    `json:"from"`
	To       string    `json:"to"`
	DaysUsed int       `json:"days_in_use"`
	Lines    int       `json:"lines"`
	USD      query.USD `json:"usd,omitzero" jsonschema:"omitted for reports without amounts"`
	Unknown  []string  `json:"unknown_columns,omitempty" jsonschema:"ignored columns"`
	Notes    []string  `json:"notes,omitempty"`
}

type billsOut struct {
	Imports []billImport `json:"imports"`
}

type fetchBillIn struct {
	Provider string `json:"provider" jsonschema:"whose bill"`
	From     string `json:"from,omitempty" jsonschema:"first UTC day, such as 2026-11-01; default: the last 30 days"`
	To       string `json:"to,omitempty" jsonschema:"day after the last UTC day; at most 92 days"`
	Account  string `json:"account,omitempty" jsonschema:"account name, if you have several accounts with the provider"`
}

type importBillIn struct {
	Content string `json:"content" jsonschema:"the export as text, JSON or CSV, unchanged"`
	Name    string `json:"name,omitempty" jsonschema:"name of the file"`
	Account string `json:"account,omitempty" jsonschema:"account name, if you have several accounts with the provider"`
}

type deleteBillIn struct {
	ID string `json:"id" jsonschema:"id of the import"`
}

type deletedBill struct {
	Deleted string `json:"deleted"`
}

func (s *Server) addReconcileTools() {
	add(s, spec{name: "reconcile_bill", title: "Compare a provider's bill", need: read,
		description: "Compares a provider's imported bill with the recorded cost, by UTC day and model, with what explains the difference: calls outside the gateway, unknown prices, tiers, cached tokens, tools, rounding, and the open remainder. Begin with list_bills: without an imported bill there is nothing to compare.",
		input: func(p map[string]*jsonschema.Schema) {
			enum(p["provider"], reconcile.Providers...)
			enum(p["by"], "model", "day", "day_and_model")
		}}, s.reconcileBill)
	add(s, spec{name: "list_bills", title: "List imported bills", need: read, description: "The imported exports of providers, with their days and the ignored columns."}, s.listBills)
	add(s, spec{name: "import_bill", title: "Import a bill", need: admin, destructive: true,
		description: "Imports an export of usage or costs: OpenAI, Anthropic, OpenRouter, AWS Cost and Usage Report. It replaces earlier imports of the same report, account and day. Large files are imported with hedgerow reconcile import."}, s.importBill)
	add(s, spec{name: "fetch_bill", title: "Fetch a bill", need: admin, destructive: true, open: true,
		description: "Fetches a provider's usage and costs with its stored admin key, and imports them. It replaces earlier imports of the same days.",
		input:       func(p map[string]*jsonschema.Schema) { enum(p["provider"], reconcile.Fetchable...) }}, s.fetchBill)
	add(s, spec{name: "delete_bill", title: "Delete an imported bill", need: admin, destructive: true, description: "Deletes an import. Ask the user first."}, s.deleteBill)
}

func rowOfBill(r reconcile.Row) billRow {
	out := billRow{Day: r.Day, Model: r.Model, ProviderUSD: r.ProviderUSD, HedgerowUSD: r.HedgerowUSD, AtLeast: r.AtLeast, Difference: r.Difference, ProviderCalls: r.ProviderCalls, Calls: r.Calls, UncostedCalls: r.UncostedCalls}
	for _, c := range r.Causes {
		out.Causes = append(out.Causes, billCause{string(c.Reason), c.Label, c.USD, c.Detail})
	}
	return out
}

// billPeriod reads UTC days. Without any it is the last 30 days.
func (s *Server) billPeriod(from, to string) (start, end time.Time, err error) {
	today := s.now().UTC().Truncate(24 * time.Hour)
	start, end = today.AddDate(0, 0, -29), today.AddDate(0, 0, 1)
	if from != "" {
		if start, err = time.Parse(time.DateOnly, from); err != nil {
			return start, end, event.Invalid("from is not a day", "use a day such as 2026-11-01")
		}
	}
	if to != "" {
		if end, err = time.Parse(time.DateOnly, to); err != nil {
			return start, end, event.Invalid("to is not a day", "use a day such as 2026-12-01")
		}
	}
	return start, end, nil
}

func (s *Server) reconcileBill(ctx context.Context, who caller, in reconcileIn) (out reconcileOut, err error) {
	from, to, err := s.billPeriod(in.From, in.To)
	if err != nil {
		return out, err
	}
	r, err := s.c.Bills.Compare(ctx, reconcile.Question{Project: who.projectID, Provider: in.Provider, Account: in.Account, From: from, To: to})
	if err != nil {
		return out, err
	}
	out = reconcileOut{Provider: r.Provider, From: r.From, To: r.To, Total: rowOfBill(r.Total), NoBill: r.NoBill, NoUsage: r.NoUsage}
	rows := r.Models
	switch in.By {
	case "", "model":
	case "day":
		rows = r.Days
	case "day_and_model":
		rows = r.Cells
	default:
		return out, event.Invalid("by is unknown", "use model, day or day_and_model")
	}
	out.RowCount = len(rows)
	for _, row := range rows[:min(len(rows), maxBillRows)] {
		out.Rows = append(out.Rows, rowOfBill(row))
	}
	return out, nil
}

// maxBillRows bounds the rows of a comparison: a model reads them.
const maxBillRows = 200

func billsOf(list []reconcile.Import) billsOut {
	out := billsOut{Imports: []billImport{}}
	for _, m := range list {
		out.Imports = append(out.Imports, billImport{m.ID, string(m.Feed), m.Provider, m.Accounts, m.At, m.From, m.To, m.DaysUsed, m.Lines, m.USD, m.Unknown, m.Notes})
	}
	return out
}

func (s *Server) listBills(_ context.Context, who caller, _ noArguments) (billsOut, error) {
	return billsOf(s.c.Bills.Imports(who.projectID)), nil
}

func (s *Server) importBill(ctx context.Context, who caller, in importBillIn) (billsOut, error) {
	list, err := s.c.Bills.Import(ctx, who.projectID, reconcile.Source{Account: in.Account}, reconcile.File{Name: in.Name, Data: []byte(in.Content)})
	return billsOf(list), err
}

func (s *Server) fetchBill(ctx context.Context, who caller, in fetchBillIn) (billsOut, error) {
	from, to, err := s.billPeriod(in.From, in.To)
	if err != nil {
		return billsOut{}, err
	}
	list, err := s.c.Bills.Fetch(ctx, who.projectID, in.Provider, in.Account, from, to)
	return billsOf(list), err
}

func (s *Server) deleteBill(ctx context.Context, who caller, in deleteBillIn) (deletedBill, error) {
	return deletedBill{in.ID}, s.c.Bills.Delete(ctx, who.projectID, in.ID)
}
