package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	chartloader "helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

const chartFolder = "helm/hedgerow"

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := chartloader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render is helm template: the manifests of a release named hedgerow, by their kind.
func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}
	install := action.NewInstall(&action.Configuration{Capabilities: capabilities})
	install.DryRun, install.ClientOnly, install.ReleaseName, install.Namespace = true, true, "hedgerow", "analytics"
	install.KubeVersion = &capabilities.KubeVersion
	release, err := install.Run(loadChart(t), values)
	if err != nil {
		return nil, err
	}
	manifests := map[string]string{"notes": release.Info.Notes}
	for text := range strings.SplitSeq(release.Manifest, "\n---\n") {
		var head struct{ Kind string }
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		manifests[head.Kind] = text
	}
	return manifests, nil
}

// decode reads a manifest as Kubernetes does, and refuses fields that it has not.
func decode[T any](t *testing.T, manifests map[string]string, kind schema.GroupVersionKind) T {
	t.Helper()
	var out T
	text, ok := manifests[kind.Kind]
	if !ok {
		t.Fatalf("there is no %s", kind.Kind)
	}
	if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
		t.Fatalf("%s: %v\n%s", kind.Kind, err, text)
	}
	if want := "apiVersion: " + kind.GroupVersion().String(); !strings.Contains(text, want) {
		t.Errorf("%s has not %s", kind.Kind, want)
	}
	return out
}

func TestLint(t *testing.T) {
	result := action.NewLint().Run([]string{chartFolder}, nil)
	for _, m := range result.Messages {
		if m.Severity >= support.WarningSev {
			t.Errorf("%s: %v", m.Path, m.Err)
		}
	}
	if len(result.Errors) > 0 || result.TotalChartsLinted != 1 {
		t.Errorf("%d charts, %v", result.TotalChartsLinted, result.Errors)
	}
}

// TestTemplate renders the chart with its own values and with every value set.
func TestTemplate(t *testing.T) {
	whole := map[string]any{
		"image": map[string]any{"digest": "sha256:" + strings.Repeat("0a", 32)}, "imagePullSecrets": []any{"registry"}, "publicUrl": "https://hedgerow.example.com",
		"config": map[string]any{"log_format": "json", "upstreams": map[string]any{"groq": map[string]any{"base_url": "https://api.groq.com"}}}, "env": map[string]any{"HEDGEROW_LOG_LEVEL": "debug"},
		"existingSecret": "keys", "ingress": map[string]any{"enabled": true, "host": "hedgerow.example.com", "className": "nginx", "tlsSecret": "tls", "annotations": map[string]any{"a": "b"}},
		"persistence": map[string]any{"size": "50Gi", "storageClass": "fast"}, "podLabels": map[string]any{"team": "ai"}, "podAnnotations": map[string]any{"a": "b"}, "nodeSelector": map[string]any{"disk": "ssd"},
		"tolerations": []any{map[string]any{"key": "x", "operator": "Exists"}}, "affinity": map[string]any{"podAntiAffinity": map[string]any{}},
		"serviceAccount": map[string]any{"name": "existing"}, "service": map[string]any{"type": "LoadBalancer", "port": 80, "annotations": map[string]any{"a": "b"}},
	}
	for name, tt := range map[string]struct {
		values          map[string]any
		image, url      string
		account, config bool
		ingress         bool
	}{
		"defaults":    {nil, "ghcr.io/hedgerow/hedgerow:v0.1.0", "http://localhost:4100", true, false, false},
		"every value": {whole, "ghcr.io/hedgerow/hedgerow@sha256:" + strings.Repeat("0a", 32), "https://hedgerow.example.com", false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := render(t, tt.values)
			if err != nil {
				t.Fatal(err)
			}
			set := decode[appsv1.StatefulSet](t, m, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))
			pod := set.Spec.Template.Spec
			c := pod.Containers[0]
			if set.Name != "hedgerow" || *set.Spec.Replicas != 1 || c.Image != tt.image || !slices.Equal(c.Args, []string{"serve"}) {
				t.Errorf("%s: %d of %s with %v", set.Name, *set.Spec.Replicas, c.Image, c.Args)
			}
			if !*pod.SecurityContext.RunAsNonRoot || *pod.SecurityContext.RunAsUser != 65532 || !*c.SecurityContext.ReadOnlyRootFilesystem || *c.SecurityContext.AllowPrivilegeEscalation {
				t.Errorf("it may %+v, %+v", pod.SecurityContext, c.SecurityContext)
			}
			env := make(map[string]string)
			for _, e := range c.Env {
				env[e.Name] = e.Value
			}
			if env["HEDGEROW_LISTEN"] != "0.0.0.0:4100" || env["HEDGEROW_PUBLIC_URL"] != tt.url || c.Ports[0].ContainerPort != 4100 || c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/healthz" {
				t.Errorf("environment %v, probes %+v %+v", env, c.ReadinessProbe, c.LivenessProbe)
			}
			if claims := set.Spec.VolumeClaimTemplates; len(claims) != 1 || claims[0].Name != "data" {
				t.Errorf("claims %+v", claims)
			}
			service := decode[corev1.Service](t, m, corev1.SchemeGroupVersion.WithKind("Service"))
			for k, v := range service.Spec.Selector {
				if set.Spec.Template.Labels[k] != v || set.Spec.Selector.MatchLabels[k] != v {
					t.Errorf("the service selects %s=%s, the pods have %v", k, v, set.Spec.Template.Labels)
				}
			}
			if _, ok := m["ServiceAccount"]; ok != tt.account {
				t.Errorf("an account of its own: %t", ok)
			}
			if _, ok := m["ConfigMap"]; ok != tt.config {
				t.Errorf("a file of settings: %t", ok)
			}
			if tt.config {
				file := decode[corev1.ConfigMap](t, m, corev1.SchemeGroupVersion.WithKind("ConfigMap")).Data["hedgerow.yaml"]
				if !strings.Contains(file, "log_format: json") || !strings.Contains(file, "base_url: https://api.groq.com") {
					t.Errorf("the settings are %q", file)
				}
			}
			if _, ok := m["Ingress"]; ok != tt.ingress {
				t.Errorf("an ingress: %t", ok)
			}
			if tt.ingress {
				in := decode[networkingv1.Ingress](t, m, networkingv1.SchemeGroupVersion.WithKind("Ingress"))
				if in.Spec.Rules[0].Host != "hedgerow.example.com" || in.Spec.TLS[0].SecretName != "tls" || in.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name != service.Name {
					t.Errorf("%+v", in.Spec)
				}
			}
			if !strings.Contains(m["notes"], "X-Hedgerow-Key") || !strings.Contains(m["notes"], "logs hedgerow-0") {
				t.Errorf("the notes do not say how to get the key:\n%s", m["notes"])
			}
		})
	}
}

// TestTemplateRefuses gives the chart values that cannot work.
func TestTemplateRefuses(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"replicas":                 {"replicas": 3},
		"listen":                   {"config": map[string]any{"listen": "127.0.0.1:4100"}},
		"ingress without its URL":  {"ingress": map[string]any{"enabled": true, "host": "x"}},
		"a volume of many writers": {"persistence": map[string]any{"accessModes": []any{"ReadWriteMany"}}},
	} {
		if _, err := render(t, values); err == nil {
			t.Errorf("%s: it is rendered", name)
		}
	}
}

func TestComposeFile(t *testing.T) {
	b, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: ".", ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: b}}, Environment: types.Mapping{"HEDGEROW_IMAGE_TAG": "v9.9.9"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.GetService("hedgerow")
	if err != nil {
		t.Fatal(err)
	}
	if s.Image != "ghcr.io/hedgerow/hedgerow:v9.9.9" || s.HealthCheck == nil || len(s.Ports) != 1 || s.Ports[0].HostIP != "127.0.0.1" || s.Ports[0].Target != 4100 || *s.Environment["HEDGEROW_PUBLIC_URL"] != "http://localhost:4100" {
		t.Errorf("%+v", s)
	}
}

// TestDockerfile reads the Dockerfile as BuildKit does: what it copies is there, and
// the last stage runs as a user without rights.
func TestDockerfile(t *testing.T) {
	f, err := os.Open("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 3 || stages[2].BaseName != "scratch" {
		t.Fatalf("%d stages, the last of %s", len(stages), stages[len(stages)-1].BaseName)
	}
	user, health, copied := "", false, 0
	for _, s := range stages {
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.CopyCommand:
				for _, from := range c.SourcePaths {
					copied++
					if c.From == "" {
						if _, err := os.Stat(filepath.Join("..", from)); err != nil {
							t.Error(err)
						}
					}
				}
			case *instructions.UserCommand:
				user = c.User
			case *instructions.HealthCheckCommand:
				health = slices.Equal(c.Health.Test, []string{"CMD", "/usr/bin/hedgerow", "health"})
			}
		}
	}
	if user != "65532:65532" || !health || copied < 6 {
		t.Errorf("user %q, health check %t, %d copies", user, health, copied)
	}
}
