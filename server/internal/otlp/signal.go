package otlp

import (
	"path"
	"strings"

	logscollector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricscollector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// signal is one of OTLP's signals.
type signal int

const (
	none     signal = iota
	traces          // become events
	logs            // GenAI records become content of their span, the others are discarded
	measures        // are discarded
	profiles        // are discarded
)

var signals = [...]signal{traces, logs, measures, profiles}

// signalOf returns the signal of a path. An SDK appends its path to a base URL
// that the user sets, so anything may precede it: PostHog's path, a provider's
// route, a proxy's prefix. No provider has paths with these endings. Extra
// slashes and capitals are ignored: a misspelled OTLP path still carries
// prompts and must not reach a provider.
func signalOf(p string) signal {
	// This runs for every gateway call, so exclude most paths cheaply.
	end := len(p)
	for end > 0 && (p[end-1] == '/' || p[end-1] == '.') {
		end--
	}
	if end == 0 || p[end-1]|0x20 != 's' && p[end-1]|0x20 != 'l' {
		return none
	}
	clean := strings.ToLower(path.Clean(p))
	switch {
	case clean == "/i/v0/ai/otel":
		return traces // PostHog's path
	case strings.HasPrefix(clean, "/api/"):
		return none // hedgerow's API has /api/v1/traces
	case strings.HasSuffix(clean, "/v1/traces"):
		return traces
	case strings.HasSuffix(clean, "/v1/logs"):
		return logs
	case strings.HasSuffix(clean, "/v1/metrics"):
		return measures
	case strings.HasSuffix(clean, "/v1development/profiles"), strings.HasSuffix(clean, "/v1/profiles"):
		return profiles
	}
	return none
}

// response returns the signal's success response. That of profiles is empty as
// long as nothing was rejected, like the others.
func (s signal) response() proto.Message {
	switch s {
	case traces:
		return &collector.ExportTraceServiceResponse{}
	case logs:
		return &logscollector.ExportLogsServiceResponse{}
	case measures:
		return &metricscollector.ExportMetricsServiceResponse{}
	}
	return &emptypb.Empty{}
}

// service is the signal's gRPC service.
func (s signal) service() string {
	switch s {
	case traces:
		return collector.TraceService_ServiceDesc.ServiceName
	case logs:
		return logscollector.LogsService_ServiceDesc.ServiceName
	case measures:
		return metricscollector.MetricsService_ServiceDesc.ServiceName
	}
	return "opentelemetry.proto.collector.profiles.v1development.ProfilesService"
}
