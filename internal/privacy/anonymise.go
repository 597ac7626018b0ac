package privacy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// HashID returns the lower-case hexadecimal HMAC-SHA256 of id under key. The
// same user has the same 64 characters within a project, and ids cannot be
// guessed without the key. It returns "" for an empty id or an empty key,
// because a hash without a key could be guessed.
func HashID(key []byte, id string) string {
	if id == "" || len(key) == 0 {
		return ""
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id))
	return hex.EncodeToString(m.Sum(nil))
}

// idProperties contain a user's id, like the distinct id.
var idProperties = []string{
	"distinct_id", "$anon_distinct_id", "alias", "$user_id", "user_id", "userId", "$device_id", "previous_distinct_id", "$distinct_id",
	"user", "safety_identifier", "end_user", "end_user_id", "customer_id", "account_user_id",
}

// personProperties identify a person.
var personProperties = []string{
	"$set", "$set_once", "$unset", "$ip", "$initial_ip", "$initial_person_info", "$initial_referrer", "$person_properties",
	"email", "$email", "name", "$name", "username", "user_name", "first_name", "last_name", "full_name", "phone", "phone_number", "address",
	"user_email", "userEmail", "avatar", "avatar_url",
}

// Personal reports whether a property identifies a person, so that it is
// not sent if ids are hashed.
func Personal(name string) bool { return slices.Contains(personProperties, name) }

// anonymise hashes the ids of persons and drops other identifying
// properties. It modifies the event's maps: the event must be a clone.
func anonymise(e *event.Event, key []byte) {
	e.DistinctID, e.User = HashID(key, e.DistinctID), HashID(key, e.User)
	for _, m := range []map[string]json.RawMessage{e.Properties, e.ModelParameters, e.ProviderMetadata} {
		for _, name := range personProperties {
			delete(m, name)
		}
		for _, name := range idProperties {
			v, ok := m[name]
			if !ok {
				continue
			}
			id := gjson.ParseBytes(v).String()
			if h := HashID(key, id); h != "" {
				m[name] = json.RawMessage(`"` + h + `"`)
			} else {
				delete(m, name)
			}
		}
	}
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage, 1)
	}
	e.Properties["$geoip_disable"] = json.RawMessage("true")
}
