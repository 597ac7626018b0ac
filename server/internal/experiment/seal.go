package experiment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Version is a definition as it was from one time on. The first is sealed when
// the experiment starts; each later change makes another.
type Version struct {
	Number int       `json:"number"`
	Hash   string    `json:"sha256"` // of the definition's canonical JSON; see canonical
	At     time.Time `json:"at"`
	By     string    `json:"by"` // the author, as in the audit log
	// Definition is the text that Hash is of, in the first version. Changes lead from it
	// to the others.
	Definition string           `json:"definition,omitempty"`
	Changes    []Change         `json:"changes,omitempty"`
	Users      event.Opt[int64] `json:"users"` // whose data was there by then; null if the store did not answer
}

// Change is one field that a version changed.
type Change struct {
	Field string `json:"field"` // as in the API; of a guardrail, with its metric
	From  string `json:"from"`  // "" is none
	To    string `json:"to"`
}

// Words describes a change: "description: from … to …".
func (c Change) Words() string {
	switch {
	case c.From == "":
		return c.Field + ": " + c.To + " (new)"
	case c.To == "":
		return c.Field + ": removed (was " + c.From + ")"
	}
	return c.Field + ": from " + c.From + " to " + c.To
}

// Record says when the definition was made, and what was changed since.
type Record struct {
	Sealed        bool      `json:"sealed"` // at the start; not so of experiments that an older hedgerow started
	Hash          string    `json:"sha256"` // of the sealed definition; "" without
	SealedAt      time.Time `json:"sealed_at,omitzero"`
	MadeAfterData bool      `json:"made_after_data"` // the experiment counts data from before the definition was sealed
	Notes         []string  `json:"notes"`           // what a reader should know before the result
	Versions      []Version `json:"versions"`        // the sealed one first
}

const (
	// maxVersions bounds the changes that a started experiment can have.
	maxVersions = 100
	// atOnce is the time between the start that a caller sets and its arrival here.
	atOnce = 2 * time.Second
	// countData bounds the query for the users whose data is there.
	countData = 5 * time.Second
)

// canonical is a definition as JSON with the keys of every object sorted and
// without white space, in the manner of RFC 8785, and with the start.
func canonical(d *Definition) (text, hash string, err error) {
	raw, err := json.Marshal(struct {
		Spec
		Started time.Time `json:"started_at"`
	}{d.Spec, d.Started})
	if err != nil {
		return "", "", fmt.Errorf("encode definition: %w", err)
	}
	var v any
	in := json.NewDecoder(bytes.NewReader(raw))
	in.UseNumber() // keeps numbers as they were written
	if err := in.Decode(&v); err != nil {
		return "", "", fmt.Errorf("decode definition: %w", err)
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	if err := out.Encode(v); err != nil { // it sorts the keys of maps
		return "", "", fmt.Errorf("encode definition: %w", err)
	}
	b.Truncate(b.Len() - 1) // the new line
	sum := sha256.Sum256(b.Bytes())
	return b.String(), hex.EncodeToString(sum[:]), nil
}

// seal makes the first version, as the experiment starts.
func (d *Definition) seal(actor string, now time.Time, users event.Opt[int64]) error {
	text, hash, err := canonical(d)
	if err != nil {
		return err
	}
	d.Versions = []Version{{Number: 1, Hash: hash, At: now, By: actor, Definition: text, Users: users}}
	return nil
}

// sealed is the audit log's note of the first version: a copy of the hash that
// changes of the experiment do not reach.
func (d *Definition) sealed() string { return "sha256 " + d.Versions[0].Hash }

// edited adds a version to a started experiment whose definition differs from what it
// was before. Of an experiment that was not sealed the second is the first one known.
func (d *Definition) edited(before *Spec, actor string, now time.Time, users event.Opt[int64]) error {
	list, err := changes(before, &d.Spec)
	if err != nil || len(list) == 0 {
		return err
	}
	if len(d.Versions) >= maxVersions {
		return event.NewError(event.CodeConflict, fmt.Sprintf("the definition was already changed %d times since the start", maxVersions-1), "stop the experiment and create another", nil)
	}
	_, hash, err := canonical(d)
	if err != nil {
		return err
	}
	number := 2
	if n := len(d.Versions); n > 0 {
		number = d.Versions[n-1].Number + 1
	}
	d.Versions = append(slices.Clone(d.Versions), Version{Number: number, Hash: hash, At: now, By: actor, Changes: list, Users: users})
	return nil
}

// changes lists the fields in which two definitions differ.
func changes(before, after *Spec) ([]Change, error) {
	fields := func(s *Spec) (map[string]string, error) {
		raw, err := json.Marshal(s)
		if err != nil {
			return nil, fmt.Errorf("encode definition: %w", err)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil {
			return nil, fmt.Errorf("decode definition: %w", err)
		}
		out := make(map[string]string)
		for name, v := range members {
			if name == "guardrails" {
				continue
			}
			var text string
			if err := json.Unmarshal(v, &text); err != nil {
				text = string(v) // no text
			}
			out[name] = text
		}
		for _, g := range s.Guardrails {
			name := "guardrail " + g.Label()
			if g.Relative {
				name += ", difference"
			}
			out[name] = g.Words(s.Variants[0].Key)
		}
		return out, nil
	}
	from, err := fields(before)
	if err != nil {
		return nil, err
	}
	to, err := fields(after)
	if err != nil {
		return nil, err
	}
	names := maps.Clone(from)
	maps.Copy(names, to)
	var out []Change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if from[name] != to[name] {
			out = append(out, Change{Field: name, From: from[name], To: to[name]})
		}
	}
	return out, nil
}

// data counts the users whose data an experiment has by now. An edit does not wait for
// a store that is slow.
func (r *Registry) data(ctx context.Context, d Definition) event.Opt[int64] {
	if r.o.Ask == nil || d.Started.IsZero() {
		return event.Opt[int64]{}
	}
	ctx, cancel := context.WithTimeout(ctx, countData)
	defer cancel()
	q := d.question(r.now().UTC(), query.ByNone)
	q.Metrics = nil
	x, err := r.o.Ask.Experiment(ctx, q)
	if err != nil {
		r.log.Warn("the data at a change of an experiment could not be counted", "experiment", d.ID, "err", err)
		return event.Opt[int64]{}
	}
	var users int64
	for _, c := range x.Cells {
		users += c.Users
	}
	return event.Some(users)
}

// record describes the definition's history.
func (j *judging) record() Record {
	d := j.d
	r := Record{Notes: []string{}, Versions: slices.Clone(d.Versions)}
	if d.Started.IsZero() {
		r.Versions = []Version{}
		return r
	}
	if len(d.Versions) == 0 || d.Versions[0].Number != 1 {
		r.Notes = append(r.Notes, "The definition was not sealed at the start: an older version of hedgerow started the experiment, and changes made with it are not recorded.")
		if r.Versions == nil {
			r.Versions = []Version{}
		}
	} else {
		v := d.Versions[0]
		r.Sealed, r.Hash, r.SealedAt = true, v.Hash, v.At
	}
	// Without a seal, the definition was at least not there before it was created.
	made := r.SealedAt
	if !r.Sealed {
		made = d.Created
	}
	if made.Sub(d.Started) > atOnce {
		known := event.Opt[int64]{}
		if r.Sealed {
			known = d.Versions[0].Users
		}
		for _, c := range j.cells {
			r.MadeAfterData = r.MadeAfterData || c != nil && c.Users > 0 && c.First.Before(made)
		}
		r.MadeAfterData = r.MadeAfterData || known.Value > 0
		when := fmt.Sprintf("it was made on %s and counts data from %s on", made.UTC().Format("2 January 2006, 15:04 UTC"), d.Started.UTC().Format("2 January 2006, 15:04 UTC"))
		if r.MadeAfterData {
			n := ""
			if known.Value > 0 { // 0: the data of that time was sent later
				n = fmt.Sprintf(", when %s users were already there", count(known.Value))
			}
			r.Notes = append(r.Notes, "This definition was made after the data: "+when+n+". Metrics, guardrails and planned users may have been chosen by what the data showed, so the stated error does not hold.")
		}
	}
	if n := len(d.Versions); n > 0 && len(d.Versions[n-1].Changes) > 0 {
		edits := n
		if r.Sealed {
			edits--
		}
		times := strconv.Itoa(edits) + " times"
		if edits == 1 {
			times = "once"
		}
		r.Notes = append(r.Notes, "The definition was changed "+times+" after the start.")
	}
	return r
}
