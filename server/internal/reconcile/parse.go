package reconcile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/hedgerow/hedgerow/event"
)

// File is an export as it was downloaded.
type File struct {
	Name string
	Data []byte
	Feed Feed // of pages whose results may all be empty; "" is found from the results
}

// Bounds of files.
const (
	MaxFile   = 64 << 20 // bytes of an upload: all files of an import together
	maxPlain  = 1 << 30  // bytes of a file without its compression
	maxJSON   = 128 << 20
	maxFields = 2000    // columns of a CSV file
	maxRecord = 4 << 20 // bytes of a row of a CSV file, or of a result in JSON
	maxNested = 4       // lists of pages in lists
)

// format reads the records of one kind of export.
type format struct {
	name  string // for users: "OpenAI costs"
	known func(field string) bool
	// is reports whether records with these fields are of the format.
	is func(has func(string) bool) bool
	// feed is the feed of a record.
	feed func(r record) Feed
	// read adds the lines of a record. A record without an amount covers its day.
	read func(r record, c *collector) error
}

var formats = []format{openAICosts, openAIUsageFormat, anthropicCosts, anthropicUsage, openRouterCalls, openRouterDays, awsCUR}

// accepted names what can be imported, for errors.
const accepted = "import one of: OpenAI costs or usage (API pages, CSV), Anthropic usage or cost report (API pages, console CSV), OpenRouter activity (API, CSV), AWS Cost and Usage Report (CSV, gzip)"

// Parse reads files, each JSON or CSV, plain or gzip, and returns one export per feed.
// Files of one feed are added up: pages of an API, parts of a report. The same file
// counts once. Errors are [*event.Error].
func Parse(files ...File) ([]Export, error) {
	p := parser{feeds: make(map[Feed]*collector)}
	var seen [][]byte
	for _, f := range files {
		if slices.ContainsFunc(seen, func(b []byte) bool { return bytes.Equal(b, f.Data) }) {
			continue
		}
		seen = append(seen, f.Data)
		if err := p.file(f); err != nil {
			e := event.AsError(err)
			return nil, event.NewError(e.Code, nameOfFile(f.Name)+": "+e.Message, e.Hint, e.Err)
		}
	}
	if len(p.order) == 0 {
		return nil, event.Invalid("the files have no data", accepted)
	}
	out := make([]Export, len(p.order))
	for i, feed := range p.order {
		out[i] = p.feeds[feed].export()
	}
	return out, nil
}

func nameOfFile(name string) string {
	if name == "" {
		return "the file"
	}
	return clean(name)
}

type parser struct {
	feeds map[Feed]*collector
	order []Feed
	hint  Feed // of the file being read
}

// collector returns the lines of a feed.
func (p *parser) collector(feed Feed) *collector {
	c := p.feeds[feed]
	if c == nil {
		c = newCollector(feed)
		p.feeds[feed], p.order = c, append(p.order, feed)
	}
	return c
}

func (p *parser) file(f File) error {
	p.hint = f.Feed
	var r io.Reader = bytes.NewReader(f.Data)
	if bytes.HasPrefix(f.Data, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return event.Invalid("the gzip file is damaged", "download it again")
		}
		defer z.Close()
		r = unpacked{z}
	}
	b := bufio.NewReaderSize(&bounded{r, maxPlain, errTooLong}, 64<<10)
	head, _ := b.Peek(512)
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case len(head) == 0:
		return event.Invalid("the file is empty", accepted)
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return event.Invalid("this is a zip file", "unpack it and import the files in it")
	case bytes.HasPrefix(head, []byte("PAR1")):
		return event.Invalid("this is a Parquet file", "create the data export with the format CSV (text/csv, gzip)")
	case head[0] == '{' || head[0] == '[':
		return p.json(b)
	case head[0] == '<':
		return event.Invalid("this is a web page, not an export", accepted)
	}
	return p.csv(b)
}

// unpacked is a reader of a gzip file.
type unpacked struct{ r io.Reader }

func (u unpacked) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = event.NewError(event.CodeInvalid, "the gzip file is damaged", "download it again", err)
	}
	return n, err
}

// bounded is a reader that fails rather than ends at its bound.
type bounded struct {
	r    io.Reader
	left int64
	err  error // at the bound
}

var (
	errTooLong = event.NewError(event.CodeTooLarge, "the file is too large", "export a shorter period", nil)
	errRecord  = errors.New("a record is too long")
)

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

// collect passes one record to its format.
func (p *parser) collect(f *format, r record) (*collector, error) {
	c := p.collector(f.feed(r))
	return c, f.read(r, c)
}

func formatOf(has func(string) bool) *format {
	for i := range formats {
		if formats[i].is(has) {
			return &formats[i]
		}
	}
	return nil
}

func (p *parser) csv(b *bufio.Reader) error {
	if head, _ := b.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3)
	}
	head, _ := b.Peek(16 << 10)
	first, _, _ := bytes.Cut(bytes.TrimLeft(head, "\r\n"), []byte("\n"))
	row := &bounded{b, maxRecord, errRecord}
	c := csv.NewReader(row)
	c.Comma, c.ReuseRecord, c.FieldsPerRecord = ',', true, -1
	for _, sep := range []rune{'\t', ';'} {
		if strings.ContainsRune(string(first), sep) && !bytes.ContainsRune(first, ',') {
			c.Comma = sep
		}
	}
	names, err := c.Read()
	if err != nil {
		return csvError(err, 1)
	}
	names = slices.Clone(names)
	if len(names) > maxFields {
		return event.Invalid("the CSV file has too many columns", accepted)
	}
	columns := make([]string, len(names))
	has := make(map[string]bool, len(names))
	for i, n := range names {
		columns[i] = columnName(n)
		has[columns[i]] = true
	}
	f := formatOf(func(n string) bool { return has[n] })
	if f == nil {
		return event.Invalid("the columns match no known export: "+firstNames(names), accepted)
	}
	for i, n := range names {
		if f.known(columns[i]) && slices.Contains(names[:i], n) {
			return event.Invalid("the column "+event.FirstChars(clean(n), 60)+" appears twice", "import the file as the provider exported it, without changes")
		}
	}
	values := make(map[string]string, len(columns))
	var into *collector
	rows, line := 0, 1
	for ; ; rows++ {
		row.left = maxRecord
		fields, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return csvError(err, line+1)
		}
		if line, _ = c.FieldPos(0); len(fields) == 1 && strings.TrimSpace(fields[0]) == "" {
			continue
		}
		if len(fields) != len(columns) {
			return event.Invalid(fmt.Sprintf("line %d has %d columns, the first line has %d", line, len(fields), len(columns)), "import the file as the provider exported it, without changes")
		}
		clear(values)
		for i, v := range fields {
			values[columns[i]] = v
		}
		got, err := p.collect(f, record{values, fmt.Sprintf("line %d", line)})
		if err != nil {
			return err
		}
		if got != into {
			into = got
			for i, n := range columns {
				if !f.known(n) {
					into.ignore(names[i])
				}
			}
		}
	}
	if rows == 0 {
		return event.Invalid("the file has a header but no rows", "export a period with usage")
	}
	return nil
}

// columnName is a column as records name it: AWS's older reports write
// lineItem/UsageType for line_item_usage_type.
func columnName(name string) string {
	name = strings.TrimSpace(name)
	if !strings.Contains(name, "/") {
		return strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(name), " ", "_"), ".", "_")
	}
	var b strings.Builder
	previous := byte('/')
	for i := range len(name) {
		ch := name[i]
		upper := ch >= 'A' && ch <= 'Z'
		next := byte('A')
		if i+1 < len(name) {
			next = name[i+1]
		}
		lowerBefore := previous >= 'a' && previous <= 'z' || previous >= '0' && previous <= '9'
		lowerAfter := next >= 'a' && next <= 'z'
		if upper && (lowerBefore || lowerAfter && previous >= 'A' && previous <= 'Z') {
			b.WriteByte('_')
		}
		if previous = ch; ch == '/' || ch == ':' || ch == ' ' {
			ch = '_'
		}
		b.WriteByte(ch)
	}
	return strings.ToLower(b.String())
}

func firstNames(names []string) string {
	const shown = 8
	more := ""
	if len(names) > shown {
		names, more = names[:shown], " …"
	}
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = event.FirstChars(clean(n), 60)
	}
	return strings.Join(out, ", ") + more
}

func csvError(err error, line int) error {
	var bad *csv.ParseError
	var e *event.Error
	switch {
	case errors.Is(err, errRecord):
		return event.NewError(event.CodeTooLarge, fmt.Sprintf("line %d is too long", line), "import the file as the provider exported it, without changes", nil)
	case errors.As(err, &e):
		return e
	case errors.As(err, &bad):
		return event.NewError(event.CodeInvalid, fmt.Sprintf("line %d is not CSV", bad.Line), "import the file as the provider exported it, without changes", err)
	}
	return event.NewError(event.CodeInvalid, "the file cannot be read completely", "download it again", err)
}

// json reads one or more documents, one after the other: pages, or lists of pages or
// of records.
func (p *parser) json(b *bufio.Reader) error {
	if head, _ := b.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3)
	}
	dec := json.NewDecoder(&bounded{b, maxJSON, errTooLong})
	found := 0
	for {
		var doc json.RawMessage
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		var e *event.Error
		if errors.As(err, &e) {
			return e
		}
		if err != nil {
			return event.NewError(event.CodeInvalid, "the file is not JSON", "save the API's response unchanged: curl … > costs.json", err)
		}
		n, err := p.document(doc, 0)
		if err != nil {
			return err
		}
		found += n
	}
	if found == 0 {
		return event.Invalid("the file has no results", "save a response of the provider's API for a period with usage")
	}
	return nil
}

func errOtherJSON() error {
	return event.Invalid("the JSON matches no known export", accepted)
}

// list calls f for each value of a list. Values are decoded one by one: of a whole file
// they would take many times its size.
func list(raw json.RawMessage, f func(json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	_, _ = dec.Token() // [
	for dec.More() {
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return errOtherJSON() // impossible: raw was decoded
		}
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

// isList reports whether a value, as a decoder returns it, is a list.
func isList(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '[' }

// object decodes an object without the values of its fields; nil if raw is none.
func object(raw json.RawMessage) (fields map[string]json.RawMessage) {
	if len(raw) > 0 && raw[0] == '{' && json.Unmarshal(raw, &fields) == nil {
		return fields
	}
	return nil
}

// document reads a page {data: […]}, a list of pages, or a list of records. It returns
// the number of records and empty days.
func (p *parser) document(doc json.RawMessage, depth int) (found int, err error) {
	if isList(doc) {
		if depth == maxNested {
			return 0, errOtherJSON()
		}
		return found, list(doc, func(x json.RawMessage) error {
			n, err := p.document(x, depth+1)
			found += n
			return err
		})
	}
	fields := object(doc)
	if fields == nil {
		return 0, event.Invalid("the JSON is not an object", accepted)
	}
	if e := object(fields["error"]); e != nil {
		var message string
		_ = json.Unmarshal(e["message"], &message)
		return 0, event.Invalid("this is an error of the provider's API, not an export: "+event.FirstChars(clean(message), 200), "repeat the request with an admin key")
	}
	if isList(fields["data"]) {
		return p.page(fields["data"])
	}
	return p.page(append(append(json.RawMessage{'['}, doc...), ']'))
}

// page reads a list of buckets with results, or of results.
func (p *parser) page(buckets json.RawMessage) (found int, err error) {
	feed := p.hint
	var empty []map[string]string // days without results, of the feed of the others
	read := func(bucket map[string]string, result json.RawMessage) (err error) {
		found++
		feed, err = p.result(bucket, result, found)
		return err
	}
	some := false
	err = list(buckets, func(x json.RawMessage) error {
		some = true
		fields := object(x)
		if fields == nil {
			return errOtherJSON()
		}
		results := fields["results"]
		if !isList(results) {
			return read(nil, x)
		}
		delete(fields, "results")
		rest, err := json.Marshal(fields)
		if err != nil {
			return errOtherJSON() // impossible: it was JSON
		}
		bucket := make(map[string]string, len(fields))
		if err := flat(bucket, rest, "a bucket"); err != nil {
			return err
		}
		before := found
		if err := list(results, func(x json.RawMessage) error { return read(bucket, x) }); err != nil {
			return err
		}
		if found == before {
			empty = append(empty, bucket)
		}
		return nil
	})
	if err != nil || feed == "" {
		return found, err
	}
	c := p.collector(feed)
	for _, bucket := range empty {
		day, err := record{bucket, "a bucket"}.day([]string{"start_time", "start_time_iso", "starting_at"}, []string{"end_time", "end_time_iso", "ending_at"})
		if err == nil {
			err = c.cover(day)
		}
		if err != nil {
			return found, err
		}
		found++
	}
	if p.hint != "" && !some {
		found++
	}
	return found, nil
}

// flat adds the fields of an object to values.
func flat(values map[string]string, raw json.RawMessage, where string) error {
	if len(raw) > maxRecord {
		return event.NewError(event.CodeTooLarge, where+" is too large", "save a response of the provider's API unchanged", nil)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var fields map[string]any
	if dec.Decode(&fields) != nil || fields == nil {
		return errOtherJSON()
	}
	flatten(values, "", fields)
	return nil
}

// result reads one result of a bucket and returns its feed.
func (p *parser) result(bucket map[string]string, raw json.RawMessage, n int) (Feed, error) {
	r := record{maps.Clone(bucket), fmt.Sprintf("result %d", n)}
	if r.values == nil {
		r.values = make(map[string]string)
	}
	if err := flat(r.values, raw, r.where); err != nil {
		return "", err
	}
	f := formatOf(r.has)
	if f == nil {
		return "", errOtherJSON()
	}
	c, err := p.collect(f, r)
	if err != nil {
		return "", err
	}
	for name := range r.values {
		if !f.known(name) {
			c.ignore(name)
		}
	}
	return c.feed, nil
}

// names makes format.known of lists of names with spaces between.
func names(lists ...string) func(string) bool {
	set := make(map[string]bool)
	for _, l := range lists {
		for _, n := range strings.Fields(l) {
			set[n] = true
		}
	}
	return func(n string) bool { return set[n] }
}
