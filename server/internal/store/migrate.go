package store

import (
	"fmt"
	"strings"
)

// migrations upgrade a file from version i to i+1. A released migration never
// changes. A new stored field of an event needs one: "ALTER TABLE events ADD
// COLUMN IF NOT EXISTS …".
var migrations = []migration{
	0:      {script: createEvents + createContent},
	2 - 1:  {script: "ALTER TABLE events ADD COLUMN IF NOT EXISTS cost_cache_saved " + moneyType}, // a new file has it from the start
	3 - 1:  {script: createDerived},
	4 - 1:  {script: deriveMore},
	5 - 1:  {script: deriveParts},
	6 - 1:  {script: deriveFaster},
	7 - 1:  {script: deriveSums},
	8 - 1:  {script: createDeleted},
	9 - 1:  {script: createSpanContent},
	10 - 1: {update: boundNumbers, script: forgetDerived},
	11 - 1: {script: "ALTER TABLE events ADD COLUMN IF NOT EXISTS attributes VARCHAR[]"}, // a new file has it from the start
	12 - 1: {script: "ALTER TABLE events ADD COLUMN IF NOT EXISTS error_code VARCHAR"},   // a new file has it from the start
	13 - 1: {script: deriveFailedTimes},
	14 - 1: {script: addPriceFactors},
	15 - 1: {script: addCounts},
	16 - 1: {script: createMerges},
	17 - 1: {script: createRepricings},
	18 - 1: {script: deriveKnownCosts},
}

const addCounts = `
ALTER TABLE events ADD COLUMN IF NOT EXISTS cache_write_12h_tokens BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS input_video_tokens BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS output_video_tokens BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS input_document_tokens BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS output_tokens_estimated BIGINT;`

// OldestSchema is the schema version of the first published hedgerow, 3b558a2.
// Downgrades to older ones are not supported.
const OldestSchema = 7

// createEvents has a column for each field of version 12. Older binaries created
// fewer, so some migrations use IF NOT EXISTS.
//
// There is no primary key: DuckDB's index would keep every uuid in memory, be
// written whole at each checkpoint and forbid compaction after deletes. Write
// keeps uuids unique instead.
const createEvents = `
CREATE TABLE events (
	uuid UUID NOT NULL, project_id VARCHAR NOT NULL, name VARCHAR NOT NULL, ts TIMESTAMP NOT NULL, stored_at TIMESTAMP NOT NULL,
	content_bytes BIGINT NOT NULL,
	distinct_id VARCHAR, source VARCHAR, trace_id VARCHAR, span_id VARCHAR, parent_id VARCHAR, session_id VARCHAR, trace_name VARCHAR,
	span_name VARCHAR, ai_user VARCHAR,
	provider VARCHAR, model_asked VARCHAR, model VARCHAR, operation VARCHAR, base_url VARCHAR, request_url VARCHAR, method VARCHAR,
	input_tokens BIGINT, output_tokens BIGINT, total_tokens BIGINT, tokens BIGINT, cache_read_tokens BIGINT, cache_write_tokens BIGINT,
	cache_write_5m_tokens BIGINT, cache_write_1h_tokens BIGINT, cache_exclusive BOOLEAN, reasoning_tokens BIGINT,
	input_audio_tokens BIGINT, output_audio_tokens BIGINT, cache_read_audio_tokens BIGINT, input_image_tokens BIGINT,
	output_image_tokens BIGINT, input_text_tokens BIGINT, output_text_tokens BIGINT, web_searches BIGINT, images BIGINT,
	cost_reported DECIMAL(38,18), cost_input DECIMAL(38,18), cost_output DECIMAL(38,18), cost_request DECIMAL(38,18),
	cost_web_search DECIMAL(38,18), cost_total DECIMAL(38,18), cost_model VARCHAR, cost_source VARCHAR, cost_provider VARCHAR,
	latency_us BIGINT, ttft_us BIGINT, stream BOOLEAN, http_status INTEGER, request_bytes BIGINT, response_bytes BIGINT,
	is_error BOOLEAN NOT NULL, error_type VARCHAR, error_message VARCHAR, status VARCHAR, stop_reason VARCHAR, parse_error VARCHAR,
	completion_id VARCHAR, system_fingerprint VARCHAR, service_tier VARCHAR, model_parameters VARCHAR, provider_metadata VARCHAR,
	prompt_name VARCHAR, prompt_version VARCHAR, prompt_version_id VARCHAR, prompt_hash VARCHAR,
	surface VARCHAR, task_type VARCHAR, environment VARCHAR, tags VARCHAR[], flags VARCHAR, group_keys VARCHAR,
	input_chars BIGINT, output_chars BIGINT, input_length_bucket VARCHAR, output_category VARCHAR, properties VARCHAR,
	private BOOLEAN NOT NULL,
	cost_cache_saved DECIMAL(38,18), attributes VARCHAR[], error_code VARCHAR
);`

const createContent = `
CREATE TABLE content (
	uuid UUID NOT NULL,
	project_id VARCHAR NOT NULL,
	stored_at TIMESTAMP NOT NULL, -- equal to the event's
	body BLOB NOT NULL USING COMPRESSION uncompressed -- compressed already: see content.go
);`

// createDerived creates the tables from which package query answers with a few
// rows instead of counting millions. Package query documents their contents; see
// [DuckDB.Derive]. They can be emptied at any time: queries are then slower
// until they are filled again.
const createDerived = `
CREATE TABLE rolled ( -- stretches of stored_at whose events are rolled up, without gaps: (first, last]
	first TIMESTAMP NOT NULL,
	last TIMESTAMP NOT NULL,
	events BIGINT NOT NULL
);
CREATE TABLE rolled_floor ( -- projects whose rolled up events were deleted up to here
	project_id VARCHAR NOT NULL,
	floor TIMESTAMP NOT NULL -- the end of a stretch
);
CREATE TABLE rollup ( -- sums over the events of a stretch, by one dimension each
	last TIMESTAMP NOT NULL, -- the stretch
	project_id VARCHAR NOT NULL,
	kind VARCHAR NOT NULL,
	dim VARCHAR NOT NULL,
	value VARCHAR NOT NULL,
	environment VARCHAR NOT NULL,
	is_error BOOLEAN NOT NULL,
	slot TIMESTAMP NOT NULL,
	n BIGINT NOT NULL,
	input_tokens BIGINT,
	output_tokens BIGINT,
	tokens BIGINT,
	cache_read_tokens BIGINT,
	cache_write_tokens BIGINT,
	reasoning_tokens BIGINT,
	cached_input BIGINT,
	all_input BIGINT,
	cost_total DECIMAL(38,18),
	metered BIGINT NOT NULL,
	costed BIGINT NOT NULL,
	cost_cache_saved DECIMAL(38,18)
);
CREATE TABLE rollup_times ( -- how often a time fell into a bin
	last TIMESTAMP NOT NULL,
	project_id VARCHAR NOT NULL,
	dim VARCHAR NOT NULL,
	value VARCHAR NOT NULL,
	slot TIMESTAMP NOT NULL,
	what VARCHAR NOT NULL,
	bin SMALLINT NOT NULL,
	n BIGINT NOT NULL
);
CREATE TABLE rollup_users ( -- who called on a day
	last TIMESTAMP NOT NULL,
	project_id VARCHAR NOT NULL,
	day TIMESTAMP NOT NULL,
	distinct_id VARCHAR NOT NULL
);
CREATE TABLE rollup_outcomes ( -- outcomes, with what they say read out of their properties, and what they have of their call
	last TIMESTAMP NOT NULL,
	project_id VARCHAR NOT NULL,
	uuid UUID NOT NULL,
	ts TIMESTAMP NOT NULL,
	name VARCHAR NOT NULL,
	is_error BOOLEAN NOT NULL,
	trace_id VARCHAR,
	span_name VARCHAR,
	status VARCHAR,
	error_type VARCHAR,
	error_message VARCHAR,
	latency_us BIGINT,
	ttft_us BIGINT,
	tokens BIGINT,
	cost_total DECIMAL(38,18),
	tags VARCHAR[],
	flags VARCHAR,
	properties VARCHAR,
	prompt_name VARCHAR,
	prompt_version VARCHAR,
	prompt_version_id VARCHAR,
	provider VARCHAR,
	model VARCHAR,
	model_asked VARCHAR,
	operation VARCHAR,
	environment VARCHAR,
	surface VARCHAR,
	task_type VARCHAR,
	distinct_id VARCHAR,
	session_id VARCHAR,
	input_length_bucket VARCHAR,
	call_order BIGINT,
	call_prompt_name VARCHAR,
	call_prompt_version VARCHAR,
	call_prompt_version_id VARCHAR,
	call_provider VARCHAR,
	call_model VARCHAR,
	call_model_asked VARCHAR,
	call_operation VARCHAR,
	call_environment VARCHAR,
	call_surface VARCHAR,
	call_task_type VARCHAR,
	call_distinct_id VARCHAR,
	call_session_id VARCHAR,
	call_input_length_bucket VARCHAR,
	is_task_completed VARCHAR,
	is_user_feedback VARCHAR,
	is_escalated_to_human VARCHAR,
	is_accepted_output VARCHAR,
	is_edited_output VARCHAR,
	is_eval_passed VARCHAR,
	is_retry_count VARCHAR,
	is_eval_score VARCHAR,
	is_ai_score VARCHAR,
	is_ai_metric_value VARCHAR,
	is_eval_name VARCHAR,
	is_ai_metric_name VARCHAR,
	is_ai_evaluation_name VARCHAR,
	is_agent_config VARCHAR,
	is_ai_evaluation_result VARCHAR,
	parent_id VARCHAR
);`

// deriveMore adds derived tables, and has all of them filled again: older rows
// lack the times of some breakdowns.
const deriveMore = `
CREATE TABLE rollup_errors ( -- failed events that say how they failed, with their normalised message
	last TIMESTAMP NOT NULL,
	project_id VARCHAR NOT NULL,
	uuid UUID NOT NULL,
	ts TIMESTAMP NOT NULL,
	stored_at TIMESTAMP NOT NULL,
	name VARCHAR NOT NULL,
	is_error BOOLEAN NOT NULL,
	error_type VARCHAR,
	error_message VARCHAR,
	status VARCHAR,
	provider VARCHAR,
	model VARCHAR,
	model_asked VARCHAR,
	operation VARCHAR,
	prompt_name VARCHAR,
	prompt_version VARCHAR,
	prompt_version_id VARCHAR,
	surface VARCHAR,
	task_type VARCHAR,
	environment VARCHAR,
	input_length_bucket VARCHAR,
	distinct_id VARCHAR,
	trace_id VARCHAR,
	session_id VARCHAR,
	m VARCHAR NOT NULL
);
CREATE TABLE rollup_ids ( -- which traces and sessions have events in a stretch
	last TIMESTAMP NOT NULL,
	project_id VARCHAR NOT NULL,
	hash BIGINT NOT NULL -- of the kind of id and the id
);
DELETE FROM rolled; DELETE FROM rolled_floor; DELETE FROM rollup; DELETE FROM rollup_times; DELETE FROM rollup_users; DELETE FROM rollup_outcomes;`

// deriveParts adds a derived table, and has all of them filled again with it.
const deriveParts = `
CREATE TABLE rollup_parts ( -- sums over the events of one trace, session and user within a slot
	last TIMESTAMP NOT NULL,
	project_id VARCHAR NOT NULL,
	trace_id VARCHAR,
	session_id VARCHAR,
	distinct_id VARCHAR,
	first TIMESTAMP NOT NULL,
	latest TIMESTAMP NOT NULL,
	began BIGINT,
	ended BIGINT,
	trace_name VARCHAR,
	named TIMESTAMP,
	root_name VARCHAR,
	rooted TIMESTAMP,
	events BIGINT NOT NULL,
	calls BIGINT NOT NULL,
	errors BIGINT NOT NULL,
	tokens BIGINT,
	cost DECIMAL(38,18),
	uncosted BIGINT NOT NULL,
	first_value TIMESTAMP
);
DELETE FROM rolled; DELETE FROM rolled_floor; DELETE FROM rollup; DELETE FROM rollup_times; DELETE FROM rollup_users; DELETE FROM rollup_outcomes; DELETE FROM rollup_errors; DELETE FROM rollup_ids;`

// timesTables have the times of one breakdown each. Migration 6 creates them;
// later ones need their own migration and are not in this list.
var timesTables = []string{"rollup_times_all", "rollup_times_model_asked", "rollup_times_model", "rollup_times_provider", "rollup_times_prompt", "rollup_times_surface", "rollup_times_input_length", "rollup_times_tool"}

// deriveFaster adds derived tables, keeps the bins of times in one text for
// each slot of time, and has all derived tables filled again.
var deriveFaster = func() string {
	var b strings.Builder
	b.WriteString("DROP TABLE rollup_times;")
	for _, table := range timesTables {
		b.WriteString("\nCREATE TABLE " + table + ` ( -- how often a time fell into a bin: "bin:n bin …"
	last TIMESTAMP NOT NULL,
	project_id VARCHAR NOT NULL,
	value VARCHAR NOT NULL,
	environment VARCHAR NOT NULL,
	slot TIMESTAMP NOT NULL,
	latency VARCHAR,
	ttft VARCHAR,
	tool VARCHAR
);`)
	}
	return b.String()
}() + `
CREATE TABLE rollup_properties ( -- which properties the calls of a stretch have
	last TIMESTAMP NOT NULL,
	project_id VARCHAR NOT NULL,
	name VARCHAR NOT NULL,
	rolled BOOLEAN NOT NULL -- table rollup has rows of it
);
CREATE TABLE rollup_traces ( -- the parts of traces that a stretch has
	last TIMESTAMP NOT NULL,
	project_id VARCHAR NOT NULL,
	trace_id VARCHAR NOT NULL,
	hash UBIGINT NOT NULL,
	first TIMESTAMP NOT NULL, -- of its events
	latest TIMESTAMP NOT NULL,
	calls BIGINT NOT NULL,
	depth INTEGER,
	shared BOOLEAN NOT NULL -- another stretch had a part, too
);
DELETE FROM rolled; DELETE FROM rolled_floor; DELETE FROM rollup; DELETE FROM rollup_users; DELETE FROM rollup_outcomes; DELETE FROM rollup_errors; DELETE FROM rollup_ids; DELETE FROM rollup_parts;`

// deriveSums adds sums to the rows of traces, and makes all derived tables be
// filled again with them: those that exist at that version, regardless of later
// ones.
var deriveSums = `
ALTER TABLE rollup_traces ADD COLUMN errors BIGINT;
ALTER TABLE rollup_traces ADD COLUMN tokens BIGINT;
ALTER TABLE rollup_traces ADD COLUMN cost DECIMAL(38,18);
ALTER TABLE rollup_traces ADD COLUMN began BIGINT;
ALTER TABLE rollup_traces ADD COLUMN ended BIGINT;
DELETE FROM rolled; DELETE FROM rolled_floor; DELETE FROM rollup; DELETE FROM rollup_users; DELETE FROM rollup_outcomes; DELETE FROM rollup_errors; DELETE FROM rollup_ids; DELETE FROM rollup_properties; DELETE FROM rollup_traces; DELETE FROM rollup_parts; DELETE FROM ` + strings.Join(timesTables, "; DELETE FROM ") + ";"

// createDeleted makes the tables that deletions of single events need.
const createDeleted = `
CREATE TABLE deleted_events ( -- what is not stored when the journal brings it again
	uuid UUID NOT NULL,
	project_id VARCHAR NOT NULL,
	deleted_at TIMESTAMP NOT NULL
);
CREATE TABLE rolled_stale ( -- stretches as in table rolled, of which the derived tables have no rows until they are rolled up again
	first TIMESTAMP NOT NULL,
	last TIMESTAMP NOT NULL
);`

// boundNumbers makes the numbers unknown that no event could have today (see
// event.Bounds): older binaries let them in, and sums over them failed. What
// followed from them, the total of tokens and the cost that hedgerow worked out, is
// unknown as well.
var boundNumbers = func() string {
	const tokens, count, bytes, us, usd = "10000000000", "10000000000", "1099511627776", "2592000000000", "1000000"
	var set []string
	var any []string
	bound := func(most string, columns ...string) {
		for _, c := range columns {
			set = append(set, fmt.Sprintf("%s = CASE WHEN %s BETWEEN 0 AND %s THEN %s END", c, c, most, c))
			any = append(any, fmt.Sprintf("NOT %s BETWEEN 0 AND %s", c, most))
		}
	}
	bound(tokens, "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "reasoning_tokens", "input_audio_tokens", "output_audio_tokens", "cache_read_audio_tokens",
		"input_image_tokens", "output_image_tokens", "input_text_tokens", "output_text_tokens")
	wrong := "coalesce(" + strings.Join(any, " OR ") + ", false)" // some count
	bound(count, "web_searches", "images", "input_chars", "output_chars")
	bound(bytes, "request_bytes", "response_bytes")
	bound(us, "latency_us", "ttft_us")
	bound(usd, "cost_reported")
	for _, c := range []string{"total_tokens", "tokens"} {
		set = append(set, fmt.Sprintf("%s = CASE WHEN %s BETWEEN 0 AND 4 * %s AND NOT %s THEN %s END", c, c, tokens, wrong, c))
		any = append(any, fmt.Sprintf("NOT %s BETWEEN 0 AND 4 * %s", c, tokens))
	}
	for _, c := range []string{"cost_input", "cost_output", "cost_request", "cost_web_search", "cost_total", "cost_cache_saved"} {
		set = append(set, fmt.Sprintf("%s = CASE WHEN %s BETWEEN 0 AND %s AND (coalesce(cost_source, '') = 'passthrough' OR NOT %s) THEN %s END", c, c, usd, wrong, c))
		any = append(any, fmt.Sprintf("NOT %s BETWEEN 0 AND %s", c, usd))
	}
	return "UPDATE events SET " + strings.Join(set, ", ") + " WHERE (" + strings.Join(any, " OR ") + ")"
}()

// forgetDerived has all derived tables rebuilt: from version 10 on input_tokens of
// table rollup counts all input, tokens read from and written to a cache included.
var forgetDerived = "DELETE FROM rolled; DELETE FROM rolled_floor; DELETE FROM rolled_stale; DELETE FROM rollup; DELETE FROM rollup_users; DELETE FROM rollup_outcomes; DELETE FROM rollup_errors; DELETE FROM rollup_ids; DELETE FROM rollup_properties; DELETE FROM rollup_traces; DELETE FROM rollup_parts; DELETE FROM " +
	strings.Join(timesTables, "; DELETE FROM ") + ";"

// deriveFailedTimes separates the times of failed and completed calls, and has
// all derived tables rebuilt.
var deriveFailedTimes = func() string {
	var b strings.Builder
	for _, table := range timesTables {
		b.WriteString("ALTER TABLE " + table + " ADD COLUMN IF NOT EXISTS latency_failed VARCHAR; ALTER TABLE " + table + " ADD COLUMN IF NOT EXISTS ttft_failed VARCHAR;")
	}
	return b.String()
}() + forgetDerived

// addPriceFactors adds the fields that determine a price, and the unpriced
// usage.
const addPriceFactors = `
ALTER TABLE events ADD COLUMN IF NOT EXISTS speed VARCHAR;
ALTER TABLE events ADD COLUMN IF NOT EXISTS inference_geo VARCHAR;
ALTER TABLE events ADD COLUMN IF NOT EXISTS cache_read_image_tokens BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS media_us BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS characters BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS pages BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS file_searches BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS code_sessions BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS search_units BIGINT;
ALTER TABLE events ADD COLUMN IF NOT EXISTS cost_tools DECIMAL(38,18);
ALTER TABLE events ADD COLUMN IF NOT EXISTS cost_unpriced VARCHAR;
ALTER TABLE events ADD COLUMN IF NOT EXISTS cost_before DECIMAL(38,18);
ALTER TABLE events ADD COLUMN IF NOT EXISTS cost_repricing VARCHAR;`

// deriveKnownCosts adds what is known of the costs of incompletely priced calls, and the
// number of failures that are not calls', and has all derived tables rebuilt.
var deriveKnownCosts = `
ALTER TABLE rollup ADD COLUMN IF NOT EXISTS cost_known DECIMAL(38,18);
ALTER TABLE rollup ADD COLUMN IF NOT EXISTS incomplete BIGINT;
ALTER TABLE rollup_parts ADD COLUMN IF NOT EXISTS failures BIGINT;
ALTER TABLE rollup_parts ADD COLUMN IF NOT EXISTS incomplete BIGINT;` + forgetDerived
