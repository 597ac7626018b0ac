package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
)

// A sealed value is s1, the id of the key, and the base64 of nonce, ciphertext
// and tag.
var (
	sealedValue = regexp.MustCompile(`s1\.([0-9a-f]{16})\.([A-Za-z0-9_-]{38,})`)
	base64Run   = regexp.MustCompile(`[A-Za-z0-9+/]{64,}`)
)

// sealedIn decrypts, with the server's own key, every sealed value in any file
// of a data folder, and returns them by plaintext, with their number and the
// path of one. Encoded data is decoded and searched too.
func sealedIn(t *testing.T, dir string) map[string]sealedHere {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append([]byte("hedgerow secret key id\x00"), key...))
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	found, seen := make(map[string]sealedHere), make(map[string]bool)
	search := func(path string, b []byte) {
		for _, m := range sealedValue.FindAllSubmatch(b, -1) {
			if string(m[1]) != hex.EncodeToString(sum[:8]) {
				continue
			}
			// The bytes after a value in a file may look like a part of it: it
			// ends where its JSON string ends, and all lengths up to there
			// would be the same value.
			sealed, err := base64.RawURLEncoding.DecodeString(string(m[2][:len(m[2])-len(m[2])%4]))
			if whole, werr := base64.RawURLEncoding.DecodeString(string(m[2])); werr == nil {
				sealed, err = whole, nil
			}
			if err != nil || len(sealed) < 12+16 {
				continue
			}
			// GCM is CTR from counter 2 on, followed by a tag. The tag also
			// covers the value's context, which is not known here; the key
			// alone is sufficient.
			plain := make([]byte, len(sealed)-12-16)
			cipher.NewCTR(block, append(slices.Clone(sealed[:12]), 0, 0, 0, 2)).XORKeyStream(plain, sealed[12:len(sealed)-16])
			text := string(plain)
			if strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }) {
				continue
			}
			h := found[text]
			if h.path = path; !seen[string(m[2])] {
				h.n++
			}
			seen[string(m[2])], found[text] = true, h
		}
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		} else if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // renamed in the meantime
			return nil
		}
		search(path, b)
		for _, run := range base64Run.FindAll(b, -1) {
			for from := range 4 {
				part := run[from:]
				plain := make([]byte, base64.StdEncoding.DecodedLen(len(part)))
				n, _ := base64.RawStdEncoding.Decode(plain, part[:len(part)-len(part)%4])
				search(path, plain[:n])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

type sealedHere struct {
	n    int    // different sealed values with the same plaintext
	path string // of one
}

// onlyLiving fails if the files contain a value other than the current ones, or
// one that was sealed again since. hashKeys is the number of projects: each has
// one.
func onlyLiving(t *testing.T, when, dir string, living []string, hashKeys int) {
	t.Helper()
	found := sealedIn(t, dir)
	for text, here := range found {
		if b, err := hex.DecodeString(text); err == nil && len(b) == 32 {
			if hashKeys--; here.n != 1 {
				t.Errorf("%s a project's hash key is sealed %d times, in %s", when, here.n, here.path)
			}
			continue
		}
		if !slices.Contains(living, text) && text != "hedgerow" {
			t.Errorf("%s %s contains the deleted value %q", when, here.path, text)
		} else if here.n != 1 {
			t.Errorf("%s the value %q is sealed %d times: in %s and elsewhere", when, text, here.n, here.path)
		}
	}
	for _, text := range living {
		if found[text].n == 0 {
			t.Errorf("%s no file contains the current value %q: the search does not work", when, text)
		}
	}
	if hashKeys != 0 {
		t.Errorf("%s the hash keys of %d projects are missing", when, hashKeys)
	}
}

// TestDeletedKeysAreGone replaces and deletes keys of every kind, and decrypts
// every sealed value in any file of the data folder after each step, after kill
// -9 while keys are deleted, and after stops.
func TestDeletedKeysAreGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	living := map[string]string{"env": phKey} // by owner
	look := func(when string) {
		t.Helper()
		onlyLiving(t, when, w.dir, slices.Collect(maps.Values(living)), 1)
	}
	ask := func(method, path, body string) string {
		t.Helper()
		status, answer := p.send(t.Context(), method, path, body)
		if status/100 != 2 {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
		return answer
	}
	n := 0
	connect := func(name string) {
		t.Helper()
		n++
		key, personal := fmt.Sprintf("phc_erased_%s_%04d", name, n), fmt.Sprintf("phx_erased_%s_%04d", name, n)
		ask("PUT", "/api/v1/connections/"+name, `{"project_key":"`+key+`","personal_key":"`+personal+`","enabled":false,"skip_test":true}`)
		living[name], living[name+" personal"] = key, personal
	}
	disconnect := func(name string) {
		t.Helper()
		ask("DELETE", "/api/v1/connections/"+name, "")
		delete(living, name)
		delete(living, name+" personal")
	}
	keep := func(provider string) {
		t.Helper()
		n++
		living[provider] = fmt.Sprintf("sk-erased-%s-%04d", provider, n)
		ask("PUT", "/api/v1/projects/default/provider-keys/"+provider, `{"key":"`+living[provider]+`"}`)
	}
	webhook := func() {
		t.Helper()
		n++
		var out struct{ Secret string }
		if err := json.Unmarshal([]byte(ask("PUT", "/api/v1/alerts", fmt.Sprintf(`{"webhook_url":"https://hooks.example.com/%d","emails":[]}`, n))), &out); err != nil || out.Secret == "" {
			t.Fatal(out, err)
		}
		living["webhook"] = out.Secret
	}
	look("at the beginning")
	connect("one")
	connect("two")
	keep("openai")
	keep("anthropic")
	webhook()
	look("with some keys")
	connect("one") // other keys
	keep("openai")
	webhook()
	look("after replacing")
	ask("PUT", "/api/v1/connections/two", `{"environment":"staging","skip_test":true}`) // the same keys, sealed again
	look("after a change that leaves the keys alone")
	ask("PUT", "/api/v1/connections/one", `{"personal_key":"","skip_test":true}`)
	delete(living, "one personal")
	look("after removing the personal key")
	disconnect("two")
	look("after deleting a connection")
	ask("DELETE", "/api/v1/projects/default/provider-keys/anthropic", "")
	delete(living, "anthropic")
	look("after deleting a provider's key")
	ask("PUT", "/api/v1/alerts", `{"webhook_url":"","emails":[]}`)
	delete(living, "webhook")
	look("after removing the webhook")
	w.mustRun("connection", "set", "--environment", "x", "--skip-test")
	look("after the command line")
	p.stop()
	look("after a stop")
	p = w.start()
	look("after a start")

	// Kill the process while keys are deleted and replaced.
	for round := range 4 {
		for i := range 12 {
			connect(fmt.Sprintf("doomed-%d-%d", round, i))
		}
		var mu sync.Mutex
		unsure := make(map[string]string) // requested without a response
		answered := 0
		var wg sync.WaitGroup
		for i := range 12 {
			name := fmt.Sprintf("doomed-%d-%d", round, i)
			mu.Lock()
			for _, what := range []string{name, name + " personal"} {
				unsure[what] = living[what]
				delete(living, what)
			}
			mu.Unlock()
			wg.Go(func() {
				if status, _ := p.send(context.Background(), "DELETE", "/api/v1/connections/"+name, ""); status/100 != 2 {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				delete(unsure, name)
				delete(unsure, name+" personal")
				if answered++; answered == 1+2*round {
					wg.Go(p.kill)
				}
			})
		}
		wg.Wait()
		for text, here := range sealedIn(t, w.dir) { // values whose deletion was acknowledged must be gone
			if strings.Contains(text, "_erased_doomed") && !slices.Contains(slices.Collect(maps.Values(unsure)), text) {
				t.Errorf("killed in round %d: %s contains %q", round, here.path, text)
			}
		}
		p = w.start()
		var list struct {
			Connections []struct{ Name string } `json:"connections"`
		}
		p.get("/api/v1/connections", &list)
		for _, c := range list.Connections {
			if key, ok := unsure[c.Name]; ok { // not deleted yet
				living[c.Name], living[c.Name+" personal"] = key, unsure[c.Name+" personal"]
			}
		}
		look(fmt.Sprintf("after kill -9 number %d", round))
		t.Logf("round %d: %d of 12 deletions got no response, %d connections are left", round, len(unsure)/2, len(list.Connections)-2)
		for _, c := range list.Connections {
			if strings.HasPrefix(c.Name, "doomed") {
				disconnect(c.Name)
			}
		}
	}
	look("at the end")
	p.stop()
	look("after the last stop")
}

// oldFolder is a data folder written by the binary of version 3b558a2
// (testdata/upgrade/README.md), with its keys.
type oldFolder struct {
	Viewer, Member, Admin, Token, First string
	AlertSecret                         string `json:"alert_secret"`
	DeadAlertSecret                     string `json:"dead_alert_secret"`
}

// unpackOld makes it the world's data folder.
func (w *world) unpackOld() (old oldFolder) {
	w.t.Helper()
	w.unpack("3b558a2.txt")
	path := filepath.Join(w.dir, "fixture.json")
	b, err := os.ReadFile(path)
	if err == nil {
		err = errors.Join(json.Unmarshal(b, &old), os.Remove(path))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.key = old.First
	return old
}

// unpack makes a folder of testdata/upgrade the world's data folder.
func (w *world) unpack(name string) {
	w.t.Helper()
	f, err := os.Open(filepath.Join("testdata/upgrade", name))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, f))
	if err != nil {
		w.t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			w.t.Fatal(err)
		}
		path := filepath.Join(w.dir, strings.TrimPrefix(h.Name, "data"))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(path, h.FileInfo().Mode().Perm())
		} else {
			var b bytes.Buffer
			if _, err = io.Copy(&b, r); err == nil {
				err = os.WriteFile(path, b.Bytes(), h.FileInfo().Mode().Perm())
			}
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestUpgradeErasesDeadKeys starts on a folder of version 3b558a2, whose files
// contain keys that were replaced and deleted there.
func TestUpgradeErasesDeadKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = []string{"POSTHOG_API_KEY="}
	old := w.unpackOld()
	living := []string{"phc_living_connection", "phx_living_personal", "sk-living-openai-0123456789", "sk-living-anthropic-0123456789", "sk-second-project-0123456789", old.AlertSecret}
	dead := []string{"phc_dead_connection_1", "phx_dead_personal_4", "phc_replaced_connection", "phx_replaced_personal", "sk-replaced-openai-0123456789", "sk-living-gemini-0123456789", old.DeadAlertSecret}
	found := sealedIn(t, w.dir)
	for _, text := range slices.Concat(living, dead) {
		if found[text].n == 0 {
			t.Errorf("the folder of 3b558a2 lacks %q: the search does not work", text)
		}
	}
	p := w.start()
	w.await(func() bool { // the start also changes connections of the old version
		return !slices.ContainsFunc(slices.Collect(maps.Values(sealedIn(t, w.dir))), func(here sealedHere) bool { return here.n > 1 })
	}, func() string { return fmt.Sprint("values are sealed several times: ", sealedIn(t, w.dir)) })
	onlyLiving(t, "after the upgrade", w.dir, living, 2)
	for _, c := range []struct{ path, key string }{{"/v1/chat/completions", "sk-living-openai-0123456789"}} {
		w.sim.Forget()
		if status, _, err := p.post(t.Context(), c.path, "", chatBody, "Authorization", "Bearer "+old.Member); err != nil || status != 200 {
			t.Errorf("%s: %d %v", c.path, status, err)
		}
		if r := w.sim.Requests(); len(r) != 1 || !strings.Contains(fmt.Sprint(r[0].Header), c.key) {
			t.Errorf("the provider got %+v, want the key that 3b558a2 kept", r)
		}
	}
	p.stop()
	onlyLiving(t, "after a stop", w.dir, living, 2)
	w.start().stop()
	onlyLiving(t, "after another start", w.dir, living, 2)
}
