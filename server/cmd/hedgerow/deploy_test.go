package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/urfave/cli/v3"
	"go.yaml.in/yaml/v3"
)

const top = "../../.."

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, name)), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// deployed are the files by which people install hedgerow, and the page about that.
func deployed(t *testing.T) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(top), "deploy", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasSuffix(name, ".go") && !strings.HasPrefix(filepath.Base(name), "go.") {
			names = append(names, name)
		}
		return err
	})
	if err != nil || len(names) < 10 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	return append(names, "docs/install.md", "packaging/internal/image/layout.go")
}

// TestDeployUsesKnownVariables holds what is in deploy/ to name variables that
// hedgerow reads.
func TestDeployUsesKnownVariables(t *testing.T) {
	known := []string{"HEDGEROW_SECRET_KEY", "HEDGEROW_SMTP_URL", "HEDGEROW_PRICES_REFRESH", "POSTHOG_API_KEY", "POSTHOG_HOST", "POSTHOG_PERSONAL_API_KEY",
		"HEDGEROW_IMAGE_TAG"} // compose.yaml's own
	for _, sub := range root().Commands {
		for _, f := range sub.Flags {
			if f, ok := f.(cli.DocGenerationFlag); ok {
				known = append(known, f.GetEnvVars()...)
			}
		}
	}
	found := 0
	for _, name := range deployed(t) {
		for _, v := range regexp.MustCompile(`\b(HEDGEROW|POSTHOG)_[A-Z0-9_]+`).FindAllString(readFile(t, name), -1) {
			found++
			if !slices.Contains(known, v) {
				t.Errorf("%s: hedgerow does not read %s", name, v)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d variables were found", found)
	}
}

// TestDeployUsesKnownCommands holds the command lines of deploy/ and of the page about
// installing to be what hedgerow understands.
func TestDeployUsesKnownCommands(t *testing.T) {
	found := 0
	for _, name := range deployed(t) {
		text := strings.NewReplacer(`", "`, " ", `["`, " ", `"]`, " ", "`", " \n").Replace(readFile(t, name))
		for _, m := range regexp.MustCompile(`\bhedgerow ((?:serve|demo|health|project|connection|doctor|version|backup|restore)\b[^\n|#&;)]*)`).FindAllStringSubmatch(text, -1) {
			found++
			if wrong := unknown(root(), strings.Fields(m[1])); wrong != "" {
				t.Errorf("%s: hedgerow %s: there is no %s", name, m[1], wrong)
			}
		}
	}
	if found < 6 {
		t.Errorf("only %d commands were found", found)
	}
	if unknown(root(), []string{"health", "--form", "store"}) == "" || unknown(root(), []string{"project", "nothing"}) == "" {
		t.Error("an unknown flag or command goes unnoticed")
	}
}

// unknown is the first command or flag of a command line that there is none of.
func unknown(c *cli.Command, args []string) string {
	for _, a := range args {
		if a == "…" {
			return "" // whatever follows
		}
		if name, ok := strings.CutPrefix(a, "--"); ok {
			name, _, _ = strings.Cut(name, "=")
			if !slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }) {
				return a
			}
			continue
		}
		if len(c.Commands) == 0 {
			continue // an argument, or a flag's value
		}
		i := slices.IndexFunc(c.Commands, func(sub *cli.Command) bool { return sub.Name == a })
		if i < 0 {
			return a
		}
		c = c.Commands[i]
	}
	return ""
}

// TestCompose holds the service to be as safe as the image, and to say how to get a key.
func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Image       string            `yaml:"image"`
			Environment map[string]string `yaml:"environment"`
			Ports       []string          `yaml:"ports"`
			Volumes     []string          `yaml:"volumes"`
			Healthcheck struct {
				Test []string `yaml:"test"`
			} `yaml:"healthcheck"`
			ReadOnly bool     `yaml:"read_only"`
			CapDrop  []string `yaml:"cap_drop"`
		} `yaml:"services"`
		Volumes map[string]any `yaml:"volumes"`
	}
	readYAML(t, "deploy/compose.yaml", &file)
	s, ok := file.Services["hedgerow"]
	if !ok || len(file.Services) != 1 {
		t.Fatalf("services: %+v", file.Services)
	}
	if s.Environment["HEDGEROW_LISTEN"] != "0.0.0.0:4100" || !slices.Equal(s.Ports, []string{"127.0.0.1:4100:4100"}) || s.Environment["HEDGEROW_REQUIRE_KEY"] != "" {
		t.Errorf("it listens on %q, published as %v", s.Environment["HEDGEROW_LISTEN"], s.Ports)
	}
	if _, ok := file.Volumes["data"]; !ok || !slices.Equal(s.Volumes, []string{"data:/var/lib/hedgerow"}) {
		t.Errorf("volumes %v, %v", s.Volumes, file.Volumes)
	}
	if len(s.Healthcheck.Test) < 3 || s.Healthcheck.Test[0] != "CMD" || s.Healthcheck.Test[1] != "/usr/bin/hedgerow" || unknown(root(), s.Healthcheck.Test[2:]) != "" {
		t.Errorf("health check %v", s.Healthcheck.Test)
	}
	if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
		t.Errorf("read_only %t, cap_drop %v", s.ReadOnly, s.CapDrop)
	}
	if text := readFile(t, "deploy/compose.yaml"); !strings.Contains(text, "X-Hedgerow-Key") || !strings.Contains(text, "logs hedgerow") {
		t.Error("it does not say how to get and send a key")
	}
}

// TestUnit holds the unit of systemd to start a command that there is, as a user of its
// own and without what it has no need of.
func TestUnit(t *testing.T) {
	all := make(map[string][]string)
	section := ""
	for line := range strings.Lines(readFile(t, "deploy/systemd/hedgerow.service")) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = line
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" {
				t.Fatalf("%q is no setting", line)
			}
			all[section+key] = append(all[section+key], value)
		}
	}
	for key, want := range map[string]string{
		"User": "hedgerow", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "StateDirectory": "hedgerow",
		"StateDirectoryMode": "0700", "WorkingDirectory": "/etc/hedgerow", "ConfigurationDirectory": "hedgerow", "ConfigurationDirectoryMode": "0755", "CapabilityBoundingSet": "", "AmbientCapabilities": "", "MemoryDenyWriteExecute": "yes", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
		"RestrictNamespaces": "yes", "SystemCallArchitectures": "native", "UMask": "0077", "RestartPreventExitStatus": "2 3 4 5",
	} {
		if got := all["[Service]"+key]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %v, want %q", key, got, want)
		}
	}
	start := strings.Fields(strings.Join(all["[Service]ExecStart"], " "))
	if len(start) < 2 || start[0] != "/usr/local/bin/hedgerow" || unknown(root(), start[1:]) != "" {
		t.Errorf("it starts %v", start)
	}
	if env := all["[Service]Environment"]; !slices.Contains(env, "HEDGEROW_DATA=/var/lib/hedgerow") || !slices.Contains(env, "HEDGEROW_LISTEN=127.0.0.1:4100") {
		t.Errorf("environment %v", env)
	}
}

// TestChartValues holds the chart's values to its schema, which refuses what it does
// not know, and each value to be explained or plain by its name.
func TestChartValues(t *testing.T) {
	const chart = "deploy/helm/hedgerow/"
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(readFile(t, chart+"values.schema.json")))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("values.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("values.json")
	if err != nil {
		t.Fatal(err)
	}
	valid := func(change func(map[string]any)) error {
		var values map[string]any
		readYAML(t, chart+"values.yaml", &values)
		change(values)
		b, err := json.Marshal(values)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		return compiled.Validate(v)
	}
	if err := valid(func(map[string]any) {}); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(map[string]any){
		"replicas":         func(v map[string]any) { v["replicas"] = 3 },
		"config.listen":    func(v map[string]any) { v["config"] = map[string]any{"listen": "0.0.0.0:1"} },
		"env in lowercase": func(v map[string]any) { v["env"] = map[string]any{"listen": "x"} },
		"a URL":            func(v map[string]any) { v["publicUrl"] = "hedgerow.example.com" },
		"a size":           func(v map[string]any) { v["persistence"].(map[string]any)["size"] = "much" },
	} {
		if valid(change) == nil {
			t.Errorf("%s: the schema takes it", name)
		}
	}
	// What the chart's templates name is a value.
	for _, name := range deployed(t) {
		if !strings.HasPrefix(name, chart+"templates/") {
			continue
		}
		for _, m := range regexp.MustCompile(`\.Values\.([A-Za-z.]+)`).FindAllStringSubmatch(readFile(t, name), -1) {
			var at any
			readYAML(t, chart+"values.yaml", &at)
			for part := range strings.SplitSeq(m[1], ".") {
				values, ok := at.(map[string]any)
				if at = values[part]; !ok || at == nil {
					t.Errorf("%s: values.yaml has no %s", name, m[1])
					break
				}
			}
		}
	}
}

// TestWorkflows holds the workflows to be YAML of the form that GitHub reads, with
// actions of a fixed major version, and targets that the Makefile has.
func TestWorkflows(t *testing.T) {
	makefile := readFile(t, "Makefile")
	for _, name := range []string{".github/workflows/ci.yml", ".github/workflows/docs.yml", ".github/workflows/release.yml"} {
		var w struct {
			On          map[string]any    `yaml:"on"`
			Permissions map[string]string `yaml:"permissions"`
			Jobs        map[string]struct {
				RunsOn string `yaml:"runs-on"`
				Needs  string `yaml:"needs"`
				Steps  []struct {
					Uses string `yaml:"uses"`
					Run  string `yaml:"run"`
				} `yaml:"steps"`
			} `yaml:"jobs"`
		}
		readYAML(t, name, &w)
		if len(w.On) == 0 || len(w.Jobs) == 0 || w.Permissions["contents"] != "read" {
			t.Errorf("%s: on %v, permissions %v, %d jobs", name, w.On, w.Permissions, len(w.Jobs))
		}
		for job, j := range w.Jobs {
			if _, ok := w.Jobs[j.Needs]; j.Needs != "" && !ok || j.RunsOn == "" || len(j.Steps) == 0 {
				t.Errorf("%s: %s: %+v", name, job, j)
			}
			for _, s := range j.Steps {
				if (s.Uses == "") == (s.Run == "") || s.Uses != "" && !regexp.MustCompile(`@v\d+$`).MatchString(s.Uses) {
					t.Errorf("%s: %s: a step uses %q and runs %q", name, job, s.Uses, s.Run)
				}
				for _, m := range regexp.MustCompile(`(?m)(?:^|&& )\s*make ([a-z-]+)`).FindAllStringSubmatch(s.Run, -1) {
					if !strings.Contains(makefile, "\n"+m[1]+":") {
						t.Errorf("%s: %s: the Makefile has no %s", name, job, m[1])
					}
				}
			}
		}
	}
	if systems := readFile(t, ".github/workflows/release.yml"); !strings.Contains(systems, "darwin/arm64") || !strings.Contains(systems, "windows/amd64") {
		t.Error("the release lacks a system that is built nowhere else")
	}
}
