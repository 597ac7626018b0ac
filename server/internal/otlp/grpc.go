package otlp

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // the compression of exporters
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// concurrentStreams is how many requests one gRPC connection may have in
// progress: exporters have one. A message is decompressed before it is counted.
const concurrentStreams = 8

// GRPC returns a server of OTLP over gRPC. It accepts the same requests as the
// HTTP routes, by the same rules: the token is the metadata "authorization",
// messages may be gzipped, and Limits.Body bounds them once decompressed. The
// caller serves and stops it.
func (h *Handler) GRPC() *grpc.Server {
	s := grpc.NewServer(grpc.ForceServerCodecV2(codec{}), grpc.MaxRecvMsgSize(int(h.limits.Body)), grpc.MaxConcurrentStreams(concurrentStreams), grpc.ConnectionTimeout(h.limits.Timeout))
	for _, sig := range signals {
		s.RegisterService(&grpc.ServiceDesc{
			ServiceName: sig.service(),
			HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any, ctx context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				return h.exportRPC(ctx, sig, read)
			}}},
		}, h)
	}
	return s
}

func (h *Handler) exportRPC(ctx context.Context, s signal, read func(any) error) (any, error) {
	start := time.Now()
	x := exchange{h.Memory.Open(ctx)}
	defer x.End()
	response, bad, err := h.readRPC(ctx, x, s, read)
	code := http.StatusOK
	switch {
	case err != nil:
		h.Observe(http.StatusBadRequest, time.Since(start))
		return nil, err
	case bad != nil:
		code = bad.Status
		h.Refuse(http.Header{}, bad)
		err = rpcError(bad)
	}
	h.Observe(code, time.Since(start))
	return response, err
}

func (h *Handler) readRPC(ctx context.Context, x exchange, s signal, read func(any) error) (proto.Message, *httpbody.Refusal, error) {
	authorization := ""
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get("authorization")) > 0 {
		authorization = md.Get("authorization")[0]
	}
	project, bad := h.project(authorization)
	if bad != nil {
		return nil, bad, nil
	}
	var m message
	if err := read(&m); err != nil {
		return nil, nil, err // gRPC's own error, unchanged
	}
	if bad := x.Take(int64(len(m))); bad != nil {
		return nil, bad, nil
	}
	response, bad := h.take(ctx, x, s, project, asProto, m)
	return response, bad, nil
}

// rpcError converts a refusal to gRPC. Exporters retry Unavailable, after the
// delay in its details.
func rpcError(bad *httpbody.Refusal) error {
	s := status.New(rpcCode(bad), bad.Message)
	if after, err := strconv.Atoi(bad.RetryAfter()); err == nil {
		if detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(after) * time.Second)}); err == nil {
			s = detailed
		}
	}
	return s.Err()
}

// message is an undecoded request: it is checked before it is decoded.
type message []byte

// codec leaves requests undecoded.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("cannot read a %T", v)
	}
	*m = data.Materialize()
	return nil
}

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("cannot write a %T", v)
	}
	b, err := proto.Marshal(m)
	return mem.BufferSlice{mem.SliceBuffer(b)}, err
}
