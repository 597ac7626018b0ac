package provider

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// multipart reads the fields of an upload, such as a transcription's. Files are
// skipped.
func (p *parser) multipart() {
	_, params, err := mime.ParseMediaType(p.c.RequestHeader.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return
	}
	r := multipart.NewReader(bytes.NewReader(p.c.Request), params["boundary"])
	for range 200 {
		part, err := r.NextRawPart()
		if err != nil {
			return
		}
		name := part.FormName()
		if name == "" || part.FileName() != "" {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(part, 1<<20))
		if err != nil {
			return
		}
		value := rawjson.Quote(strings.ToValidUTF8(string(b), "\uFFFD"))
		v := gjson.ParseBytes(value)
		if name == "stream" && (v.Str == "true" || v.Str == "false") {
			v = gjson.Parse(v.Str)
		}
		if name == "prompt" && (p.op == opImages || p.op == opTranscription || p.op == opTranslation) {
			p.e.Content.Input = userMessage(v.Raw)
			continue
		}
		p.requestMember(strings.TrimSuffix(name, "[]"), v)
	}
}

// mediaResponse reads a member of a response of images and transcriptions
// (openai-go: ImagesResponse, Transcription).
func (p *parser) mediaResponse(name string, v gjson.Result) {
	switch name {
	case "model":
		p.e.Model = or(event.FirstChars(text(v), 200), p.e.Model)
	case "usage":
		p.mediaUsage(v)
	case "size", "quality": // as generated, if the request left it open
		if s := text(v); s != "" && (p.op == opImages || p.op == opVideos) {
			p.parameter(name, v)
		}
	case "seconds":
		if p.op == opVideos {
			p.seconds(v)
		}
	case "id":
		if p.op == opVideos {
			p.e.CompletionID = event.FirstChars(text(v), 200)
		}
	case "status":
		if p.op == opVideos {
			p.meta("video_status", raw(v))
		}
	case "pages":
		if p.op == opOCR {
			p.e.Content.Output = render([]*message{ocrText(v)})
		}
	case "usage_info":
		if p.op == opOCR {
			count(v.Get("pages_processed"), &p.e.Usage.Pages)
		}
	case "meta":
		if p.op == opRerank {
			count(v.Get("billed_units.search_units"), &p.e.Usage.SearchUnits)
		}
	case "data":
		if n := v.Get("#").Int(); p.op == opImages && n > 0 {
			p.e.Usage.Images = event.Some(n)
			m := &message{role: "assistant"}
			v.ForEach(func(_, item gjson.Result) bool {
				if u := item.Get("url"); u.Type == gjson.String {
					// A public link that expires within an hour: not worth
					// keeping.
					m.add(partText, "[image]")
				} else {
					m.add(partText, "[base64 image redacted]")
				}
				return true
			})
			p.e.Content.Output = render([]*message{m})
		}
	case "text":
		if p.op != opImages && v.Type == gjson.String {
			m := &message{role: "assistant"}
			m.add(partText, escaped(v))
			p.e.Content.Output = render([]*message{m})
		}
	}
}

// ocrText is the text of the pages.
func ocrText(pages gjson.Result) *message {
	m := &message{role: "assistant"}
	pages.ForEach(func(_, page gjson.Result) bool {
		if t := page.Get("markdown"); t.Type == gjson.String {
			m.add(partText, escaped(t))
		}
		return true
	})
	return m
}

// mediaUsage reads tokens, or seconds of audio if those are billed.
func (p *parser) mediaUsage(v gjson.Result) {
	if v.Get("type").Str == "duration" {
		if s := v.Get("seconds"); s.Type == gjson.Number {
			p.meta("audio_seconds", raw(s))
			p.seconds(s)
		}
		return
	}
	p.usageOpenAI(v)
}

// textResponse reads a transcription in one of the text formats.
func (p *parser) textResponse(s string) {
	m := &message{role: "assistant"}
	q := rawjson.Quote(strings.ToValidUTF8(s, "\uFFFD"))
	m.add(partText, string(q[1:len(q)-1]))
	p.e.Content.Output = render([]*message{m})
}

// mediaStream reads the events of streamed images, speech and transcriptions:
// image_generation.completed, speech.audio.done, transcript.text.delta and
// .done.
type mediaStream struct {
	p    *parser
	text []byte
	n    int64
}

func (s *mediaStream) event(f frame, v gjson.Result, tail bool) {
	p := s.p
	kind := v.Get("type").Str
	if u := v.Get("usage"); u.Exists() {
		p.mediaUsage(u)
	}
	if strings.HasSuffix(kind, ".done") || strings.HasSuffix(kind, ".completed") {
		p.ended = true
	}
	switch {
	case kind == "error" || v.Get("error").IsObject():
		p.fault(v.Get("error"))
		p.trouble.found = true
	case strings.HasSuffix(kind, ".delta"), strings.HasSuffix(kind, ".partial_image"):
		p.token(f, tail)
		if !tail && kind == "transcript.text.delta" {
			s.text = append(s.text, escaped(v.Get("delta"))...)
		}
	case kind == "transcript.text.done":
		if t := escaped(v.Get("text")); t != "" {
			s.text = []byte(t)
		}
	case strings.HasSuffix(kind, ".completed"):
		p.token(f, tail)
		s.n++
	}
}

func (s *mediaStream) end() {
	m := &message{role: "assistant"}
	m.add(partText, string(s.text))
	if s.n > 0 {
		s.p.e.Usage.Images = event.Some(s.n)
		m.add(partText, "[base64 image redacted]")
	}
	if len(m.parts) > 0 {
		s.p.e.Content.Output = render([]*message{m})
	}
}
