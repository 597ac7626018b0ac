package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/app"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// hedgerow runs the command in this process, and returns what it printed and its exit
// code.
func hedgerow(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	cmd := root()
	cmd.Writer, cmd.ErrWriter = &out, &out
	err := runCommand(t.Context(), cmd, append([]string{"hedgerow"}, args...))
	code := 0
	if err != nil {
		code = config.ExitFailure
		if exit := (*config.ExitError)(nil); errors.As(err, &exit) {
			code = exit.Code
		}
		out.WriteString(err.Error())
		if e := (*event.Error)(nil); errors.As(err, &e) {
			out.WriteString(" | " + e.Hint)
		}
	}
	return out.String(), code
}

// leaves are all commands that do something, with as many arguments as they need
// and the flags that they require.
func leaves(c *cli.Command, path ...string) (out [][]string) {
	if len(c.Commands) == 0 {
		least, _ := arguments(c.ArgsUsage)
		args := append(slices.Clone(path), slices.Repeat([]string{"something"}, least)...)
		for _, f := range c.Flags {
			if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() {
				args = append(args, "--"+f.Names()[0], "something")
			}
		}
		return [][]string{args}
	}
	for _, sub := range c.Commands {
		if sub.Name != "help" && sub.Name != "version" {
			out = append(out, leaves(sub, append(slices.Clone(path), sub.Name)...)...)
		}
	}
	return out
}

// Only serve, demo and restore make a data folder. Every other command says that
// there is none, ends with exit code 4, and leaves everything as it is.
func TestCommandsMakeNoDataFolder(t *testing.T) {
	t.Setenv("POSTHOG_API_KEY", "phc_0123456789")
	t.Setenv("HEDGEROW_DATA", "")
	t.Chdir(t.TempDir())
	all := leaves(root())
	if len(all) < 20 {
		t.Fatalf("only %d commands: %v", len(all), all)
	}
	for _, args := range all {
		if slices.Contains([]string{"serve", "demo", "restore"}, args[0]) {
			continue
		}
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			for name, set := range map[string]func(t *testing.T, dir string) (want string){
				"missing": func(*testing.T, string) string { return "data folder not found" },
				"empty": func(t *testing.T, dir string) string {
					if err := os.Mkdir(dir, 0o700); err != nil {
						t.Fatal(err)
					}
					return "is not a data folder of hedgerow"
				},
				"other": func(t *testing.T, dir string) string {
					if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("x"), 0o600)); err != nil {
						t.Fatal(err)
					}
					return "is not a data folder of hedgerow"
				},
				"a file": func(t *testing.T, dir string) string {
					if err := os.WriteFile(dir, []byte("x"), 0o600); err != nil {
						t.Fatal(err)
					}
					return "is a file"
				},
			} {
				dir := filepath.Join(t.TempDir(), "data")
				want := set(t, dir)
				before := contents(t, filepath.Dir(dir))
				args := append(slices.Clone(args), "--data", dir)
				if args[0] == "doctor" {
					args = append(args, "--offline")
				}
				out, code := hedgerow(t, args...)
				if code != config.ExitData || !strings.Contains(out, want) || !strings.Contains(out, "hedgerow serve creates a new one") {
					t.Errorf("%s folder: exit code %d, want 4 and %q: %s", name, code, want, out)
				}
				if after := contents(t, filepath.Dir(dir)); !slices.Equal(before, after) {
					t.Errorf("%s folder: there was %v, now %v", name, before, after)
				}
			}
			if left := contents(t, "."); len(left) > 0 {
				t.Errorf("left in the working folder: %v", left)
			}
		})
	}
}

func contents(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir {
			names = append(names, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// What a command does not understand is exit code 2, in any position.
func TestUsageErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"nothing"}, `no command "nothing"`},
		{[]string{"serv"}, `did you mean "serve"?`},
		{[]string{"project", "lst"}, `did you mean "list"?`},
		{[]string{"project", "list", "p2"}, `takes no arguments: got "p2"`},
		{[]string{"project", "keys", "p2"}, `takes no arguments: got "p2"`},
		{[]string{"project", "create"}, "needs NAME"},
		{[]string{"project", "create", "a", "b"}, `takes only NAME: got "b" as well`},
		{[]string{"project", "set", "--colour", "red"}, "not understood"},
		{[]string{"backup"}, "needs FOLDER"},
		{[]string{"backup", "a", "b"}, `got "b" as well`},
		{[]string{"restore"}, "needs FOLDER"},
		{[]string{"prices", "show"}, "needs [PROVIDER/]MODEL"},
		{[]string{"prices", "list", "a", "b"}, `got "b" as well`},
		{[]string{"serve", "now"}, `takes no arguments: got "now"`},
		{[]string{"doctor", "now"}, `takes no arguments: got "now"`},
		{[]string{"mcp", "now"}, `takes no arguments: got "now"`},
		{[]string{"connection", "status", "now"}, `takes no arguments: got "now"`},
		{[]string{"replay", "list", "--limit", "many"}, "not understood"},
	} {
		out, code := hedgerow(t, tt.args...)
		if code != config.ExitConfig || !strings.Contains(out, tt.want) {
			t.Errorf("%v: exit code %d, want 2 and %q: %s", tt.args, code, tt.want, out)
		}
	}
	if left := contents(t, "."); len(left) > 0 {
		t.Errorf("left in the working folder: %v", left)
	}
}

// A wrong variable is exit code 2 and says what to write, before anything is made.
func TestVariableErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, tt := range []struct{ name, value, want string }{
		{"HEDGEROW_REQUIRE_KEY", "perhaps", "write true or false"},
		{"HEDGEROW_MAX_CONNECTIONS", "a \"lot\"", "write a whole number"},
		{"HEDGEROW_UPSTREAM_TIMEOUT", "5", "10s or 2m"},
		{"HEDGEROW_SECRET_KEY", "short", "openssl rand -base64 32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			out, code := hedgerow(t, "serve", "--listen", "127.0.0.1:0")
			if code != config.ExitConfig || !strings.Contains(out, tt.name) || !strings.Contains(out, tt.want) {
				t.Errorf("exit code %d, %s", code, out)
			}
		})
	}
	if left := contents(t, "."); len(left) > 0 {
		t.Errorf("left in the working folder: %v", left)
	}
}

// Every subcommand reads the settings where serve reads them: from
// hedgerow.yaml, which is the working folder's or --config's, the environment
// and the command line, a later one of these winning; and rejects a wrong one as
// serve does.
func TestSubcommandsReadTheSettings(t *testing.T) {
	t.Setenv("POSTHOG_API_KEY", "phc_0123456789")
	work := t.TempDir()
	t.Chdir(work)
	for _, args := range leaves(root()) {
		if slices.Contains([]string{"serve", "demo", "restore"}, args[0]) {
			continue
		}
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			if args[0] == "doctor" {
				args = append(args, "--offline")
			}
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile("hedgerow.yaml", []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("data: ./from-file\njournal_max_bytes: 2GiB\n")
			defer os.Remove("hedgerow.yaml")
			if out, code := hedgerow(t, args...); code != config.ExitData || !strings.Contains(out, "from-file") {
				t.Errorf("the file: exit code %d: %s", code, out)
			}
			t.Setenv("HEDGEROW_DATA", "./from-environment")
			if out, code := hedgerow(t, args...); code != config.ExitData || !strings.Contains(out, "from-environment") {
				t.Errorf("the environment: exit code %d: %s", code, out)
			}
			if out, code := hedgerow(t, append(slices.Clone(args), "--data", "./from-flag")...); code != config.ExitData || !strings.Contains(out, "from-flag") {
				t.Errorf("the flag: exit code %d: %s", code, out)
			}
			for _, wrong := range []string{"journal_sync: sometimes\n", "jornal_sync: always\n", "data: [\n"} {
				write(wrong)
				if out, code := hedgerow(t, args...); code != config.ExitConfig {
					t.Errorf("%q: exit code %d, want 2: %s", wrong, code, out)
				}
			}
		})
	}
}

// A subcommand works on the folder that the file names.
func TestSubcommandsUseTheFoldersOfTheFile(t *testing.T) {
	t.Setenv("HEDGEROW_DATA", "") // so that it is put back
	os.Unsetenv("HEDGEROW_DATA")
	t.Chdir(t.TempDir())
	c := &config.Config{Data: "./kept", JournalMaxBytes: "1GiB", JournalSync: "interval", LogLevel: "error", LogFormat: "text", BufferBudget: "64MiB"}
	a, err := app.Offline(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	token := a.FirstStart().Project.Token
	a.Close(context.Background())
	if err := os.WriteFile("hedgerow.yaml", []byte("data: ./kept\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := hedgerow(t, "project", "list"); code != 0 || !strings.Contains(out, token) {
		t.Errorf("project list: exit code %d: %s", code, out)
	}
	if out, code := hedgerow(t, "backup", "./copy"); code != 0 || !strings.Contains(out, "backed up") {
		t.Errorf("backup: exit code %d: %s", code, out)
	}
	if out, code := hedgerow(t, "project", "set", "--content-role", "nobody"); code != config.ExitConfig {
		t.Errorf("a role that is none: exit code %d, want 2: %s", code, out)
	}
	if out, code := hedgerow(t, "restore", "./copy", "--data", "./again"); code != 0 {
		t.Errorf("restore: exit code %d: %s", code, out)
	}
	key, err := os.ReadFile("./kept/secret.key")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("./again/secret.key", key, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := hedgerow(t, "project", "list", "--data", "./again"); code != 0 || !strings.Contains(out, token) {
		t.Errorf("project list of the restored: exit code %d: %s", code, out)
	}
}
