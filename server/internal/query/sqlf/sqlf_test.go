package sqlf_test

import (
	"reflect"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

func TestNew(t *testing.T) {
	tokens := sqlf.New("coalesce({tokens}, ?)", 0)
	for name, c := range map[string]struct {
		fragment sqlf.Fragment
		text     string
		args     []any
		columns  []string
	}{
		"plain":         {sqlf.New("true"), "true", nil, nil},
		"value":         {sqlf.New("{model} = ?", "gpt"), "model = ?", []any{"gpt"}, []string{"model"}},
		"list value":    {sqlf.New("list_contains(?, {model})", []any{"a", "b"}), "list_contains(?, model)", []any{[]any{"a", "b"}}, []string{"model"}},
		"fragment":      {sqlf.New("? > ? AND {model} = ?", tokens, 7, "gpt"), "coalesce(tokens, ?) > ? AND model = ?", []any{0, 7, "gpt"}, []string{"tokens", "model"}},
		"fragments":     {sqlf.New("SELECT ? FROM events", sqlf.Columns("ts", "name")), "SELECT ts, name FROM events", nil, []string{"ts", "name"}},
		"quotes":        {sqlf.New(`regexp_replace({m}, '[0-9]{8}?', 'it''s {x}', ?)`, "g"), `regexp_replace(m, '[0-9]{8}?', 'it''s {x}', ?)`, []any{"g"}, []string{"m"}},
		"and":           {sqlf.Fragment{}.And(tokens, sqlf.Fragment{}).Andf("{a} = ?", 1), "coalesce(tokens, ?) AND a = ?", []any{0, 1}, []string{"tokens", "a"}},
		"or":            {sqlf.Or(sqlf.New("{a} = ?", 1), sqlf.New("{b} = ?", 2)), "(a = ? OR b = ?)", []any{1, 2}, []string{"a", "b"}},
		"or of nothing": {sqlf.Or(), "false", nil, nil},
		"closed":        {sqlf.New("(SELECT {a} FROM t WHERE {b} = ?)", 1).Closed(), "(SELECT a FROM t WHERE b = ?)", []any{1}, nil},
		"named":         {tokens.As("n"), "coalesce(tokens, ?) AS n", []any{0}, []string{"tokens"}},
	} {
		if c.fragment.String() != c.text || !reflect.DeepEqual(c.fragment.Args(), c.args) {
			t.Errorf("%s: %q with %v, want %q with %v", name, c.fragment, c.fragment.Args(), c.text, c.args)
		}
		for _, column := range []string{"model", "tokens", "ts", "name", "m", "a", "b", "x"} {
			want := false
			for _, u := range c.columns {
				want = want || u == column
			}
			if c.fragment.Uses(column) != want {
				t.Errorf("%s: that it uses %s is %v", name, column, !want)
			}
		}
	}
}

// TestValues: a fragment that is used twice is changed by neither use.
func TestValues(t *testing.T) {
	base := sqlf.New("{a} = ?", 1)
	first, second := base.Andf("{b} = ?", 2), base.Using("d").Andf("{c} = ?", 3)
	if base.String() != "a = ?" || len(base.Args()) != 1 || base.Uses("b") || base.Uses("d") {
		t.Errorf("the fragment became %q with %v", base, base.Args())
	}
	if first.Args()[1] != 2 || second.Args()[1] != 3 || first.Uses("c") {
		t.Errorf("%v and %v are mixed up", first.Args(), second.Args())
	}
}

func TestMistakes(t *testing.T) {
	for _, f := range []func(){
		func() { sqlf.New("a = ?") },
		func() { sqlf.New("a = 1", 1) },
		func() { sqlf.New("{a = 1") },
		func() { sqlf.New("'a = 1", 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a mistake was taken")
				}
			}()
			f()
		}()
	}
}
