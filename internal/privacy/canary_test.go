package privacy_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

const question = "Where is my parcel, Mr Smith? It should have come on Tuesday — or so you said."

func quoted(s string) json.RawMessage {
	b, _ := json.Marshal(s)
	return b
}

// call is a generation with content, and one custom property.
func call(content, name, value string) *event.Event {
	return &event.Event{UUID: event.NewID(), ProjectID: "p", Source: event.SourceGateway, Name: event.Generation, DistinctID: "user_1", TraceID: "trace-1", SpanID: "span-1",
		Timestamp: time.Unix(1_780_000_000, 0), Model: "gpt-4.1-mini", Properties: map[string]json.RawMessage{name: quoted(value)},
		Content: event.Content{Input: raw(`[{"role":"user","content":` + string(quoted(content)) + `}]`), Output: raw(`[{"role":"assistant","content":"I do not know."}]`)}}
}

// Quotations in every form that users and libraries produce.
func TestCanaryFinds(t *testing.T) {
	piece := question[9:60]
	escaped := strings.Trim(string(quoted(piece)), `"`)
	twice := strings.Trim(string(quoted(string(quoted(`{"q":"`+piece+`"}`)))), `"`)
	for name, value := range map[string]string{
		"as it is":      piece,
		"part":          piece[3:33],
		"other case":    strings.ToUpper(piece),
		"spaces":        strings.ReplaceAll(piece, " ", "   "),
		"punctuation":   strings.NewReplacer(",", " -", "?", "!").Replace(piece),
		"slug":          strings.ToLower(strings.NewReplacer(" ", "-", ",", "", "?", "").Replace(piece)),
		"snake":         strings.NewReplacer(" ", "_", ",", "", "?", "").Replace(piece),
		"within":        "asked: " + piece + " (3)",
		"JSON":          escaped,
		"JSON twice":    twice,
		"URL":           "https://example.com/?q=" + url.QueryEscape(piece),
		"path":          "/search/" + url.PathEscape(piece),
		"base64":        base64.StdEncoding.EncodeToString([]byte(piece)),
		"base64 +1":     base64.StdEncoding.EncodeToString([]byte("x" + piece)),
		"base64 +2":     base64.StdEncoding.EncodeToString([]byte("xy" + piece)),
		"base64 cut":    base64.StdEncoding.EncodeToString([]byte(piece))[3:],
		"base64 raw":    base64.RawURLEncoding.EncodeToString([]byte(piece)),
		"base64 within": "data " + base64.URLEncoding.EncodeToString([]byte("key="+piece)) + " end",
		"hex":           hex.EncodeToString([]byte(piece)),
		"base64 as id":  event.CleanID(base64.StdEncoding.EncodeToString([]byte(piece + "12"))),
		"zero width":    strings.Join(strings.Split(piece, ""), "\u200b"),
		"soft hyphens":  strings.ReplaceAll(piece, "s", "s\u00ad"),
		"full width":    fullWidth(piece),
		"accents apart": strings.ReplaceAll(piece, "e", "e\u0301"),
	} {
		e := call(question, "label", value)
		o := privacy.ApplyOutbound(e, privacy.OutboundPolicy{PrivacyMode: true})
		body, props := wire(t, o.Event)
		if props["label"] != nil || string(props[privacy.PropWithheld]) != `["label"]` || o.Block != "" || len(o.Withheld) != 1 || o.Withheld[0].Reason != privacy.ReasonQuotes {
			t.Errorf("%s, %q: %s; held %v", name, value, body, o.Withheld)
		}
		// A property that a user allowed is sent.
		if o := privacy.ApplyOutbound(e, privacy.OutboundPolicy{PrivacyMode: true, SendProperties: []string{"label"}}); o.Event.Properties["label"] == nil || len(o.Withheld) > 0 {
			t.Errorf("%s: an allowed property was withheld", name)
		}
	}
	for composed, apart := range map[string]string{
		"Tại sao đơn hàng của tôi chưa đến nơi?":           "Ta\u0323i sao đo\u031bn ha\u0300ng cu\u0309a to\u0302i chu\u031ba đe\u0302\u0301n no\u031bi?",
		"Où est mon colis ? Il devait être arrivé à Noël.": "Ou\u0300 est mon colis ? Il devait e\u0302tre arrive\u0301 a\u0300 Noe\u0308l.",
	} {
		for _, pair := range [][2]string{{composed, apart}, {apart, composed}} {
			if o := privacy.ApplyOutbound(call(pair[0], "label", pair[1]), privacy.OutboundPolicy{PrivacyMode: true}); o.Event.Properties["label"] != nil {
				t.Errorf("%q was sent as %q", pair[0], pair[1])
			}
		}
	}
	japanese := "荷物はどこですか、火曜日に届くはずでした。"
	if o := privacy.ApplyOutbound(call(japanese, "label", japanese[:60]), privacy.OutboundPolicy{PrivacyMode: true}); o.Event.Properties["label"] != nil {
		t.Error("a quotation in a script without spaces was sent")
	}
}

// fullWidth converts ASCII to full width, as East Asian keyboards may.
func fullWidth(s string) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r + 0xfee0
		}
		return r
	}, s)
}

// Text is checked in every field and known property: only names of tools,
// models and prompts, of at most 64 characters, may occur in prompts.
func TestCanaryLooksAtEveryField(t *testing.T) {
	e := call(question, "plan", "pro")
	fillTexts(reflect.ValueOf(e).Elem(), question)
	e.UUID, e.ProjectID, e.Name, e.DistinctID, e.TraceID, e.SpanID = event.NewID(), "p", event.Generation, "u", "t", "s"
	e.Status, e.Source = event.StatusSuccess, event.SourceIngest
	e.Properties = map[string]json.RawMessage{"gen_ai.usage." + question: raw("1"), "gen_ai.usage." + strings.ReplaceAll(question, " ", "_"): raw("1"), "$feature/" + question: raw("true")}
	for _, name := range privacy.KnownNames() {
		e.Properties[name] = quoted(question)
	}
	o := privacy.ApplyOutbound(e, privacy.OutboundPolicy{PrivacyMode: true})
	_, props := wire(t, o.Event)
	for name, v := range props {
		if name != privacy.PropWithheld && strings.Contains(strings.ToLower(name+string(v)), "parcel") {
			t.Errorf("%s is sent as %s", name, v)
		}
	}
}

// fillTexts sets every text of a struct.
func fillTexts(v reflect.Value, s string) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(s)
		case reflect.Struct:
			if f.CanSet() && f.Type().PkgPath() == v.Type().PkgPath() {
				fillTexts(f, s)
			}
		}
	}
}

// All fields that hold content, and all through which it might be sent.
func TestCanaryLooksEverywhere(t *testing.T) {
	p := privacy.OutboundPolicy{PrivacyMode: true}
	for name, content := range map[string]func(*event.Event){
		"output": func(e *event.Event) { e.Content.Output = quoted(question) },
		"tools": func(e *event.Event) {
			e.Content.Tools = raw(`[{"name":"f","description":` + string(quoted(question)) + `}]`)
		},
		"input state":  func(e *event.Event) { e.Content.InputState = raw(`{"deep":[{"q":` + string(quoted(question)) + `}]}`) },
		"output state": func(e *event.Event) { e.Content.OutputState = quoted(question) },
		"key":          func(e *event.Event) { e.Content.InputState = raw(`{` + string(quoted(question)) + `:1}`) },
		"error":        func(e *event.Event) { e.IsError, e.ErrorMessage = true, "bad value: "+question },
		"arguments": func(e *event.Event) {
			e.Content.Output = raw(`[{"function":{"name":"f","arguments":` + string(quoted(`{"q":`+string(quoted(question))+`}`)) + `}}]`)
		},
		"property": func(e *event.Event) { e.Properties["user_prompt"] = quoted(question) },
	} {
		e := call("nothing of note", "label", question)
		content(e)
		if body, props := wire(t, privacy.Outbound(e, p)); strings.Contains(body, "parcel") || props[privacy.PropWithheld] == nil {
			t.Errorf("content in %s: %s", name, body)
		}
	}
	for name, leak := range map[string]func(*event.Event){
		"span name":       func(e *event.Event) { e.SpanName = question },
		"trace name":      func(e *event.Event) { e.TraceName = question },
		"session":         func(e *event.Event) { e.SessionID = question },
		"surface":         func(e *event.Event) { e.Surface = question },
		"tag":             func(e *event.Event) { e.Tags = []string{"fine", question} },
		"flag":            func(e *event.Event) { e.Flags = map[string]string{"f": question} },
		"group":           func(e *event.Event) { e.Groups = map[string]string{"company": question} },
		"property's name": func(e *event.Event) { e.Properties[question] = raw(`1`) },
		"metadata":        func(e *event.Event) { e.Properties["metadata"] = raw(`{"a":` + string(quoted(question)) + `}`) },
		"metadata's name": func(e *event.Event) { e.Properties["metadata"] = raw(`{` + string(quoted(question)) + `:1}`) },
		"url": func(e *event.Event) {
			e.Properties["$current_url"] = quoted("https://x.test/?q=" + url.QueryEscape(question))
		},
		"request url": func(e *event.Event) { e.RequestURL = "https://x.test/" + url.PathEscape(question) },
		"id": func(e *event.Event) {
			e.Properties["$ai_generation_id"] = quoted(strings.ReplaceAll(question, " ", "_"))
		},
		"provider metadata": func(e *event.Event) {
			e.ProviderMetadata = map[string]json.RawMessage{"request_id": quoted(base64.RawURLEncoding.EncodeToString([]byte(question[:40])))}
		},
	} {
		e := call(question, "plan", "pro")
		leak(e)
		body, props := wire(t, privacy.Outbound(e, p))
		if strings.Contains(body, "parcel") || strings.Contains(body, base64.RawURLEncoding.EncodeToString([]byte(question[:40]))) || props[privacy.PropWithheld] == nil || string(props["plan"]) != `"pro"` {
			t.Errorf("%s: %s", name, body)
		}
	}
	for name, leak := range map[string]func(*event.Event){
		"distinct_id":  func(e *event.Event) { e.DistinctID = question },
		"$ai_trace_id": func(e *event.Event) { e.TraceID = event.CleanID(question) },
		"$ai_span_id":  func(e *event.Event) { e.SpanID = event.CleanID(question) },
	} {
		e := call(question, "plan", "pro")
		leak(e)
		if o := privacy.ApplyOutbound(e, p); !strings.HasPrefix(o.Block, name) || strings.Contains(o.Block, "parcel") {
			t.Errorf("%s: %q", name, o.Block)
		}
	}
	hashed := call(question, "plan", "pro")
	hashed.DistinctID = question
	if o := privacy.ApplyOutbound(hashed, privacy.OutboundPolicy{PrivacyMode: true, HashDistinctIDs: true, HashKey: []byte("k")}); o.Block != "" {
		t.Errorf("a hashed id: %q", o.Block)
	}
}

// After the content is dropped, quotations can no longer be recognised.
func TestCanaryAtHome(t *testing.T) {
	e := call(question, "label", question)
	e.Properties["plan"], e.SpanName, e.TraceID, e.DistinctID = raw(`"pro"`), question, event.CleanID(question), question
	e.Tags = []string{question}
	privacy.ApplyStorage(e, privacy.StoragePolicy{})
	if b, _ := e.AppendFrame(nil); strings.Contains(strings.ToLower(string(b)), "parcel") || string(e.Properties["plan"]) != `"pro"` || e.TraceID == "" || e.DistinctID == "" {
		t.Errorf("kept %s", b)
	}
}

// No false alarms: ids, tools, models, people and places that prompts mention
// are not quotations of the prompt.
func TestCanaryFalseHits(t *testing.T) {
	n := 20_000
	switch {
	case testing.Short():
		n = 4_000
	case os.Getenv("HEDGEROW_CANARY") != "": // the documented rate: 1 in 100,000
		n = 300_000
	}
	hits := 0
	for seed := range n {
		e := innocent(rand.New(rand.NewPCG(uint64(seed), 7)))
		o := privacy.ApplyOutbound(e, privacy.OutboundPolicy{PrivacyMode: true})
		for _, h := range o.Withheld {
			if h.Reason == privacy.ReasonQuotes {
				if hits++; hits < 10 {
					t.Logf("event %d: %s %s; content %s", seed, h.Name, e.Properties[h.Name], e.Content.Input)
				}
			}
		}
		if o.Block != "" {
			hits++
			t.Logf("event %d: %s", seed, o.Block)
		}
	}
	t.Logf("%d false hits in %d events", hits, n)
	if hits > n/100_000 {
		t.Errorf("%d false hits in %d events", hits, n)
	}
}

var vocabulary = strings.Fields(`please find the order of customer number and tell me when it will arrive because we have been waiting since last week for an answer from
	your team about the invoice that was sent twice to our office in Berlin the total does not match what our system shows could you check whether refund policy applies here
	thanks summary account shipping address changed yesterday after support agent said everything would be fine now nothing works again`)

// innocent is an event whose prompt mentions ids, tools and names that are also
// in its properties.
func innocent(r *rand.Rand) *event.Event {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	hexes := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdef"[r.IntN(16)]
		}
		return string(b)
	}
	id := pick(hexes(8)+"-"+hexes(4)+"-4"+hexes(3)+"-a"+hexes(3)+"-"+hexes(12), "order_"+hexes(24), "TICKET-2026-11-"+hexes(14), hexes(40), "call_"+hexes(26), "cus_"+strings.ToUpper(hexes(20)), "2026-11-30T02:30:42."+hexes(3)+"Z", "internal/privacy/"+hexes(12)+"/outbound.go")
	tool := pick("get_customer_order_details_by_id", "searchKnowledgeBaseArticlesByTopic", "refund-policy-lookup-service-v2", "list_open_support_tickets_for_customer", "Customer Support Knowledge Base")
	agent := pick("Customer Support Triage Agent", "billing-escalation-coordinator", "OrderStatusResearchAssistant")
	email := pick("annabelle.fitzgerald@example-company.com", "support+"+hexes(6)+"@shop.example.org")
	url := "https://shop.example.com/orders/" + hexes(16)
	words := func(n int) string {
		out := make([]string, n)
		for i := range out {
			out[i] = vocabulary[r.IntN(len(vocabulary))]
		}
		return strings.Join(out, " ")
	}
	prompt := words(r.IntN(60)+5) + " " + id + ", " + words(6) + " use the tool " + tool + " for " + email + " " + words(4) + " as " + agent + " see " + url + ". " + words(r.IntN(80))
	e := call(prompt, "ticket", id)
	e.DistinctID, e.SessionID, e.TraceID = email, id, event.CleanID(id)
	e.SpanName, e.TraceName = pick("execute_tool "+tool, "invoke_agent "+agent, "chat gpt-4.1-mini-2025-04-14"), agent
	e.Model = "gpt-4.1-mini-2025-04-14"
	e.Content.Tools = raw(`[{"type":"function","function":{"name":` + string(quoted(tool)) + `,"description":` + string(quoted(words(12))) + `}}]`)
	e.Content.Output = raw(`[{"role":"assistant","content":[{"type":"text","text":` + string(quoted("Looking up "+id+" with "+tool+". "+words(20))) + `},{"type":"function","id":` + string(quoted(id)) + `,"function":{"name":` + string(quoted(tool)) + `,"arguments":` + string(quoted(`{"order_id":"`+id+`"}`)) + `}}]}]`)
	e.Groups, e.Tags, e.Surface = map[string]string{"company": "example-company.com"}, []string{pick("customer-support-europe-west", "beta")}, "Customer support portal"
	for name, v := range map[string]string{"order_id": id, "gen_ai.tool.name": tool, "gen_ai.agent.name": agent, "user_email": email, "page": url, "gen_ai.tool.call.id": id, "region": "europe-west-4",
		"customer_ref": "ref " + id, "release": "2026.11.30-" + hexes(12), "build": hexes(40), "experiment": fmt.Sprintf("checkout-copy-%d-variant-b", r.IntN(50))} {
		e.Properties[name] = quoted(v)
	}
	e.RequestURL, e.BaseURL = "https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"
	return e
}

// FuzzCanary quotes a part of any text and searches for it in what is sent.
func FuzzCanary(f *testing.F) {
	for _, s := range []string{question, "荷物はどこですか、火曜日に届くはずでした。とても困っています。", `a "quoted" \\ text with \n and \u0041 and {"json":"in it, and more"}`, "don't — stop: \u2028 odd \u0000 characters of every kind, please"} {
		f.Add(s, 3, 40, 0)
		f.Add(s, 0, 60, 4)
	}
	f.Fuzz(func(t *testing.T, text string, from, length, form int) {
		text = strings.ToValidUTF8(text, "")
		runes := []rune(text)
		if from < 0 || length < 0 || from > len(runes) || length > len(runes)-from {
			return
		}
		piece := string(runes[from : from+length])
		value := piece
		switch form % 5 {
		case 1:
			value = strings.Trim(string(quoted(piece)), `"`)
		case 2:
			value = base64.StdEncoding.EncodeToString([]byte(piece))
		case 3:
			value = url.QueryEscape(piece)
		case 4:
			value = strings.ToUpper(piece)
		}
		o := privacy.ApplyOutbound(call(text, "label", value), privacy.OutboundPolicy{PrivacyMode: true})
		// 26 consecutive plain letters with white space are a quotation,
		// whatever surrounds them. Upper case of letters beyond ASCII can
		// differ.
		if plainQuotation(piece) && o.Event.Properties["label"] != nil {
			t.Fatalf("%q of %q was sent as %q", piece, text, value)
		}
	})
}

func plainQuotation(s string) bool {
	run, spaces := 0, 0
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z':
			run++
		case c == ' ' && run > 0:
			spaces++
		default:
			run, spaces = 0, 0
		}
		if run >= 26 && spaces > 1 {
			return true
		}
	}
	return false
}

func BenchmarkCanary(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 256 << 10} {
		for _, quotes := range []bool{false, true} {
			r := rand.New(rand.NewPCG(1, 2))
			var text strings.Builder
			for text.Len() < size {
				text.WriteString(vocabulary[r.IntN(len(vocabulary))] + " ")
			}
			e := innocent(r)
			e.Content.Input = raw(`[{"role":"user","content":` + string(quoted(text.String())) + `}]`)
			if quotes {
				e.Properties["label"] = quoted(text.String()[size/2 : size/2+60])
			}
			b.Run(fmt.Sprintf("%dKB/quotes=%t", size>>10, quotes), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					privacy.Outbound(e, privacy.OutboundPolicy{PrivacyMode: true})
				}
			})
		}
	}
}

// A line of underscores looks like base64 but decodes to nothing.
func TestCanaryOfUnderscores(t *testing.T) {
	for n := range 70 {
		line := strings.Repeat("_", 3*n) + "ab"[:n%3]
		o := privacy.ApplyOutbound(call(line+" "+strings.Repeat("_", 200), "label", line), privacy.OutboundPolicy{PrivacyMode: true})
		if o.Block != "" {
			t.Fatalf("%d underscores: blocked for %s", 3*n, o.Block)
		}
	}
}
