package faults

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// startServer serves 1000 bytes for every GET and reads every PUT to its end.
func startServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(New().Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
			}
			return
		}
		w.Header().Set("Content-Length", "1000")
		for range 10 {
			io.WriteString(w, strings.Repeat("x", 100))
		}
	})))
	t.Cleanup(server.Close)
	return server
}

func ask(t *testing.T, method, url, body string) (status int, header http.Header, content string, err error) {
	t.Helper()
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, "", err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(read), err
}

func inject(t *testing.T, server *httptest.Server, fault string) {
	t.Helper()
	if status, _, body, err := ask(t, "POST", server.URL+"/_faults", fault); status != 200 || err != nil {
		t.Fatalf("POST /_faults = %d %s %v", status, body, err)
	}
}

func TestStatusFaultIsUsedUp(t *testing.T) {
	server := startServer(t)
	inject(t, server, `{"match": "^GET /a\\?x=1$", "status": 429, "skip": 1, "times": 2, "headers": {"Retry-After": "3"}}`)
	var statuses []int
	for range 4 {
		status, header, _, _ := ask(t, "GET", server.URL+"/a?x=1", "")
		statuses = append(statuses, status)
		if status == 429 && header.Get("Retry-After") != "3" {
			t.Error("the fault's header is missing")
		}
	}
	if want := []int{200, 429, 429, 200}; !equal(statuses, want) {
		t.Errorf("statuses %v, want %v", statuses, want)
	}
	if status, _, _, _ := ask(t, "GET", server.URL+"/b", ""); status != 200 {
		t.Errorf("another path answered %d", status)
	}
}

func TestFaultsApplyInOrder(t *testing.T) {
	server := startServer(t)
	inject(t, server, `[{"match": "GET", "status": 500}, {"match": "GET", "status": 503}]`)
	first, _, _, _ := ask(t, "GET", server.URL+"/", "")
	second, _, _, _ := ask(t, "GET", server.URL+"/", "")
	if first != 500 || second != 503 {
		t.Errorf("statuses %d, %d; want 500, 503", first, second)
	}
}

func TestResponseIsCut(t *testing.T) {
	server := startServer(t)
	inject(t, server, `{"match": "^GET", "dropAfterBytes": 250}`)
	if _, _, body, err := ask(t, "GET", server.URL+"/", ""); err == nil || len(body) != 250 {
		t.Errorf("received %d bytes, error %v; want 250 and an error", len(body), err)
	}
	if _, _, body, err := ask(t, "GET", server.URL+"/", ""); err != nil || len(body) != 1000 {
		t.Errorf("after the fault: %d bytes, error %v", len(body), err)
	}
}

func TestShortResponseDoesNotSpendACut(t *testing.T) {
	server := startServer(t)
	inject(t, server, `{"match": "^GET", "dropAfterBytes": 1000}`)
	if _, _, body, err := ask(t, "GET", server.URL+"/", ""); err != nil || len(body) != 1000 {
		t.Errorf("%d bytes, error %v; want all", len(body), err)
	}
	if _, _, body, _ := ask(t, "GET", server.URL+"/_faults", ""); !strings.Contains(body, `"dropAfterBytes":1000`) {
		t.Errorf("the fault is gone: %s", body)
	}
}

func TestRequestIsCut(t *testing.T) {
	server := startServer(t)
	inject(t, server, `{"match": "^PUT", "dropRequestAfterBytes": 100}`)
	if status, _, _, err := ask(t, "PUT", server.URL+"/", strings.Repeat("y", 5_000_000)); err == nil {
		t.Errorf("the upload was answered with %d", status)
	}
	if status, _, _, err := ask(t, "PUT", server.URL+"/", "short"); status != 200 || err != nil {
		t.Errorf("after the fault: %d, %v", status, err)
	}
}

func TestDelay(t *testing.T) {
	server := startServer(t)
	inject(t, server, `{"match": "^GET", "delayMs": 80}`)
	start := time.Now()
	if status, _, _, _ := ask(t, "GET", server.URL+"/", ""); status != 200 {
		t.Errorf("status %d", status)
	}
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("the answer came after %v", took)
	}
}

func TestBadFaultsAreRefused(t *testing.T) {
	server := startServer(t)
	for _, fault := range []string{
		`{}`, `null`, `{"match": "("`, `{"match": "(", "status": 500}`, `{"match": "x"}`, `{"match": "x", "status": 99}`,
		`{"match": "x", "status": 500, "times": -1}`, `{"match": "x", "stat": 500}`,
	} {
		if status, _, body, _ := ask(t, "POST", server.URL+"/_faults", fault); status != 400 || !strings.Contains(body, "error") {
			t.Errorf("%s: %d %s", fault, status, body)
		}
	}
}

func TestRequestsAreCounted(t *testing.T) {
	server := startServer(t)
	for _, path := range []string{"/a/1", "/a/1?x=y", "/a/2", "/b"} {
		ask(t, "GET", server.URL+path, "")
	}
	_, _, body, _ := ask(t, "GET", server.URL+"/_requests?prefix=GET%20/a", "")
	var got Requests
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Total != 3 || got.Requests["GET /a/1"] != 2 || len(got.Requests) != 2 {
		t.Errorf("counts %+v", got)
	}
	ask(t, "DELETE", server.URL+"/_requests", "")
	if _, _, body, _ := ask(t, "GET", server.URL+"/_requests", ""); !strings.Contains(body, `"total":0`) {
		t.Errorf("after the reset: %s", body)
	}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
