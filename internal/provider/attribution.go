package provider

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Members of a request body with attribution. OpenRouter's API has user,
// session_id and trace; other providers reject unknown members, so they are
// read and then removed.

// MaxAttributionFields is how many names a project may list.
const MaxAttributionFields = 50

const longestFieldName = 100 // characters

// Strips returns a function that reports which members of the call's request to
// remove, because they are attribution that the provider does not support:
// session always; session_id and trace except for OpenRouter; user if the API
// does not have it; and the names in c.Attribution. It is nil for requests whose
// body [Parse] does not read, because members can have other meanings there.
func (c *Call) Strips() func(name []byte) bool {
	op := Operation(c.Dialect, c.Method, c.Path)
	if !readsBody[op] {
		return nil
	}
	openRouter := c.Provider == "openrouter" || hostOf(c.BaseURL) == "openrouter.ai"
	noUser := !openRouter && (c.Dialect == Anthropic || op == opGenerateContent || onVertex(c.Path) || op == opCohereChat || op == opConverse || c.Provider == "amazon-bedrock" || c.Provider == "cohere" || c.Provider == "mistral" || hostOf(c.BaseURL) == "api.mistral.ai")
	return func(name []byte) bool {
		switch string(name) {
		case "session":
			return true
		case "session_id", "trace":
			return !openRouter
		case "user":
			return noUser
		}
		return slices.Contains(c.Attribution, string(name))
	}
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// AttributionFields validates and cleans the names of request members that a
// project reads and removes: it trims them and removes duplicates; nil if there
// are none. It rejects a field of a provider's API, because removing it would
// change calls. The error is an *[event.Error].
func AttributionFields(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		if name = strings.TrimSpace(name); name == "" || slices.Contains(out, name) {
			continue
		}
		switch why := alwaysRead[name]; {
		case len(name) > longestFieldName || name[0] == '$' || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' || r == ',' }):
			return nil, event.Invalid(fmt.Sprintf("%.100q cannot be an attribution field", name), "use a name of at most 100 letters, digits, dots, dashes and underscores that does not begin with $")
		case why != "":
			return nil, event.Invalid("the attribution field "+name+" "+why, "leave it out of the list")
		case apiFields[fieldKey(name)]:
			return nil, event.Invalid("the attribution field "+name+" is a field of a provider's API: removing it would change calls",
				"have the application send the value under a name of its own, such as app_"+name)
		}
		out = append(out, name)
	}
	if len(out) > MaxAttributionFields {
		return nil, event.Invalid(fmt.Sprintf("there are more than %d attribution fields", MaxAttributionFields), "list fewer, or send the rest in the header X-PostHog-Properties")
	}
	return out, nil
}

// alwaysRead are names that need not be listed, and why.
var alwaysRead = map[string]string{
	"user":             "is always read, and removed if the provider's API does not have it",
	"session":          "is always read and removed",
	"session_id":       "is always read, and removed if the provider's API does not have it",
	"trace":            "is always read, and removed if the provider's API does not have it",
	"metadata":         "is always read, and is a field of providers' APIs",
	"prompt_variables": "is hedgerow's own field, which requests that a stored prompt is rendered",
}

// fieldKey normalizes names for comparison with those of APIs: Gemini accepts
// both generationConfig and generation_config, and servers written in Go accept
// any case.
func fieldKey(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

// apiFields are the top-level request members of providers' APIs, by fieldKey.
var apiFields = func() map[string]bool {
	m := make(map[string]bool)
	for name := range strings.FieldsSeq(apiFieldNames) {
		m[fieldKey(name)] = true
	}
	for name := range parameters {
		m[fieldKey(name)] = true
	}
	return m
}()

// apiFieldNames are the names in each API's reference, as of November 2026.
const apiFieldNames = `
model models messages input inputs prompt suffix stream stream_options tools tool_choice tool_config functions function_call system instructions
user metadata safety_identifier prompt_cache_key prompt_cache_retention prompt_cache_options store n stop seed temperature top_p top_k top_a min_p
max_tokens max_completion_tokens max_output_tokens max_tool_calls presence_penalty frequency_penalty repetition_penalty logit_bias logprobs top_logprobs
response_format modalities audio prediction web_search_options parallel_tool_calls reasoning reasoning_effort verbosity service_tier text truncation
include include_reasoning background previous_response_id conversation context_management client_metadata moderation best_of echo
dimensions encoding_format input_type output_dtype output_dimension embedding_types texts images image mask quality size style output_format output_compression
background moderation partial_images response_format voice speed language timestamp_granularities chunking_strategy file url known_speaker_names known_speaker_references
stop_sequences thinking output_config container mcp_servers cache_control betas inference_geo speed effort anthropic_version anthropic_beta fallbacks
contents content system_instruction generation_config safety_settings cached_content labels task_type title requests model_selection_config output_dimensionality generate_content_request agent response_modalities
inference_config additional_model_request_fields additional_model_response_field_paths prompt_variables request_metadata performance_config guardrail_config guardrail_identifier guardrail_version trace project_identifier
input_text input_image text_generation_config amazon_bedrock_guardrail_config schema_version single_embedding_params embedding_config normalize
max_gen_len num_generations num_results return_likelihoods return_prompt prompt_truncation api_version count_penalty
query documents document top_n return_documents max_chunks_per_doc max_tokens_per_doc rank_fields preamble chat_history message connectors citation_options citation_quality safety_mode strict_tools raw_prompting p k priority force_single_step tool_results search_queries_only
safe_prompt random_seed prompt_mode guardrails min_tokens document_image_limit document_annotation_format bbox_annotation_format include_image_base64 pages
think format options keep_alive raw template context width height steps logits
provider plugins transforms route preset session_id image_config
documents citation_options compound_custom exclude_domains include_domains include_reasoning disable_tool_validation search_settings
search_parameters deferred search_mode search_domain_filter search_recency_filter search_after_date_filter search_before_date_filter last_updated_after_filter last_updated_before_filter return_images return_related_questions return_videos image_domain_filter image_format_filter enable_search_classifier disable_search media_response
safety_model context_length_exceeded_behavior chat_template_kwargs enable_thinking thinking_budget
perf_metrics_in_response prompt_truncate_len prompt_cache_isolation_key raw_output mirostat_target mirostat_lr mirostat typical_p min_p speculation ignore_eos reasoning_history return_token_ids
add_generation_prompt continue_final_message add_special_tokens guided_json guided_regex guided_choice guided_grammar structured_outputs guided_decoding_backend best_of use_beam_search length_penalty stop_token_ids include_stop_str_in_output skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens prompt_logprobs allowed_token_ids bad_words kv_transfer_params documents chat_template mm_processor_kwargs cache_salt
grammar json_schema samplers dynatemp_range dynatemp_exponent n_predict n_keep cache_prompt id_slot slot_id lora
data_sources extra_body api_key api_base base_url timeout num_retries mock_response caching cache litellm_metadata litellm_session_id litellm_trace_id litellm_call_id
`
