package privacy

import (
	"strings"
	"unicode"
)

// kind is the type of a known property's value. A known name does not make a
// text safe: the value must have its kind too.
type kind uint8

const (
	kindNone   kind = iota // not a known name
	kindFigure             // a number or a boolean
	kindWord               // a word of an enumeration, at most 64 characters; or a figure
	kindID                 // an id, a version, a time or a path: at most 200 characters without spaces; or a figure
	kindName               // a name given by a user or a library: at most 200 characters in one line
	kindLabel              // as kindName: the name of a tool, an agent, a model or a prompt, which prompts contain anyway
	kindNote               // hedgerow's own words
	kindURL                // an address: at most 2,000 characters without spaces
	kindCounts             // an object of figures, to any depth
	kindNames              // a list of names
	kindPerson             // an object of short values: $set
	kindHolder             // an object whose members are custom properties: metadata
)

// knownNames are the properties of hedgerow and PostHog, and the attributes of
// OpenTelemetry's semantic conventions and of the instrumentations that
// hedgerow reads, except those with prompts and answers. Other names are the
// caller's own, or unknown.
var knownNames = byKind(map[kind]string{
	kindFigure: `
		$ai_temperature $ai_stream $ai_max_tokens $ai_tool_call_count $ai_cost_passthrough $ai_input_token_price $ai_output_token_price
		$ai_cache_read_token_price $ai_cache_write_token_price $ai_cache_write_1h_token_price $ai_request_price $ai_web_search_price $ai_score $ai_score_min $ai_score_max
		$ai_evaluation_applicable $ai_evaluation_allows_na $ai_is_error $ai_http_status $ai_blob_count $ai_blob_bytes $ai_latency $ai_time_to_first_token
		$process_person_profile $geoip_disable $is_server $ignore_sent_at $is_identified $screen_height $screen_width $viewport_height $viewport_width $screen_density
		$feature_flag_id $feature_flag_version $feature_flag_has_experiment $feature_flag_definitions_loaded_at $feature_flag_evaluated_at locally_evaluated
		$exception_handled $exception_synthetic $exception_lineno $exception_colno $exception_DOMException_code
		$recording_status_enabled $config_defaults_enabled $is_emulator $app_build_number $debug feedback_length request_bytes response_bytes retries retry_count hedgerow_cost_incomplete
		input_chars output_chars input_tokens output_tokens estimated_cost_usd latency_ms total_tokens time_to_first_token_ms http_status eval_score eval_passed accepted_output edited_output
		thread.id process.pid process.parent_pid code.lineno code.line.number code.column server.port network.peer.port client.port http.response.status_code http.status_code
		http.request.body.size http.response.body.size http.request.resend_count http.request_content_length http.response_content_length rpc.grpc.status_code
		gen_ai.request.choice.count ai.response.msToFinish ai.response.msToFirstChunk ai.response.avgCompletionTokensPerSecond ai.response.avgOutputTokensPerSecond
		ai.settings.maxRetries operation.cost traceloop.entity.version embedding.vector.dimension reranker.top_k retrieval.top_k db.response.returned_rows
		langfuse.internal.is_app_root langfuse.trace.public mastra.model_step.step_index mastra.model_step.is_continued mastra.model_chunk.sequence_number
		gen_ai.agent.step gen_ai.evaluation.score.value gen_ai.response.time_to_first_chunk llm.cost.total`,
	kindWord: `
		$ai_ingestion_source $ai_framework $ai_span_type $ai_tokens_source $ai_service_tier $ai_speed $ai_inference_geo hedgerow_cost_unpriced $ai_metric_version $ai_evaluation_type $ai_evaluation_runtime
		$ai_evaluation_provider $ai_evaluation_key_type $ai_target_event_type $ai_result_type $ai_status $ai_error_type $ai_stop_reason $ai_cost_model_source
		$lib $lib_version $ai_lib $ai_lib_version $lib_custom_api_host $library $feature_flag_error $feature_flag_bootstrapped_response $device_type $browser_version $browser_language
		$os_version $python_runtime $python_version $app_version $app_build $locale $network_wifi $timezone $session_recording_start_reason
		$exception_type $exception_level $exception_fingerprint $exception_issue_id
		content_dropped status error_type error_code finish_reason operation input_length_bucket output_category output_format user_feedback eval_reason_code
		openinference.span.kind traceloop.span.kind langfuse.observation.type langfuse.observation.level langsmith.span.kind mastra.span.type ai.operationId gen_ai.operation.name
		gen_ai.output.type gen_ai.token.type gen_ai.tool.type tool_call.type gen_ai.system gen_ai.provider.name gen_ai.openai.api_type openai.api.type gen_ai.openai.response.service_tier
		anthropic.response.service_tier anthropic.message.stop_reason pydantic_ai.cache.collapse_reason llm.system llm.provider llm.request.type error.type exception.type
		gen_ai.evaluation.name gen_ai.evaluation.score.label gen_ai.response.status http.request.method http.method http.scheme url.scheme http.flavor network.protocol.name network.protocol.version
		network.transport network.type rpc.system rpc.system.name messaging.system db.system db.system.name db.operation.name db.collection.name cloud.provider cloud.platform cloud.region cloud.availability_zone
		host.arch os.type telemetry.sdk.name telemetry.sdk.version telemetry.sdk.language telemetry.distro.name telemetry.distro.version langfuse.environment langfuse.observation.status
		deployment.environment deployment.environment.name deployment.id deployment.name logfire.level_name faas.trigger`,
	kindID: `
		$ai_generation_id $ai_response_id $ai_target_event_id $ai_evaluation_id $ai_evaluation_key_id $ai_experiment_id $ai_experiment_item_id $ai_evaluation_start_time
		$session_id $window_id $device_id $pageview_id $exception_event_id $insert_id $user_id $anon_distinct_id distinct_id $distinct_id alias token $time $sent_at $ip
		$feature_flag_request_id $groups_key $group_key $group_type prompt_id prompt_version prompt_version_id prompt_hash posthog_flag posthog_flag_variant
		trace_id span_id request_id generation_id session_id agent_config_id run_id runId user.id enduser.id hedgerow_joined_to trace_url
		service.instance.id service.version service.namespace container.id container.image.name host.id host.name device.id faas.invocation_id faas.version faas.instance cloud.account.id cloud.resource_id
		process.executable.name process.runtime.name process.runtime.version os.version os.build_id otel.scope.version
		gen_ai.tool.call.id tool_call.id ai.toolCall.id gen_ai.agent.id gen_ai.agent.version gen_ai.agent.call.id gen_ai.data_source.id gen_ai.conversation.id gen_ai.response.id gen_ai.evaluation.id
		ai.response.id graph.node.id graph.node.parent_id langfuse.version langfuse.release langfuse.observation.id langfuse.trace.id langsmith.trace.session_id langsmith.trace.id
		mastra.run_id mastra.workflow.id mastra.agent.id gcp.vertex.agent.event_id gcp.vertex.agent.invocation_id gcp.vertex.agent.session_id logfire.metrics.id
		http.route url.template url.domain server.address client.address network.peer.address net.peer.name http.user_agent_family thread.name
		code.function code.function.name code.namespace code.filepath code.file.path faas.name messaging.message.id`,
	kindName: `
		$ai_span_name $ai_trace_name $otel_span_name $ai_metric_name $ai_metric_value $ai_evaluation_name $ai_evaluation_result $ai_experiment_name $ai_experiment_item_name
		$browser $os $os_name $os_distro $device $device_model $device_manufacturer $device_name $screen_name $app_name $app_namespace $title $feature_flag $feature_flag_reason
		$geoip_city_name $geoip_country_name $geoip_country_code $geoip_continent_name $geoip_continent_code $geoip_postal_code $geoip_time_zone $geoip_subdivision_1_name $geoip_subdivision_1_code
		surface task_type environment eval_name functionId trace_name span_name generation_name agent_config agent_step_name
		service.name otel.scope.name process.runtime.description os.description os.name device.model.name device.manufacturer host.type host.image.name
		traceloop.entity.path graph.node.name langfuse.trace.name langsmith.trace.session_name ai.telemetry.functionId`,
	kindLabel: `
		$ai_model $ai_evaluation_model $ai_prompt_name prompt_name model provider model_name model_requested $ai_model_cost_used $ai_cost_model_provider
		gen_ai.tool.name tool.name tool_name ai.toolCall.name gen_ai.agent.name agent.name agent_name gen_ai.request.model gen_ai.response.model ai.model.id ai.model.provider ai.response.model
		llm.model_name llm.request.model llm.response.model embedding.model_name reranker.model_name gen_ai.workflow.name traceloop.workflow.name traceloop.entity.name gen_ai.prompt.name
		gen_ai.data_source.name mastra.agent.name mastra.workflow.name mastra.tool.name logfire.agent.name llm.prompt_template.name llm.prompt_template.version`,
	kindNote:   `hedgerow_note attribution_error`,
	kindURL:    `$current_url $host $pathname $referrer $referring_domain $initial_current_url $session_entry_url $session_entry_host $session_entry_pathname $session_entry_referrer $session_entry_referring_domain $ai_base_url $ai_request_url`,
	kindCounts: `$ai_usage usage langfuse.observation.usage_details langfuse.observation.cost_details`,
	kindNames:  `$exception_types hedgerow_dropped hedgerow_warnings hedgerow_withheld $active_feature_flags $ai_tools_called`,
	kindPerson: `$set $set_once $initial_person_info $group_set`,
	kindHolder: `metadata`,
})

// knownFamilies are prefixes of names.
var knownFamilies = []struct {
	prefix string
	kind   kind
}{
	{"gen_ai.usage.", kindFigure}, {"gen_ai.aggregated_usage.", kindFigure}, {"gen_ai.cost.", kindFigure}, {"llm.usage.", kindFigure}, {"llm.token_count.", kindFigure},
	{"llm.cost.", kindFigure}, {"ai.usage.", kindFigure}, {"pydantic_ai.cache.", kindFigure}, {"mastra.usage.", kindFigure}, {"gen_ai.server.", kindFigure}, {"gen_ai.client.", kindFigure},
	{"k8s.pod.", kindID}, {"k8s.node.", kindID}, {"k8s.namespace.", kindID}, {"k8s.deployment.", kindID}, {"k8s.container.", kindID}, {"k8s.cluster.", kindID},
	{"k8s.replicaset.", kindID}, {"k8s.statefulset.", kindID}, {"k8s.daemonset.", kindID}, {"k8s.job.", kindID}, {"k8s.cronjob.", kindID},
	{"$session_entry_utm_", kindName}, {"$initial_utm_", kindName}, {"$feature/", kindID},
}

// callersFamilies are attributes in which known exporters send the caller's
// metadata or a call's properties. They are the caller's own.
var callersFamilies = []string{
	"ai.telemetry.metadata.", "traceloop.association.properties.", "langfuse.trace.metadata.", "langfuse.observation.metadata.", "langfuse.metadata.",
	"langsmith.metadata.", "mastra.metadata.", "trace.metadata.", "llm.metadata.", "metadata.", "hedgerow.property.", "posthog.property.", "posthog.properties.",
}

func byKind(lists map[kind]string) map[string]kind {
	m := make(map[string]kind)
	for k, list := range lists {
		for _, name := range strings.Fields(list) {
			m[name] = k
		}
	}
	return m
}

// known returns the kind of a known name.
func known(name string) kind {
	if k, ok := knownNames[name]; ok {
		return k
	}
	for _, f := range knownFamilies {
		if rest, ok := strings.CutPrefix(name, f.prefix); ok && len(rest) <= longestMember && !strings.ContainsFunc(rest, unicode.IsSpace) {
			return f.kind
		}
	}
	return kindNone
}

// longestMember is the maximum length of a name after its family's prefix.
const longestMember = 100

// callers reports whether an attribute is one by which an exporter has the
// caller's own properties.
func callers(name string) bool {
	for _, p := range callersFamilies {
		if strings.HasPrefix(name, p) && len(name) > len(p) {
			return true
		}
	}
	return false
}
