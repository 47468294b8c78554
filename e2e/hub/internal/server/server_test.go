package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// testHub is a server on a fresh data folder with the repository acme/m.
type testHub struct {
	*httptest.Server
	t   *testing.T
	hub *Server
}

func startHub(t *testing.T, rateLimit int) *testHub {
	t.Helper()
	hub, err := New(Options{
		DataDir: t.TempDir(), Accounts: DefaultAccounts(), RateLimit: rateLimit, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(hub)
	t.Cleanup(server.Close)
	started := &testHub{server, t, hub}
	if status, _, body := started.ask("POST", "/api/repos/create", "hf_owner", `{"name":"m","organization":"acme"}`); status != 200 {
		t.Fatalf("create: %d %s", status, body)
	}
	return started
}

// ask sends a request to a path of the server, or to a whole URL.
func (h *testHub) ask(method, address, token, body string, headers ...string) (int, http.Header, string) {
	h.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = h.URL + address
	}
	request, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(content)
}

func (h *testHub) commit(token, query string, lines ...string) (int, map[string]any) {
	h.t.Helper()
	body := `{"key":"header","value":{"summary":"change"}}` + "\n" + strings.Join(lines, "\n")
	status, _, answer := h.ask("POST", "/api/models/acme/m/commit/main"+query, token, body, "Content-Type", "application/x-ndjson")
	var decoded map[string]any
	if err := json.Unmarshal([]byte(answer), &decoded); err != nil {
		h.t.Fatalf("%d %s", status, answer)
	}
	return status, decoded
}

func fileLine(path, content string) string {
	return fmt.Sprintf(`{"key":"file","value":{"path":%q,"encoding":"base64","content":%q}}`, path, base64.StdEncoding.EncodeToString([]byte(content)))
}

func sha256Of(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// batch asks where to upload an object; the URL is empty when it is stored already.
func (h *testHub) batch(content string) (upload, verify string) {
	h.t.Helper()
	_, _, answer := h.ask("POST", "/acme/m.git/info/lfs/objects/batch", "hf_owner",
		fmt.Sprintf(`{"operation":"upload","transfers":["basic","multipart"],"objects":[{"oid":%q,"size":%d}]}`, sha256Of(content), len(content)))
	var batch struct {
		Transfer string
		Objects  []struct {
			Actions map[string]struct{ Href string }
		}
	}
	if err := json.Unmarshal([]byte(answer), &batch); err != nil || batch.Transfer != "basic" || len(batch.Objects) != 1 {
		h.t.Fatalf("batch: %s", answer)
	}
	return batch.Objects[0].Actions["upload"].Href, batch.Objects[0].Actions["verify"].Href
}

func (h *testHub) uploadLFS(path, content string) {
	h.t.Helper()
	if upload, _ := h.batch(content); upload != "" {
		if status, _, body := h.ask("PUT", upload, "", content); status != 200 {
			h.t.Fatalf("upload: %d %s", status, body)
		}
	}
	status, answer := h.commit("hf_owner", "", fmt.Sprintf(`{"key":"lfsFile","value":{"path":%q,"algo":"sha256","oid":%q,"size":%d}}`, path, sha256Of(content), len(content)))
	if status != 200 {
		h.t.Fatalf("commit: %v", answer)
	}
}

func TestResolveRedirectsLFSFiles(t *testing.T) {
	hub := startHub(t, 0)
	content := strings.Repeat("weights ", 1000)
	hub.uploadLFS("model.safetensors", content)
	status, header, _ := hub.ask("HEAD", "/acme/m/resolve/main/model.safetensors", "", "")
	if status != 302 || header.Get("X-Linked-Etag") != `"`+sha256Of(content)+`"` || header.Get("X-Linked-Size") != "8000" || len(header.Get("X-Repo-Commit")) != 40 {
		t.Fatalf("%d %v", status, header)
	}
	target := header.Get("Location")
	for rng, want := range map[string]string{"bytes=0-6": content[:7], "bytes=7990-": content[7990:], "bytes=-5": content[7995:], "": content} {
		status, got, body := hub.ask("GET", target, "", "", "Range", rng)
		wantStatus := 206
		if rng == "" {
			wantStatus = 200
		}
		if status != wantStatus || body != want || got.Get("X-Repo-Commit") != header.Get("X-Repo-Commit") {
			t.Errorf("%q: %d, %d bytes, %v", rng, status, len(body), got)
		}
	}
	if status, got, _ := hub.ask("GET", target, "", "", "Range", "bytes=8000-"); status != 416 || got.Get("Content-Range") != "bytes */8000" {
		t.Errorf("behind the end: %d %v", status, got)
	}
	if status, _, body := hub.ask("GET", "/acme/m/raw/main/model.safetensors", "", ""); status != 200 || !strings.HasPrefix(body, "version https://git-lfs") {
		t.Errorf("raw: %d %s", status, body)
	}
}

func TestSignedURLsAreBound(t *testing.T) {
	hub := startHub(t, 0)
	hub.uploadLFS("a.bin", "content")
	_, header, _ := hub.ask("GET", "/acme/m/resolve/main/a.bin", "", "")
	target := header.Get("Location")
	for name, address := range map[string]string{
		"another object":  strings.Replace(target, sha256Of("content"), sha256Of("other"), 1),
		"another commit":  strings.Replace(target, "commit=", "commit=0", 1),
		"longer lifetime": strings.Replace(target, "expires=", "expires=9", 1),
		"no signature":    target[:strings.Index(target, "&signature")],
	} {
		if status, _, _ := hub.ask("GET", address, "", ""); status != 403 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _, _ := hub.ask("PUT", target, "", "content"); status != 403 {
		t.Errorf("a URL for reading lets write: %d", status)
	}
	hub.hub.now = func() time.Time { return time.Now().Add(signedFor + time.Minute) }
	if status, _, _ := hub.ask("GET", target, "", ""); status != 403 {
		t.Errorf("an expired URL: %d", status)
	}
}

func TestUploadsAreChecked(t *testing.T) {
	hub := startHub(t, 0)
	upload, verify := hub.batch("content")
	for name, body := range map[string]string{"other content": "CONTENT", "shorter": "cont", "longer": "content and more"} {
		if status, _, _ := hub.ask("PUT", upload, "", body); status != 422 && status != 413 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _, _ := hub.ask("POST", verify, "", fmt.Sprintf(`{"oid":%q,"size":7}`, sha256Of("content"))); status != 404 {
		t.Errorf("verify before the upload: %d", status)
	}
	line := fmt.Sprintf(`{"key":"lfsFile","value":{"path":"a.bin","algo":"sha256","oid":%q,"size":7}}`, sha256Of("content"))
	if status, answer := hub.commit("hf_owner", "", line); status != 400 || !strings.Contains(answer["error"].(string), "was not uploaded") {
		t.Errorf("commit before the upload: %d %v", status, answer)
	}
	hub.ask("PUT", upload, "", "content")
	if status, _, _ := hub.ask("POST", verify, "", fmt.Sprintf(`{"oid":%q,"size":7}`, sha256Of("content"))); status != 200 {
		t.Errorf("verify: %d", status)
	}
	if again, _ := hub.batch("content"); again != "" {
		t.Error("a stored object is asked for again")
	}
}

func TestUploadModes(t *testing.T) {
	hub := startHub(t, 0)
	sample := func(content string) string { return base64.StdEncoding.EncodeToString([]byte(content)) }
	hub.commit("hf_owner", "", fileLine("sub/.gitattributes", "*.txt filter=lfs\n"), fileLine("plain.txt", "x"))
	files := []map[string]any{
		{"path": "model.safetensors", "size": 10, "sample": sample("text")},
		{"path": "deep/er/model.gguf", "size": 10, "sample": sample("text")},
		{"path": "run/events.out.tfevents.1", "size": 10, "sample": sample("text")},
		{"path": "saved_model/a/b", "size": 10, "sample": sample("text")},
		{"path": "notes.txt", "size": 10, "sample": sample("text")},
		{"path": "sub/notes.txt", "size": 10, "sample": sample("text")},
		{"path": "large.txt", "size": maxRegularFile + 1, "sample": sample("text")},
		{"path": "binary.txt", "size": 10, "sample": sample("a\x00b")},
		{"path": "plain.txt", "size": 1, "sample": sample("x")},
	}
	body, _ := json.Marshal(map[string]any{"files": files})
	_, _, answer := hub.ask("POST", "/api/models/acme/m/preupload/main", "hf_owner", string(body))
	var decoded struct{ Files []preuploadAnswer }
	if err := json.Unmarshal([]byte(answer), &decoded); err != nil {
		t.Fatal(answer)
	}
	modes := []string{}
	for _, f := range decoded.Files {
		modes = append(modes, f.UploadMode)
	}
	if got := strings.Join(modes, " "); got != "lfs lfs lfs lfs regular lfs lfs lfs regular" {
		t.Errorf("modes: %s", got)
	}
	if oid := decoded.Files[8].OID; len(oid) != 40 {
		t.Errorf("oid of the file already there: %q", oid)
	}
}

func TestConcurrentCommitsAllArrive(t *testing.T) {
	hub := startHub(t, 0)
	const writers = 8
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			if status, answer := hub.commit("hf_owner", "", fileLine(fmt.Sprintf("%d.txt", i), "x")); status != 200 {
				t.Errorf("writer %d: %d %v", i, status, answer)
			}
		})
	}
	wait.Wait()
	_, _, answer := hub.ask("GET", "/api/models/acme/m/tree/main", "", "")
	if got := strings.Count(answer, ".txt"); got != writers {
		t.Errorf("%d files of %d arrived: %s", got, writers, answer)
	}
}

func TestOnlyOneOfTwoCommitsOnTheSameParent(t *testing.T) {
	hub := startHub(t, 0)
	_, _, info := hub.ask("GET", "/api/models/acme/m", "", "")
	var decoded struct{ Sha string }
	if err := json.Unmarshal([]byte(info), &decoded); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	statuses := map[int]int{}
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			body := fmt.Sprintf(`{"key":"header","value":{"summary":"s","parentCommit":%q}}`, decoded.Sha) + "\n" + fileLine("a.txt", fmt.Sprint(i))
			status, _, _ := hub.ask("POST", "/api/models/acme/m/commit/main", "hf_owner", body)
			mu.Lock()
			statuses[status]++
			mu.Unlock()
		})
	}
	wait.Wait()
	if statuses[200] != 1 || statuses[412] != 3 {
		t.Errorf("statuses %v, want one 200 and three 412", statuses)
	}
}

func TestCommitTargets(t *testing.T) {
	hub := startHub(t, 0)
	hub.ask("POST", "/api/models/acme/m/tag/main", "hf_owner", `{"tag":"v1"}`)
	body := `{"key":"header","value":{"summary":"s"}}` + "\n" + fileLine("a.txt", "a")
	for revision, want := range map[string]int{"v1": 400, "nothing": 404, "refs%2Ftags%2Fv1": 400, "main": 200} {
		if status, _, answer := hub.ask("POST", "/api/models/acme/m/commit/"+revision, "hf_owner", body); status != want {
			t.Errorf("%s: %d %s", revision, status, answer)
		}
	}
	for token, want := range map[string]int{"": 401, "hf_other": 403, "hf_wrong": 401} {
		if status, _, _ := hub.ask("POST", "/api/models/acme/m/commit/main", token, body); status != want {
			t.Errorf("token %q: %d, want %d", token, status, want)
		}
	}
}

func TestConflictOnCreateIsJSONWithURL(t *testing.T) {
	hub := startHub(t, 0)
	status, _, body := hub.ask("POST", "/api/repos/create", "hf_owner", `{"name":"m","organization":"acme"}`)
	var answer struct{ URL, Error string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 409 || answer.URL != hub.URL+"/acme/m" || answer.Error == "" {
		t.Errorf("%d %s", status, body)
	}
}

func TestErrorCodes(t *testing.T) {
	hub := startHub(t, 0)
	for path, want := range map[string]string{
		"/api/models/acme/none":                "RepoNotFound",
		"/api/models/acme/m/revision/none":     "RevisionNotFound",
		"/api/models/acme/m/revision/main~1":   "RevisionNotFound",
		"/api/models/acme/m/revision/--all":    "RevisionNotFound",
		"/api/models/acme/m/tree/main/none":    "EntryNotFound",
		"/acme/m/resolve/main/none":            "EntryNotFound",
		"/acme/m/resolve/main/..%2F..%2Fx":     "EntryNotFound",
		"/acme/m/resolve/none/.gitattributes":  "RevisionNotFound",
		"/acme/..%2F..%2Fm/resolve/main/x":     "RepoNotFound",
		"/api/datasets/acme/m":                 "RepoNotFound",
		"/api/models/acme/m/tree/refs%2Fpr%2F": "RevisionNotFound",
	} {
		status, header, body := hub.ask("GET", path, "hf_owner", "")
		if status != 404 || header.Get("X-Error-Code") != want || header.Get("X-Error-Message") == "" {
			t.Errorf("%s: %d %s %s", path, status, header.Get("X-Error-Code"), body)
		}
	}
}

func TestPathsInfoAsFormAndJSON(t *testing.T) {
	hub := startHub(t, 0)
	hub.commit("hf_owner", "", fileLine("a.txt", "a"), fileLine("d/b.txt", "b"))
	form := "paths=a.txt&paths=d&paths=none&expand=true"
	_, _, asForm := hub.ask("POST", "/api/models/acme/m/paths-info/main", "", form, "Content-Type", "application/x-www-form-urlencoded")
	_, _, asJSON := hub.ask("POST", "/api/models/acme/m/paths-info/main", "", `{"paths":["a.txt","d","none"],"expand":true}`, "Content-Type", "application/json")
	if asForm != asJSON || strings.Count(asForm, `"path"`) != 2 || !strings.Contains(asForm, "lastCommit") {
		t.Errorf("form: %s\nJSON: %s", asForm, asJSON)
	}
}

func TestRateLimit(t *testing.T) {
	hub := startHub(t, 3)
	at := time.Date(2026, 1, 1, 0, 4, 5, 0, time.UTC)
	hub.hub.now = func() time.Time { return at }
	for i, want := range []int{200, 200, 200, 429} {
		status, header, _ := hub.ask("GET", "/api/models/acme/m", "hf_owner", "")
		if limit := fmt.Sprintf(`"api";r=%d;t=55`, max(2-i, 0)); status != want || header.Get("RateLimit") != limit {
			t.Errorf("request %d: %d %s", i, status, header.Get("RateLimit"))
		}
	}
	if status, _, _ := hub.ask("GET", "/acme/m/resolve/main/.gitattributes", "hf_owner", ""); status != 200 {
		t.Errorf("another bucket: %d", status)
	}
	if status, _, _ := hub.ask("GET", "/api/models/acme/m", "hf_other", ""); status != 200 {
		t.Errorf("another caller: %d", status)
	}
	at = at.Add(55 * time.Second)
	if status, _, _ := hub.ask("GET", "/api/models/acme/m", "hf_owner", ""); status != 200 {
		t.Errorf("the next window: %d", status)
	}
}

func TestAccessLogHasNoSecrets(t *testing.T) {
	hub := startHub(t, 0)
	hub.uploadLFS("a.bin", "content")
	var log bytes.Buffer
	logged := httptest.NewServer(AccessLog(hub.hub, slog.New(slog.NewJSONHandler(&log, nil))))
	_, header, _ := hub.ask("GET", logged.URL+"/acme/m/resolve/main/a.bin", "hf_owner", "")
	if status, _, _ := hub.ask("GET", header.Get("Location"), "", ""); status != 200 {
		t.Fatalf("status %d", status)
	}
	if status, _, _ := hub.ask("GET", logged.URL+"/healthz", "", ""); status != 200 {
		t.Fatalf("healthz: %d", status)
	}
	logged.Close() // waits for the last line
	if got := log.String(); strings.Count(got, "\n") != 2 || strings.Contains(got, "hf_owner") || strings.Contains(got, "signature") {
		t.Error(got)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	first := startHub(t, 0)
	first.uploadLFS("a.bin", "content")
	_, header, _ := first.ask("GET", "/acme/m/resolve/main/a.bin", "", "")
	again, err := New(Options{DataDir: first.hub.repos.root, Accounts: DefaultAccounts(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	second := httptest.NewServer(again)
	defer second.Close()
	status, _, body := first.ask("GET", strings.Replace(header.Get("Location"), first.URL, second.URL, 1), "", "")
	if status != 200 || body != "content" {
		t.Errorf("%d %s", status, body)
	}
}
