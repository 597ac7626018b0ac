package provider

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// AmazonEvents encodes an AWS event stream
// (https://smithy.io/2.0/aws/amazon-eventstream.html) from lines, one message
// per line: an event type and its JSON. The JSON of a chunk is wrapped in
// base64, as Bedrock does; a type that ends in Exception is an exception.
func AmazonEvents(lines string) []byte {
	var out []byte
	for line := range strings.Lines(lines) {
		name, payload, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if name == "" {
			continue
		}
		kind := "event"
		if strings.HasSuffix(name, "Exception") {
			kind = "exception"
		}
		if name == "chunk" {
			payload = `{"bytes":"` + base64.StdEncoding.EncodeToString([]byte(payload)) + `","p":"abcdef"}`
		}
		var headers bytes.Buffer
		for _, h := range [...][2]string{{":" + kind + "-type", name}, {":content-type", "application/json"}, {":message-type", kind}} {
			headers.WriteByte(byte(len(h[0])))
			headers.WriteString(h[0])
			headers.WriteByte(7)
			headers.Write(binary.BigEndian.AppendUint16(nil, uint16(len(h[1]))))
			headers.WriteString(h[1])
		}
		m := binary.BigEndian.AppendUint32(nil, uint32(16+headers.Len()+len(payload)))
		m = binary.BigEndian.AppendUint32(m, uint32(headers.Len()))
		m = binary.BigEndian.AppendUint32(m, crc32.ChecksumIEEE(m))
		m = append(append(m, headers.Bytes()...), payload...)
		out = append(out, binary.BigEndian.AppendUint32(m, crc32.ChecksumIEEE(m))...)
	}
	return out
}
