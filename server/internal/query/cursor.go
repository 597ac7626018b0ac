package query

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// cursor is where a page ended. Its text is base64url, without padding, of
//
//	1 (version)  int64 microseconds since 1970, big endian  16 bytes of uuid
//
// and means nothing to those who pass it on.
type cursor struct {
	ts time.Time
	id uuid.UUID
}

const (
	cursorVersion = 1
	cursorLen     = 1 + 8 + 16
)

// The years that a stored timestamp can have.
var (
	minMicros = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	maxMicros = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - 1
)

func (c cursor) String() string {
	b := make([]byte, 1, cursorLen)
	b[0] = cursorVersion
	b = binary.BigEndian.AppendUint64(b, uint64(c.ts.UnixMicro()))
	b = append(b, c.id[:]...)
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(s string) (cursor, error) {
	invalid := event.Invalid("the cursor is not one that hedgerow gave", `leave it out to start at the newest event, or send "next_cursor" of the page before unchanged`)
	if base64.RawURLEncoding.DecodedLen(len(s)) != cursorLen {
		return cursor{}, invalid
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != cursorLen || b[0] != cursorVersion {
		return cursor{}, invalid
	}
	us := int64(binary.BigEndian.Uint64(b[1:9]))
	if us < minMicros || us > maxMicros {
		return cursor{}, invalid
	}
	return cursor{time.UnixMicro(us).UTC(), uuid.UUID(b[9:])}, nil
}

// after is the condition of what follows a cursor, where there is one, in the order
// of time, the newest first.
func (r *Reader) after(s string) (sqlf.Fragment, error) {
	if s == "" {
		return sqlf.Fragment{}, nil
	}
	c, err := parseCursor(s)
	return sqlf.New("{ts} <= ? AND ({ts} < ? OR uuid < ?)", c.ts, c.ts, r.sql.uuid(c.id.String())), err
}
