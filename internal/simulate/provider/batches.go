package provider

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
)

// batchJobs are the files and batch jobs of a server. A job is finished as soon
// as it is created.
type batchJobs struct {
	files map[string][]byte // by id
	jobs  map[string]object // by id; OpenAI's and Anthropic's
}

// batches serves OpenAI's /v1/files and /v1/batches, and Anthropic's
// /v1/messages/batches. It reports whether the path is one of them.
func (c *call) batches(path string) bool {
	post := c.r.Method == http.MethodPost
	_, last, _ := strings.Cut(path, "/v1/")
	part := strings.Split(last, "/")
	switch {
	case post && last == "files":
		c.upload()
	case post && last == "batches":
		c.createBatch()
	case len(part) == 2 && part[0] == "batches":
		c.found(part[1])
	case len(part) == 3 && part[0] == "files" && part[2] == "content" && c.file(part[1]) != nil:
		c.w.Header().Set("Content-Type", "application/octet-stream")
		c.status(http.StatusOK)
		_, _ = c.w.Write(c.file(part[1]))
	case post && last == "messages/batches":
		c.createMessageBatch()
	case len(part) == 3 && strings.HasPrefix(last, "messages/batches/"):
		c.found(part[2])
	case len(part) == 4 && strings.HasPrefix(last, "messages/batches/") && part[3] == "results" && c.file(part[2]) != nil:
		c.w.Header().Set("Content-Type", "application/x-jsonl")
		c.status(http.StatusOK)
		_, _ = c.w.Write(c.file(part[2]))
	default:
		return false
	}
	return true
}

func (c *call) file(id string) []byte {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.batch.files[id]
}

func (c *call) keep(id string, file []byte, job object) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.batch.files == nil {
		c.s.batch = batchJobs{make(map[string][]byte), make(map[string]object)}
	}
	if file != nil {
		c.s.batch.files[id] = file
	}
	if job != nil {
		c.s.batch.jobs[id] = job
	}
}

func (c *call) found(id string) {
	c.s.mu.Lock()
	job := c.s.batch.jobs[id]
	c.s.mu.Unlock()
	if job == nil {
		c.fail(http.StatusNotFound, NotFound, "No batch found with id '"+id+"'.")
		return
	}
	c.json(http.StatusOK, job)
}

func (c *call) upload() {
	_, params, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	form := multipart.NewReader(bytes.NewReader(c.req.body), params["boundary"])
	purpose, name := "", ""
	var content []byte
	for {
		p, err := form.NextPart()
		if err != nil {
			break
		}
		b, _ := io.ReadAll(p)
		if p.FormName() == "purpose" {
			purpose = string(b)
		} else if p.FormName() == "file" {
			content, name = b, p.FileName()
		}
	}
	id := "file-" + c.id(22)
	c.keep(id, content, nil)
	c.json(http.StatusOK, object{"id", id, "object", "file", "bytes", len(content), "created_at", c.start.Unix(), "filename", name, "purpose", purpose, "status", "processed"})
}

// run executes one request of a batch.
func (c *call) run(path string, body json.RawMessage) (status int, answer json.RawMessage) {
	r := c.r.Clone(c.r.Context())
	r.Method, r.URL.Path, r.URL.RawQuery = http.MethodPost, path, ""
	r.Header = maps.Clone(r.Header)
	r.Header.Del("Accept-Encoding")
	r.Header.Set("Content-Type", "application/json")
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	w := &answerOf{header: make(http.Header), status: http.StatusOK}
	c.s.ServeHTTP(w, r)
	return w.status, w.body.Bytes()
}

// answerOf records a response.
type answerOf struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *answerOf) Header() http.Header         { return w.header }
func (w *answerOf) WriteHeader(status int)      { w.status = status }
func (w *answerOf) Write(p []byte) (int, error) { return w.body.Write(p) }

func (c *call) createBatch() {
	var ask struct {
		Input    string `json:"input_file_id"`
		Endpoint string
	}
	_ = json.Unmarshal(c.req.body, &ask)
	id := c.id(24)
	batch, output := "batch_"+id, "file-out"+id[:16]
	var results []byte
	total := 0
	for line := range bytes.Lines(c.file(ask.Input)) {
		var req struct {
			CustomID string `json:"custom_id"`
			URL      string
			Body     json.RawMessage
		}
		if json.Unmarshal(line, &req) != nil {
			continue
		}
		total++
		status, answer := c.run("/openai"+req.URL, req.Body)
		results = append(results, encode(object{"id", "batch_req_" + c.id(12) + req.CustomID, "custom_id", req.CustomID,
			"response", object{"status_code", status, "request_id", c.id(20), "body", answer}, "error", nil})...)
		results = append(results, '\n')
	}
	c.keep(output, results, nil)
	job := object{"id", batch, "object", "batch", "endpoint", ask.Endpoint, "errors", nil, "input_file_id", ask.Input, "completion_window", "24h", "status", "completed",
		"output_file_id", output, "error_file_id", nil, "created_at", c.start.Unix(), "completed_at", c.start.Unix() + 60,
		"request_counts", object{"total", total, "completed", total, "failed", 0}, "usage", object{"input_tokens", 100, "output_tokens", 100, "total_tokens", 200}}
	c.keep(batch, nil, job)
	// The response does not have the results yet, as at the provider.
	created := slices.Clone(job)
	for i := 0; i < len(created); i += 2 {
		switch created[i] {
		case "output_file_id", "completed_at", "usage":
			created[i+1] = nil
		case "status":
			created[i+1] = "validating"
		}
	}
	c.json(http.StatusOK, created)
}

func (c *call) createMessageBatch() {
	var ask struct {
		Requests []struct {
			CustomID string `json:"custom_id"`
			Params   json.RawMessage
		}
	}
	_ = json.Unmarshal(c.req.body, &ask)
	id := "msgbatch_" + c.id(24)
	results := []byte{}
	for _, req := range ask.Requests {
		status, answer := c.run("/anthropic/v1/messages", req.Params)
		result := object{"type", "succeeded", "message", answer}
		if status != http.StatusOK {
			result = object{"type", "errored", "error", answer}
		}
		results = append(append(results, encode(object{"custom_id", req.CustomID, "result", result})...), '\n')
	}
	job := object{"id", id, "type", "message_batch", "processing_status", "ended", "created_at", c.start.UTC().Format("2006-01-02T15:04:05Z"), "results_url", "https://api.anthropic.com/v1/messages/batches/" + id + "/results",
		"request_counts", object{"processing", 0, "succeeded", len(ask.Requests), "errored", 0, "canceled", 0, "expired", 0}}
	c.keep(id, results, job)
	c.json(http.StatusOK, job)
}
