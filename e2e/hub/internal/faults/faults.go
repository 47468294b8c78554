// Package faults injects failures into an HTTP server on request and counts what was asked of it,
// so that a client's retries, resumes and caching can be tested against the real server.
package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Fault is one failure to inject. Match is a regular expression on "METHOD /path?query".
type Fault struct {
	Match string `json:"match"`
	// Skip lets this many matching requests pass first.
	Skip int `json:"skip,omitempty"`
	// Times is how many requests fail before the fault is spent; default 1.
	Times int `json:"times,omitempty"`
	// Status answers with this HTTP status instead of passing the request on.
	Status int `json:"status,omitempty"`
	// Headers are added to the answer made with Status.
	Headers map[string]string `json:"headers,omitempty"`
	// Body replaces the JSON error body of the answer made with Status.
	Body string `json:"body,omitempty"`
	// DropAfterBytes cuts the connection after that many bytes of the response body.
	// Shorter responses pass and do not spend the fault.
	DropAfterBytes *int64 `json:"dropAfterBytes,omitempty"`
	// DropRequestAfterBytes cuts the connection after that many bytes of the request body were read.
	DropRequestAfterBytes *int64 `json:"dropRequestAfterBytes,omitempty"`
	// DelayMs waits before the request is passed on (or answered with Status).
	DelayMs int64 `json:"delayMs,omitempty"`

	pattern *regexp.Regexp
}

func (f *Fault) validate() error {
	if f.Match == "" {
		return errors.New(`"match" is missing: give a regular expression on "METHOD /path"`)
	}
	pattern, err := regexp.Compile(f.Match)
	if err != nil {
		return fmt.Errorf(`"match" is not a regular expression: %w`, err)
	}
	f.pattern = pattern
	if f.Status == 0 && f.DropAfterBytes == nil && f.DropRequestAfterBytes == nil && f.DelayMs == 0 {
		return errors.New("the fault does nothing: give status, dropAfterBytes, dropRequestAfterBytes or delayMs")
	}
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		return fmt.Errorf("status %d is not between 200 and 599", f.Status)
	}
	if f.Times < 0 || f.Skip < 0 || f.DelayMs < 0 {
		return errors.New("times, skip and delayMs must not be negative")
	}
	if f.Times == 0 {
		f.Times = 1
	}
	return nil
}

// Injector holds the faults waiting to happen, in order, and the counts of requests.
type Injector struct {
	mu     sync.Mutex
	faults []*Fault
	counts map[string]int
}

// New returns an injector without faults.
func New() *Injector { return &Injector{counts: map[string]int{}} }

// Wrap serves /_faults and /_requests and applies the faults to everything else.
func (in *Injector) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/_faults":
			in.serveFaults(w, r)
		case "/_requests":
			in.serveRequests(w, r)
		default:
			in.apply(next, w, r)
		}
	})
}

func (in *Injector) apply(next http.Handler, w http.ResponseWriter, r *http.Request) {
	fault := in.take(r)
	if fault == nil {
		next.ServeHTTP(w, r)
		return
	}
	if fault.DelayMs > 0 {
		select {
		case <-time.After(time.Duration(fault.DelayMs) * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
	if fault.Status != 0 {
		w.Header().Set("Content-Type", "application/json")
		for name, value := range fault.Headers {
			w.Header().Set(name, value)
		}
		body := fault.Body
		if body == "" {
			body = fmt.Sprintf(`{"error":"injected fault: %d %s"}`, fault.Status, http.StatusText(fault.Status))
		}
		w.WriteHeader(fault.Status)
		io.WriteString(w, body)
		return
	}
	if fault.DropRequestAfterBytes != nil {
		r.Body = &cutBody{ReadCloser: r.Body, w: w, left: *fault.DropRequestAfterBytes}
	}
	if fault.DropAfterBytes != nil {
		w = &cutWriter{ResponseWriter: w, left: *fault.DropAfterBytes, spend: func() bool { return in.spend(fault) }}
	}
	next.ServeHTTP(w, r)
}

// take counts the request and finds the first fault that applies to it.
// A fault on the response's length is spent later, when the cut really happens.
func (in *Injector) take(r *http.Request) *Fault {
	request := r.Method + " " + r.URL.RequestURI()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.counts[r.Method+" "+r.URL.EscapedPath()]++
	for i, fault := range in.faults {
		if !fault.pattern.MatchString(request) {
			continue
		}
		if fault.Skip > 0 {
			fault.Skip--
			continue
		}
		if fault.DropAfterBytes == nil {
			in.use(i)
		}
		return fault
	}
	return nil
}

func (in *Injector) use(i int) {
	in.faults[i].Times--
	if in.faults[i].Times == 0 {
		in.faults = append(in.faults[:i:i], in.faults[i+1:]...)
	}
}

// spend uses up one of a fault's times; false when another request was first.
func (in *Injector) spend(fault *Fault) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range in.faults {
		if in.faults[i] == fault {
			in.use(i)
			return true
		}
	}
	return false
}

func (in *Injector) serveFaults(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		in.mu.Lock()
		defer in.mu.Unlock()
		pending := in.faults
		if pending == nil {
			pending = []*Fault{}
		}
		reply(w, http.StatusOK, pending)
	case http.MethodPost:
		added, err := decodeFaults(r.Body)
		if err != nil {
			reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		in.mu.Lock()
		in.faults = append(in.faults, added...)
		pending := len(in.faults)
		in.mu.Unlock()
		reply(w, http.StatusOK, map[string]int{"pending": pending})
	case http.MethodDelete:
		in.mu.Lock()
		in.faults = nil
		in.mu.Unlock()
		reply(w, http.StatusOK, map[string]int{"pending": 0})
	default:
		reply(w, http.StatusMethodNotAllowed, map[string]string{"error": "use GET, POST or DELETE"})
	}
}

// decodeFaults accepts one fault or a list of them.
func decodeFaults(body io.Reader) ([]*Fault, error) {
	content, err := io.ReadAll(io.LimitReader(body, 1<<20))
	if err != nil {
		return nil, err
	}
	var list []*Fault
	if text := strings.TrimSpace(string(content)); !strings.HasPrefix(text, "[") {
		content = []byte("[" + text + "]")
	}
	decoder := json.NewDecoder(strings.NewReader(string(content)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&list); err != nil {
		return nil, fmt.Errorf("not a fault or a list of faults: %w", err)
	}
	for _, fault := range list {
		if fault == nil {
			return nil, errors.New("null is not a fault")
		}
		if err := fault.validate(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Requests is the answer of GET /_requests: how often each "METHOD /path" was asked for.
type Requests struct {
	Total    int            `json:"total"`
	Requests map[string]int `json:"requests"`
}

func (in *Injector) serveRequests(w http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		prefix := r.URL.Query().Get("prefix")
		answer := Requests{Requests: map[string]int{}}
		for request, count := range in.counts {
			if strings.HasPrefix(request, prefix) {
				answer.Requests[request] = count
				answer.Total += count
			}
		}
		reply(w, http.StatusOK, answer)
	case http.MethodDelete:
		in.counts = map[string]int{}
		reply(w, http.StatusOK, Requests{Requests: in.counts})
	default:
		reply(w, http.StatusMethodNotAllowed, map[string]string{"error": "use GET or DELETE"})
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// cutWriter aborts the connection once more than left bytes of a body were to be written.
type cutWriter struct {
	http.ResponseWriter
	left  int64
	spend func() bool
	spent bool // another request used the fault up: pass everything
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if c.spent {
		return c.ResponseWriter.Write(p)
	}
	if int64(len(p)) <= c.left {
		n, err := c.ResponseWriter.Write(p)
		c.left -= int64(n)
		return n, err
	}
	if !c.spend() {
		c.spent = true
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	http.NewResponseController(c.ResponseWriter).Flush()
	return 0, hangUp(c.ResponseWriter)
}

// Unwrap lets http.ResponseController reach the connection.
func (c *cutWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// cutBody aborts the connection once more than left bytes of a request were to be read.
type cutBody struct {
	io.ReadCloser
	w    http.ResponseWriter
	left int64
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, hangUp(c.w)
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.ReadCloser.Read(p)
	c.left -= int64(n)
	return n, err
}

// hangUp closes the connection under the response. It does not panic with
// http.ErrAbortHandler, because bodies are also copied by goroutines that no handler guards.
func hangUp(w http.ResponseWriter) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
	return errHungUp
}

var errHungUp = errors.New("injected fault: connection closed")
