package provider

import (
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Operations whose bodies Parse reads. All others are recorded as spans.
const (
	opChat            = "chat"
	opCompletions     = "completions" // the older text completions
	opFIM             = "fim"         // Mistral's fill-in-the-middle
	opResponses       = "responses"
	opCompact         = "responses_compact"
	opResponsesGet    = "responses_get" // retrieving or canceling a stored or background response
	opMessages        = "messages"
	opCountTokens     = "count_tokens"
	opGenerateContent = "generate_content" // Gemini, streamed or not
	opOllamaChat      = "ollama_chat"
	opOllamaGenerate  = "ollama_generate"
	opCohereChat      = "cohere_chat"
	opConverse        = "converse"     // Bedrock, streamed or not; Nova's InvokeModel has the same format
	opInvoke          = "invoke_model" // Bedrock's InvokeModel of the other text models, streamed or not
	opEmbeddings      = "embeddings"
	opImages          = "images"
	opSpeech          = "speech"
	opTranscription   = "transcriptions"
	opTranslation     = "translations"
	opVideos          = "videos" // creating a video; its later states are videos_get
	opOCR             = "ocr"
	opRerank          = "rerank"
	opInteractions    = "interactions"
	opInteractionsGet = "interactions_get" // retrieving or canceling one
	opBatches         = "batches"
	opMessageBatches  = "message_batches"
	opRealtime        = "realtime_response" // over a WebSocket only
	opLive            = "live_turn"         // over a WebSocket only
)

// Operation returns the operation of a request, or "" if the path is not known.
// Segments before the first one that names a collection are skipped, because
// compatible providers put their APIs under /openai/v1, /inference/v1,
// /api/paas/v4, /openai/deployments/{name} and so on.
//
// Bodies are read for chat, completions, fim, responses, responses_compact,
// responses_get, messages, generate_content, interactions, interactions_get,
// batches, message_batches, count_tokens, ollama_chat,
// ollama_generate, cohere_chat, converse, invoke_model, embeddings, images, speech,
// transcriptions, translations, videos, ocr and rerank. Others are named after
// their collection: models, moderations, files, batches, message_batches,
// threads …, with _get, _list etc. if the method changes the meaning.
func Operation(d Dialect, method, path string) string {
	path, _, _ = strings.Cut(path, "?")
	if model, verb, ok := geminiMethod(path); ok && method == "POST" {
		if op := geminiOperation(verb); op != "" {
			return op
		}
		return vertexOperation(path, model, verb)
	}
	if op := ollamaOperation(method, path); op != "" {
		return op
	}
	if op := cohereOperation(method, path); op != "" {
		return op
	}
	if _, _, ok := bedrockMethod(path); ok {
		return bedrockOperation(method, path)
	}
	var segs [8]string
	rest := segs[:0]
	for seg := range strings.SplitSeq(path, "/") {
		if seg == "" {
			continue
		}
		switch {
		case len(rest) == 0 && seg == "deployments":
			rest = append(rest, seg)
		case len(rest) == 1 && rest[0] == "deployments":
			rest = rest[:0] // a deployment may have any name
		case len(rest) > 0 || collections[seg]:
			if len(rest) == cap(rest) {
				return ""
			}
			rest = append(rest, seg)
		}
	}
	if len(rest) == 0 {
		return ""
	}
	post := method == "POST"
	sub := func(i int) string {
		if i < len(rest) {
			return rest[i]
		}
		return ""
	}
	switch rest[0] {
	case "deployments":
		return ""
	case "chat":
		switch {
		case sub(1) != "completions":
			return ""
		case post && len(rest) == 2:
			return opChat
		}
		return "chat_stored"
	case "fim":
		if post && sub(1) == "completions" && len(rest) == 2 {
			return opFIM
		}
		return ""
	case "interactions":
		return interactionOperation(method, rest[1:])
	case "videos":
		if post && (len(rest) == 1 || len(rest) == 3 && sub(2) == "remix" || len(rest) == 2 && (sub(1) == "edits" || sub(1) == "extensions")) {
			return opVideos
		}
		return "videos_get"
	case "completions", "embeddings", "moderations", "rerank", "ocr":
		if post && len(rest) == 1 {
			return rest[0]
		}
		return ""
	case "responses":
		switch {
		case post && len(rest) == 1:
			return opResponses
		case post && len(rest) == 2 && sub(1) == "compact":
			return opCompact
		case post && len(rest) == 2 && sub(1) == "input_tokens":
			return opCountTokens
		case method == "GET" && len(rest) == 2, post && len(rest) == 3 && sub(2) == "cancel":
			return opResponsesGet
		case method == "DELETE" && len(rest) == 2:
			return "responses_delete"
		case method == "GET" && len(rest) == 3 && sub(2) == "input_items":
			return "responses_input_items"
		}
		return ""
	case "messages":
		switch {
		case post && len(rest) == 1:
			return opMessages
		case post && len(rest) == 2 && sub(1) == "count_tokens":
			return opCountTokens
		case sub(1) == "batches":
			return opMessageBatches
		}
		return ""
	case "images":
		if post && len(rest) == 2 {
			return opImages
		}
		return ""
	case "audio":
		switch {
		case !post || len(rest) != 2:
			return ""
		case sub(1) == "speech", sub(1) == "transcriptions", sub(1) == "translations":
			return sub(1)
		}
		return ""
	}
	return rest[0]
}

// collections are the path segments that begin an operation.
var collections = map[string]bool{
	"chat": true, "completions": true, "fim": true, "responses": true, "messages": true, "embeddings": true,
	"images": true, "audio": true, "moderations": true, "rerank": true, "ocr": true, "models": true, "files": true, "uploads": true,
	"batches": true, "fine_tuning": true, "assistants": true, "threads": true, "vector_stores": true, "conversations": true,
	"containers": true, "evals": true, "realtime": true, "videos": true, "interactions": true, "skills": true, "organization": true, "organizations": true,
	"generation": true, "credits": true, "key": true, "keys": true, "deployments": true,
}

// eventName returns the event name of an operation.
func eventName(op string) string {
	switch op {
	case opChat, opCompletions, opFIM, opResponses, opCompact, opMessages, opGenerateContent, opOllamaChat, opOllamaGenerate, opCohereChat, opConverse, opInvoke, opImages, opSpeech, opTranscription, opTranslation, opVideos, opOCR, opRerank, opRealtime, opLive, opInteractions:
		return event.Generation
	case opEmbeddings:
		return event.Embedding
	}
	return event.Span
}

// route converts a path to a span name: without query, and with ids replaced,
// so that calls of one kind have one name.
func route(path string) string {
	path, _, _ = strings.Cut(path, "?")
	var b strings.Builder
	for seg := range strings.SplitSeq(path, "/") {
		if b.Len() > 0 || seg != "" {
			b.WriteByte('/')
		}
		if isID(seg) {
			seg = "{id}"
		}
		b.WriteString(seg)
	}
	return event.FirstChars(b.String(), 200)
}

// isID distinguishes ids such as resp_68af… and file-9sKd… from models and
// names.
func isID(seg string) bool {
	if len(seg) < 12 {
		return false
	}
	var digits int
	tail := seg[strings.IndexAny(seg, "_-")+1:]
	for i := range len(tail) {
		switch c := tail[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', len(seg) == 36 && c == '-':
		default:
			return false
		}
	}
	return digits > 0 && len(tail) >= 12
}
