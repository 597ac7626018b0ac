package provider

import (
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Batch is a batch job as its provider describes it: OpenAI's batch object
// (openai-go: Batch), Anthropic's message batch (anthropic-sdk-go: MessageBatch).
type Batch struct {
	ID       string
	Input    string   // OpenAI: id of the file with the requests
	Results  []string // OpenAI: ids of the files with results and errors, once there are any
	Endpoint string   // OpenAI: the path of its requests; "" for Anthropic
	Created  time.Time
}

// maxBatches limits the batches of one list.
const maxBatches = 1000

// Batches returns the batches in a response of op batches or message_batches:
// the one that was created or retrieved, or those of a list.
func Batches(response []byte) []Batch {
	s := view(response)
	if !valid(s) {
		return nil
	}
	v := gjson.Parse(s)
	var out []Batch
	if data := v.Get("data"); data.IsArray() {
		data.ForEach(func(_, v gjson.Result) bool {
			if b, ok := batchOf(v); ok {
				out = append(out, b)
			}
			return len(out) < maxBatches
		})
		return out
	}
	if b, ok := batchOf(v); ok {
		out = append(out, b)
	}
	return out
}

func batchOf(v gjson.Result) (b Batch, ok bool) {
	kind := or(v.Get("object").Str, v.Get("type").Str)
	if kind != "batch" && kind != "message_batch" {
		return b, false
	}
	b.ID, b.Input, b.Endpoint = text(v.Get("id")), text(v.Get("input_file_id")), text(v.Get("endpoint"))
	for _, name := range [...]string{"output_file_id", "error_file_id"} {
		if id := text(v.Get(name)); id != "" {
			b.Results = append(b.Results, id)
		}
	}
	b.Created = moment(v.Get("created_at"))
	return b, b.ID != "" && !b.Created.IsZero()
}

// moment parses a time, as Unix seconds or in RFC 3339; zero for anything else.
func moment(v gjson.Result) time.Time {
	if v.Type == gjson.String {
		t, err := time.Parse(time.RFC3339, v.Str)
		if err != nil {
			return time.Time{}
		}
		return t.UTC()
	}
	if v.Num <= 0 || v.Num >= 1<<33 {
		return time.Time{}
	}
	return time.Unix(int64(v.Num), 0).UTC()
}

// UploadedFile returns the id of a file that was uploaded for a batch, and ""
// for any other response.
func UploadedFile(response []byte) string {
	if s := view(response); valid(s) && gjson.Get(s, "purpose").Str == "batch" {
		return text(gjson.Get(s, "id"))
	}
	return ""
}

// BatchResultsID reports whether the response of a call may be the results of a
// batch, which are lines of JSON, and returns the id of the results: OpenAI's
// file, Anthropic's batch.
func BatchResultsID(method, path string) (id string, ok bool) {
	if method != "GET" {
		return "", false
	}
	path, _, _ = strings.Cut(path, "?")
	head, last, _ := lastCut(strings.TrimSuffix(path, "/"))
	head, id, _ = lastCut(head)
	switch {
	case id == "":
	case last == "content" && strings.HasSuffix(head, "/files"), last == "results" && strings.HasSuffix(head, "/messages/batches"):
		return id, true
	}
	return "", false
}

// Result is one line of a batch's results.
type Result struct {
	ID      string // the provider's id of the line; Request if there is none
	Call    Call   // for Parse, without provider and attribution; Start is zero if unknown
	Request string // the caller's id of the request
}

// ReadResult parses a line of results. endpoint is [Batch.Endpoint], or "" if
// unknown: then the response determines it. It returns false for a line that is
// not a result.
func ReadResult(line []byte, endpoint string) (r Result, ok bool) {
	s := view(line)
	if !valid(s) {
		return r, false
	}
	v := gjson.Parse(s)
	r.Request = text(v.Get("custom_id"))
	if r.Request == "" {
		return r, false
	}
	c := &r.Call
	c.Method, c.Status, c.Batch = "POST", 200, true
	body := v.Get("response.body")
	result := v.Get("result")
	switch {
	case v.Get("response").Exists(): // OpenAI
		r.ID = or(text(v.Get("id")), r.Request)
		c.Dialect, c.Path = OpenAI, endpoint
		if n := v.Get("response.status_code").Int(); n > 0 {
			c.Status = int(n)
		}
		if c.Path == "" {
			c.Path = endpointOf(body)
		}
		if fault := v.Get("error"); !body.IsObject() && fault.IsObject() {
			c.Response = []byte(`{"error":` + fault.Raw + `}`)
		}
		c.Start = moment(body.Get("created"))
		if c.Start.IsZero() {
			c.Start = moment(body.Get("created_at"))
		}
	case result.IsObject(): // Anthropic
		r.ID, c.Dialect, c.Path = r.Request, Anthropic, "/v1/messages"
		body = result.Get("message")
		if kind := text(result.Get("type")); !body.IsObject() {
			fault := result.Get("error.error")
			if !fault.IsObject() {
				fault = gjson.ParseBytes(append(rawjson.AppendQuote([]byte(`{"type":`), kind), `,"message":"the request was not processed"}`...))
			}
			c.Response = []byte(`{"error":` + fault.Raw + `}`)
		}
	default:
		return r, false
	}
	if body.IsObject() {
		c.Response = []byte(body.Raw)
	}
	c.ResponseBytes = int64(len(line))
	return r, true
}

// endpointOf determines an endpoint from the format of its responses.
func endpointOf(body gjson.Result) string {
	switch body.Get("object").Str {
	case "response":
		return "/v1/responses"
	case "list":
		return "/v1/embeddings"
	case "text_completion":
		return "/v1/completions"
	case "chat.completion", "":
		return "/v1/chat/completions"
	}
	return "/v1/batches"
}

// batchMember reads a member of a batch object. Its usage is the sum of its
// results, which are generations of their own: no sum counts that of the span.
func (p *parser) batchMember(name string, v gjson.Result) {
	switch name {
	case "id":
		p.meta("batch_id", rawjson.Quote(event.FirstChars(text(v), 200)))
	case "status", "processing_status":
		p.meta("batch_status", rawjson.Quote(event.FirstChars(text(v), 100)))
	case "usage", "request_counts", "endpoint", "model":
		if name == "usage" {
			p.usageOpenAI(v)
		}
		if v.Type != gjson.Null && len(v.Raw) <= longestParameter {
			p.meta("batch_"+name, raw(v))
		}
	}
}
