// Package server speaks the HTTP API of the Hugging Face Hub over bare git repositories.
package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxJSONBody bounds the JSON bodies that are read into memory, in bytes.
const maxJSONBody = 8 << 20

// Options say how a server runs.
type Options struct {
	DataDir   string
	PublicURL string // base of the URLs in answers; empty: what the request asked for
	Accounts  []Account
	RateLimit int // API requests a caller may make in a window; 0: any number
	Log       *slog.Logger
}

// Server is the Hub. It is an http.Handler.
type Server struct {
	repos     *registry
	accounts  []Account
	publicURL string
	signer    signer
	limiter   *rateLimiter
	log       *slog.Logger
	now       func() time.Time
}

// New opens the data folder, creating it when it is not there.
func New(options Options) (*Server, error) {
	// git runs inside the repositories, so their paths must not depend on the working directory.
	root, err := filepath.Abs(options.DataDir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(root, "repos"), 0o755); err != nil {
		return nil, fmt.Errorf("the data folder can't be made: %w; name a folder that this user may write with --data", err)
	}
	signer, err := loadSigner(filepath.Join(root, "signing-key"))
	if err != nil {
		return nil, err
	}
	return &Server{
		repos: newRegistry(root), accounts: options.Accounts, publicURL: strings.TrimSuffix(options.PublicURL, "/"),
		signer: signer, limiter: newRateLimiter(options.RateLimit), log: options.Log, now: time.Now,
	}, nil
}

// call is one request on its way through the handlers.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	account *Account // nil: anonymous
	base    string   // scheme and host of the URLs in the answer
	query   url.Values
}

func (c *call) json(status int, body any) { writeJSON(c.w, status, body) }

// decode reads a JSON body.
func (c *call) decode(into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxJSONBody))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fail(http.StatusBadRequest, "The request body is not the JSON expected here: %s", err)
	}
	return nil
}

func (c *call) flag(name string) bool {
	value := c.query.Get(name)
	return value == "1" || strings.EqualFold(value, "true")
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Request-Id", requestID(r))
	c := &call{w: w, r: r, base: s.baseURL(r), query: r.URL.Query()}
	err := s.route(c)
	if err == nil {
		return
	}
	if internal := writeError(w, err); internal != nil && r.Context().Err() == nil {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", internal.Error())
	}
}

func (s *Server) baseURL(r *http.Request) string {
	if s.publicURL != "" {
		return s.publicURL
	}
	scheme := "http"
	if forwarded := r.Header.Get("X-Forwarded-Proto"); forwarded != "" {
		scheme = forwarded
	}
	return scheme + "://" + r.Host
}

// segments splits a path at its slashes first and unescapes then, so that a revision
// written as refs%2Fpr%2F1 stays one segment.
func segments(u *url.URL) ([]string, error) {
	var parts []string
	for part := range strings.SplitSeq(u.EscapedPath(), "/") {
		if part == "" {
			continue
		}
		text, err := url.PathUnescape(part)
		if err != nil || strings.ContainsRune(text, 0) {
			return nil, fail(http.StatusBadRequest, "The path is not a valid URL path")
		}
		parts = append(parts, text)
	}
	return parts, nil
}

var errNoRoute = fail(http.StatusNotFound, "Not found: this Hub has nothing at that address")

func (s *Server) route(c *call) error {
	path, err := segments(c.r.URL)
	if err != nil {
		return err
	}
	if len(path) > 0 && path[0] == "_lfs" {
		return s.routeSigned(c, path[1:])
	}
	if len(path) == 1 && path[0] == "healthz" {
		c.json(http.StatusOK, map[string]string{"status": "ok"})
		return nil
	}
	account, err := s.accountOf(c.r)
	if err != nil {
		return err
	}
	c.account = account
	if err := s.limiter.allow(c, path, s.now()); err != nil {
		return err
	}
	if len(path) > 0 && path[0] == "api" {
		return s.routeAPI(c, path[1:])
	}
	return s.routeWeb(c, path)
}

func (s *Server) routeAPI(c *call, path []string) error {
	method := c.r.Method
	switch {
	case len(path) == 1 && path[0] == "whoami-v2" && method == http.MethodGet:
		return s.whoami(c)
	case len(path) == 1 && path[0] == "validate-yaml" && method == http.MethodPost:
		return s.validateCard(c)
	case len(path) == 2 && path[0] == "repos":
		switch method + " " + path[1] {
		case "POST create":
			return s.createRepo(c)
		case "DELETE delete":
			return s.deleteRepo(c)
		case "POST move":
			return s.moveRepo(c)
		}
	case len(path) >= 1 && slices.Contains(repoTypes, path[0]):
		if len(path) == 1 && method == http.MethodGet {
			return s.listRepos(c, path[0])
		}
		if len(path) >= 3 {
			return s.routeRepoAPI(c, repoKey{path[0], path[1], path[2]}, path[3:])
		}
	}
	return errNoRoute
}

// repoHandler serves an address below a repository; rest is what follows the handler's name.
type repoHandler func(c *call, repo *repository, rest []string) error

func (s *Server) routeRepoAPI(c *call, key repoKey, path []string) error {
	name := "info"
	if len(path) > 0 {
		name, path = path[0], path[1:]
	}
	handlers := map[string]repoHandler{
		"GET info":                 s.repoInfo,
		"GET revision":             s.repoInfo,
		"GET tree":                 s.listTree,
		"POST paths-info":          s.pathsInfo,
		"GET refs":                 s.listRefs,
		"GET commits":              s.listCommits,
		"GET compare":              s.compare,
		"POST branch":              s.createBranch,
		"DELETE branch":            s.deleteBranch,
		"POST tag":                 s.createTag,
		"DELETE tag":               s.deleteTag,
		"POST super-squash":        s.superSquash,
		"POST preupload":           s.preupload,
		"POST commit":              s.commit,
		"PUT settings":             s.updateSettings,
		"GET auth-check":           s.authCheck,
		"POST user-access-request": s.grantAccess,
		"GET discussions":          s.getDiscussions,
		"POST discussions":         s.postDiscussions,
	}
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	handler, ok := handlers[method+" "+name]
	if !ok {
		return errNoRoute
	}
	repo, err := s.readable(c, key)
	if err != nil {
		return err
	}
	return handler(c, repo, path)
}

// routeWeb serves the addresses outside of /api: files, LFS, git and pages.
func (s *Server) routeWeb(c *call, path []string) error {
	kind := "models"
	if len(path) > 0 && slices.Contains(repoTypes, path[0]) {
		kind, path = path[0], path[1:]
	}
	if len(path) < 2 {
		return errNoRoute
	}
	key := repoKey{kind, path[0], strings.TrimSuffix(path[1], ".git")}
	rest := path[2:]
	isGit, err := s.routeGit(c, key, rest)
	if isGit || err != nil {
		return err
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return errNoRoute
	}
	repo, err := s.readable(c, key)
	if err != nil {
		return err
	}
	switch {
	case len(rest) == 0:
		return s.page(c, repo)
	case rest[0] == "resolve" || rest[0] == "raw":
		return s.resolve(c, repo, rest)
	default:
		return errNoRoute
	}
}

// readable opens a repository the caller may see. A private one looks like a missing one.
func (s *Server) readable(c *call, key repoKey) (*repository, error) {
	repo, err := s.repos.open(key)
	if err != nil && !errors.Is(err, errNoRepo) {
		return nil, err
	}
	if err == nil && (!repo.settings.Private || c.account.mayWrite(key.namespace)) {
		return repo, nil
	}
	if c.account == nil {
		return nil, failCode(http.StatusUnauthorized, codeRepoNotFound,
			"Repository not found: %s does not exist, or it is private and the request has no token", key.id())
	}
	return nil, failCode(http.StatusNotFound, codeRepoNotFound,
		"Repository not found: %s does not exist, or the user %s may not see it", key.id(), c.account.Name)
}

// requireWrite refuses callers who may read but not write a namespace.
func requireWrite(c *call, namespace string) error {
	switch {
	case c.account == nil:
		return fail(http.StatusUnauthorized, "Unauthorized: writing to %s needs a token", namespace)
	case !c.account.mayWrite(namespace):
		return fail(http.StatusForbidden, "Forbidden: the user %s may not write to the namespace %s", c.account.Name, namespace)
	}
	return nil
}

// requireContent refuses callers who have not been let in to a gated repository.
func requireContent(c *call, repo *repository) error {
	if repo.settings.Gated == "" || c.account.mayWrite(repo.namespace) {
		return nil
	}
	if c.account == nil {
		return failCode(http.StatusUnauthorized, codeGatedRepo,
			"Access to %s %s is restricted: send the token of a user who was granted access", repo.singular(), repo.id())
	}
	if slices.Contains(repo.settings.Granted, c.account.Name) {
		return nil
	}
	return failCode(http.StatusForbidden, codeGatedRepo,
		"Access to %s %s is restricted and the user %s is not in the authorized list: ask for access at %s",
		repo.singular(), repo.id(), c.account.Name, c.base+repo.webPath())
}

// takeRevision takes a revision off the front of path segments. Refs that a client did
// not escape (refs/pr/1) arrive as three segments.
func takeRevision(path []string) (revision string, rest []string) {
	if len(path) == 0 {
		return "main", nil
	}
	if len(path) >= 3 && path[0] == "refs" && slices.Contains([]string{"pr", "convert", "heads", "tags"}, path[1]) {
		return strings.Join(path[:3], "/"), path[3:]
	}
	return path[0], path[1:]
}
