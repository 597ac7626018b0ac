package flag_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/internal/flag"
)

func mustParse(t *testing.T, s string) *flag.Set {
	t.Helper()
	set, err := flag.Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The figures are of sha1sum: printf 'simple-flag.distinct_id_0' | sha1sum.
func TestHash(t *testing.T) {
	for _, c := range []struct {
		key, id, salt string
		want          float64
	}{
		{"simple-flag", "distinct_id_0", "", float64(0xc8a05362b9f414f) / 0xfffffffffffffff},
		{"simple-flag", "distinct_id_1", "variant", float64(0x81d53029d8a129d) / 0xfffffffffffffff},
	} {
		if got := flag.Hash(c.key, c.id, c.salt); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("Hash(%q, %q, %q) = %v, want %v", c.key, c.id, c.salt, got, c.want)
		}
	}
	below := 0
	for i := range 10_000 {
		h := flag.Hash("any", fmt.Sprint("user-", i), "")
		if h < 0 || h > 1 {
			t.Fatalf("hash %v", h)
		}
		if h <= 0.05 {
			below++
		}
	}
	if below < 430 || below > 570 { // 500 ± 3 standard deviations
		t.Errorf("%d of 10,000 are in the first 5 %%", below)
	}
}

func TestUndecided(t *testing.T) {
	set := mustParse(t, `{"flags":[
		{"key":"continuity","active":true,"ensure_experience_continuity":true,"filters":{"groups":[{"properties":[]}]}},
		{"key":"static","active":true,"filters":{"groups":[{"properties":[{"type":"cohort","key":"id","value":9}]},{"properties":[]}]}},
		{"key":"open","active":true,"filters":{"groups":[{"properties":[{"key":"plan","operator":"exact","value":"pro"}]}]}},
		{"key":"open-then-yes","active":true,"filters":{"groups":[{"properties":[{"key":"plan","operator":"exact","value":"pro"}]},{"properties":[]}]}},
		{"key":"group","active":true,"filters":{"aggregation_group_type_index":0,"groups":[{"properties":[]}]}},
		{"key":"a","active":true,"filters":{"groups":[{"properties":[{"type":"flag","key":"b","operator":"flag_evaluates_to","value":true,"dependency_chain":["b"]}]}]}},
		{"key":"b","active":true,"filters":{"groups":[{"properties":[{"type":"flag","key":"a","operator":"flag_evaluates_to","value":true,"dependency_chain":["a"]}]}]}},
		{"key":"on-group","active":true,"filters":{"groups":[{"properties":[{"type":"flag","key":"group","operator":"flag_evaluates_to","value":true,"dependency_chain":["group"]}]}]}},
		{"key":"round","active":true,"filters":{"groups":[{"properties":[{"type":"cohort","key":"id","value":1}]}]}},
		{"key":"new-operator","active":true,"filters":{"groups":[{"properties":[{"key":"distinct_id","operator":"sounds_like","value":"u"}]}]}},
		{"key":"not-in","active":true,"filters":{"groups":[{"properties":[{"type":"cohort","operator":"not_in","key":"id","value":2}]}]}},
		{"key":"off","active":false,"filters":{"groups":[{"properties":[]}]}}
	],"group_type_mapping":{"0":"company"},"cohorts":{"1":{"type":"OR","values":[{"type":"cohort","key":"id","value":1}]},"2":{"type":"OR","values":[]}}}`)
	for key, want := range map[string]any{
		"continuity": flag.ErrUndecided, "static": flag.ErrUndecided, "open": flag.ErrUndecided, "open-then-yes": true, "group": flag.ErrUndecided,
		"a": flag.ErrUndecided, "b": flag.ErrUndecided, "on-group": flag.ErrUndecided, "round": flag.ErrUndecided, "new-operator": flag.ErrUndecided,
		"not-in": flag.ErrUndecided, "off": false, "no-such": flag.ErrUnknown,
	} {
		v, err := set.Evaluate(key, flag.User{DistinctID: "u"})
		if wantErr, ok := want.(error); ok {
			if !errors.Is(err, wantErr) {
				t.Errorf("%s: %v, %v, want the error %v", key, v, err, wantErr)
			}
		} else if err != nil || v.Any() != want {
			t.Errorf("%s: %v, %v, want %v", key, v, err, want)
		}
	}
	if _, err := (*flag.Set)(nil).Evaluate("any", flag.User{}); !errors.Is(err, flag.ErrUnknown) {
		t.Errorf("a nil set: %v", err)
	}
}

func TestRelativeDates(t *testing.T) {
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	for ago, edge := range map[string]string{
		"-3h": "2026-03-31T09:00:00Z", "7d": "2026-03-24T12:00:00Z", "-2w": "2026-03-17T12:00:00Z", "-1m": "2026-03-03T12:00:00Z", "-1y": "2025-03-31T12:00:00Z",
	} {
		set := mustParse(t, fmt.Sprintf(`{"flags":[{"key":"f","active":true,"filters":{"groups":[{"properties":[{"key":"joined","operator":"is_date_after","value":%q}]}]}}]}`, ago))
		at, err := time.Parse(time.RFC3339, edge)
		if err != nil {
			t.Fatal(err)
		}
		for _, after := range []bool{false, true} {
			joined := at
			if after {
				joined = at.Add(time.Second)
			}
			v, err := set.Evaluate("f", flag.User{DistinctID: "u", Now: now, Properties: map[string]any{"joined": joined.Format(time.RFC3339)}})
			if err != nil || v.Enabled != after {
				t.Errorf("after %s, joined %s: %v, %v", ago, joined, v, err)
			}
		}
	}
}

// Numbers of Go's types are JSON's.
func TestNumbers(t *testing.T) {
	set := mustParse(t, `{"flags":[{"key":"f","active":true,"filters":{"groups":[{"properties":[{"key":"n","operator":"exact","value":[4,5]}]}]}}]}`)
	for _, n := range []any{5, int64(5), uint8(5), float32(5), 5.0} {
		if v, err := set.Evaluate("f", flag.User{DistinctID: "u", Properties: map[string]any{"n": n}}); err != nil || !v.Enabled {
			t.Errorf("%T: %v, %v", n, v, err)
		}
	}
	if v, err := set.Evaluate("f", flag.User{DistinctID: "u", Properties: map[string]any{"n": "5"}}); err != nil || v.Enabled {
		t.Errorf("text is no number: %v, %v", v, err)
	}
}

func TestPayload(t *testing.T) {
	set := mustParse(t, `{"flags":[{"key":"f","active":true,"filters":{"groups":[],"payloads":{"true":"{\"a\":1}","big":{"b":2},"odd":"not json"}}}]}`)
	for value, want := range map[flag.Value]string{
		{Enabled: true}:                 `{"a":1}`,
		{Enabled: true, Variant: "big"}: `{"b":2}`,
		{Enabled: true, Variant: "odd"}: `"not json"`,
		{Enabled: true, Variant: "no"}:  "",
		{}:                              "",
	} {
		if got := string(set.Payload("f", value)); got != want {
			t.Errorf("payload of %v: %s, want %s", value, got, want)
		}
	}
}

// A user in a small share remains in it when it grows, with the same variant.
func TestSplit(t *testing.T) {
	variants := []flag.Variant{{Key: "control", Rollout: 50}, {Key: "test", Rollout: 50}}
	small, large := flag.Split("f", 20, variants), flag.Split("f", 60, variants)
	one, two := flag.NewSet([]flag.Definition{small}, nil, nil, false), flag.NewSet([]flag.Definition{large}, nil, nil, false)
	count := map[flag.Value]int{}
	for i := range 5000 {
		u := flag.User{DistinctID: fmt.Sprint("u", i)}
		a, err := one.Evaluate("f", u)
		if err != nil {
			t.Fatal(err)
		}
		b, err := two.Evaluate("f", u)
		if err != nil {
			t.Fatal(err)
		}
		if a.Enabled && a != b {
			t.Fatalf("%s had %v and has %v", u.DistinctID, a, b)
		}
		count[b]++
	}
	for v, want := range map[flag.Value]int{{}: 2000, {Enabled: true, Variant: "control"}: 1500, {Enabled: true, Variant: "test"}: 1500} {
		if n := count[v]; n < want-120 || n > want+120 {
			t.Errorf("%v: %d of 5000, want about %d", v, n, want)
		}
	}
}

func TestCheck(t *testing.T) {
	ok := flag.Split("f", 5, []flag.Variant{{Key: "a", Rollout: 33.33}, {Key: "b", Rollout: 66.67}})
	if err := ok.Check(); err != nil {
		t.Error(err)
	}
	for want, d := range map[string]flag.Definition{
		"no key":           flag.Split("", 5, nil),
		"between 0 and":    flag.Split("f", 101, nil),
		"add up to 90":     flag.Split("f", 5, []flag.Variant{{Key: "a", Rollout: 40}, {Key: "b", Rollout: 50}}),
		"two variants":     flag.Split("f", 5, []flag.Variant{{Key: "a", Rollout: 50}, {Key: "a", Rollout: 50}}),
		"has no key":       flag.Split("f", 5, []flag.Variant{{Rollout: 100}}),
		`percentage of "a`: flag.Split("f", 5, []flag.Variant{{Key: "a", Rollout: math.NaN()}}),
	} {
		if err := d.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"flags":[{"key":"a","active":true,"filters":{"groups":[{"properties":[{"type":"cohort","value":1},{"type":"flag","key":"a","operator":"flag_evaluates_to","value":true,"dependency_chain":["a"]}],"rollout_percentage":50}],"multivariate":{"variants":[{"key":"x","rollout_percentage":100}]}}}],"group_type_mapping":{"0":"company"},"cohorts":{"1":{"type":"AND","values":[{"type":"OR","values":[{"key":"k","operator":"regex","value":"a+"}]}]}}}`))
	f.Add([]byte(`{"flags":[{"key":"a","active":true,"filters":{"aggregation_group_type_index":0,"early_exit":true,"groups":[{"properties":[{"key":"v","operator":"semver_wildcard","value":"1.*"}]},{"aggregation_group_type_index":1}]}}],"group_type_mapping":{"0":"company"}}`))
	f.Add([]byte(`{"flags":null,"cohorts":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := flag.Parse(b)
		if err != nil {
			return
		}
		u := flag.User{DistinctID: "u", Groups: map[string]string{"company": "c"}, Properties: map[string]any{"k": "aa", "v": "1.2.3", "n": 5, "d": "2024-01-01"}, Now: time.Unix(1e9, 0)}
		for _, d := range set.Flags[:min(len(set.Flags), 20)] {
			v, err := set.Evaluate(d.Key, u)
			if err != nil && v != (flag.Value{}) {
				t.Fatalf("%s: %v beside the error %v", d.Key, v, err)
			}
			again, againErr := set.Evaluate(d.Key, u)
			if again != v || (err == nil) != (againErr == nil) {
				t.Fatalf("%s: %v, %v and then %v, %v", d.Key, v, err, again, againErr)
			}
			set.Payload(d.Key, v)
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	d := flag.Split("f", 50, []flag.Variant{{Key: "control", Rollout: 50}, {Key: "test", Rollout: 50}})
	set, u := flag.NewSet([]flag.Definition{d}, nil, nil, false), flag.User{DistinctID: "user-1"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.Evaluate("f", u); err != nil {
			b.Fatal(err)
		}
	}
}
