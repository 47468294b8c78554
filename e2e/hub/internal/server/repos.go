package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// repoRequest is the body of create and delete.
type repoRequest struct {
	Name         string  `json:"name"`
	Organization *string `json:"organization"`
	Type         *string `json:"type"`
	Private      *bool   `json:"private"`
	Visibility   *string `json:"visibility"`
}

// kindOf reads the singular type of a request body; nothing means a model.
func kindOf(singular *string) (string, error) {
	if singular == nil || *singular == "" {
		return "models", nil
	}
	kind := *singular + "s"
	if !slices.Contains(repoTypes, kind) {
		return "", fail(http.StatusBadRequest, "Unknown repository type %q: use model, dataset or space", *singular)
	}
	return kind, nil
}

// key names the repository a body is about. Without an organization it is the caller's own.
func (b repoRequest) key(c *call) (repoKey, error) {
	kind, err := kindOf(b.Type)
	if err != nil {
		return repoKey{}, err
	}
	key := repoKey{kind: kind, namespace: c.account.Name, name: b.Name}
	if namespace, name, ok := strings.Cut(b.Name, "/"); ok {
		key.namespace, key.name = namespace, name
	}
	if b.Organization != nil && *b.Organization != "" {
		key.namespace = *b.Organization
	}
	return key, key.validate()
}

func (s *Server) createRepo(c *call) error {
	if c.account == nil {
		return fail(http.StatusUnauthorized, "Unauthorized: creating a repository needs a token")
	}
	var body repoRequest
	if err := c.decode(&body); err != nil {
		return err
	}
	key, err := body.key(c)
	if err != nil {
		return err
	}
	if !s.knownNamespace(key.namespace) {
		return fail(http.StatusNotFound, "There is no user or organization %q", key.namespace)
	}
	if err := requireWrite(c, key.namespace); err != nil {
		return err
	}
	private := body.Private != nil && *body.Private
	if body.Visibility != nil {
		if private, err = isPrivate(*body.Visibility); err != nil {
			return err
		}
	}
	defer s.repos.lock(key)()
	answer := map[string]any{"url": c.base + key.webPath(), "name": key.id(), "id": repoID(key)}
	if _, err := s.repos.open(key); err == nil {
		conflict := fail(http.StatusConflict, "You already created this %s repo", key.singular())
		conflict.extra = answer
		return conflict
	} else if !errors.Is(err, errNoRepo) {
		return err
	}
	settings := repoSettings{Private: private, Creator: c.account.Name, CreatedAt: s.now().UTC()}
	if _, err := s.repos.create(c.r.Context(), key, settings); err != nil {
		return err
	}
	c.json(http.StatusOK, answer)
	return nil
}

func repoID(key repoKey) string { return stableID(key.kind, key.namespace, key.name) }

func isPrivate(visibility string) (bool, error) {
	switch visibility {
	case "private", "protected":
		return true, nil
	case "public":
		return false, nil
	}
	return false, fail(http.StatusBadRequest, "Unknown visibility %q: use public or private", visibility)
}

func (s *Server) deleteRepo(c *call) error {
	if c.account == nil {
		return fail(http.StatusUnauthorized, "Unauthorized: deleting a repository needs a token")
	}
	var body repoRequest
	if err := c.decode(&body); err != nil {
		return err
	}
	key, err := body.key(c)
	if err != nil {
		return err
	}
	defer s.repos.lock(key)()
	if _, err := s.readable(c, key); err != nil {
		return err
	}
	if err := requireWrite(c, key.namespace); err != nil {
		return err
	}
	if err := s.repos.remove(key); err != nil {
		return err
	}
	c.json(http.StatusOK, map[string]bool{"success": true})
	return nil
}

func (s *Server) moveRepo(c *call) error {
	var body struct {
		FromRepo string  `json:"fromRepo"`
		ToRepo   string  `json:"toRepo"`
		Type     *string `json:"type"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	kind, err := kindOf(body.Type)
	if err != nil {
		return err
	}
	keys := [2]repoKey{}
	for i, id := range []string{body.FromRepo, body.ToRepo} {
		namespace, name, ok := strings.Cut(id, "/")
		if !ok {
			return fail(http.StatusBadRequest, "%q is not a repository id: write it as namespace/name", id)
		}
		keys[i] = repoKey{kind, namespace, name}
		if err := keys[i].validate(); err != nil {
			return err
		}
	}
	from, to := keys[0], keys[1]
	if from == to {
		return fail(http.StatusBadRequest, "The repository already has the name %s", to.id())
	}
	// Always in one order, so that two moves can't wait for each other.
	first, second := from, to
	if second.id() < first.id() {
		first, second = second, first
	}
	defer s.repos.lock(first)()
	defer s.repos.lock(second)()
	if _, err := s.readable(c, from); err != nil {
		return err
	}
	if !s.knownNamespace(to.namespace) {
		return fail(http.StatusNotFound, "There is no user or organization %q", to.namespace)
	}
	for _, key := range keys {
		if err := requireWrite(c, key.namespace); err != nil {
			return err
		}
	}
	if _, err := s.repos.open(to); err == nil {
		return fail(http.StatusConflict, "%s exists already", to.id())
	}
	if err := s.repos.move(from, to); err != nil {
		return err
	}
	c.json(http.StatusOK, map[string]any{"success": true, "url": c.base + to.webPath()})
	return nil
}

func (s *Server) updateSettings(c *call, repo *repository, _ []string) error {
	if err := requireWrite(c, repo.namespace); err != nil {
		return err
	}
	var body struct {
		Private    *bool           `json:"private"`
		Visibility *string         `json:"visibility"`
		Gated      json.RawMessage `json:"gated"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	defer s.repos.lock(repo.repoKey)()
	repo, err := s.readable(c, repo.repoKey)
	if err != nil {
		return err
	}
	if body.Private != nil {
		repo.settings.Private = *body.Private
	}
	if body.Visibility != nil {
		if repo.settings.Private, err = isPrivate(*body.Visibility); err != nil {
			return err
		}
	}
	switch string(body.Gated) {
	case "", "null":
	case "false":
		repo.settings.Gated = ""
	case `"auto"`:
		repo.settings.Gated = "auto"
	case `"manual"`:
		repo.settings.Gated = "manual"
	default:
		return fail(http.StatusBadRequest, `"gated" must be "auto", "manual" or false`)
	}
	if err := repo.saveSettings(); err != nil {
		return err
	}
	c.json(http.StatusOK, map[string]any{"private": repo.settings.Private, "gated": gatedJSON(repo)})
	return nil
}

func gatedJSON(repo *repository) any {
	if repo.settings.Gated == "" {
		return false
	}
	return repo.settings.Gated
}

func (s *Server) authCheck(c *call, repo *repository, rest []string) error {
	if len(rest) == 1 && rest[0] == "write" {
		if err := requireWrite(c, repo.namespace); err != nil {
			return err
		}
	} else if err := requireContent(c, repo); err != nil {
		return err
	}
	c.json(http.StatusOK, map[string]bool{"success": true})
	return nil
}

// grantAccess lets a user read a gated repository.
func (s *Server) grantAccess(c *call, repo *repository, rest []string) error {
	if len(rest) != 1 || rest[0] != "grant" {
		return errNoRoute
	}
	if err := requireWrite(c, repo.namespace); err != nil {
		return err
	}
	var body struct {
		User string `json:"user"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if !slices.ContainsFunc(s.accounts, func(a Account) bool { return a.Name == body.User }) {
		return fail(http.StatusNotFound, "There is no user %q", body.User)
	}
	defer s.repos.lock(repo.repoKey)()
	repo, err := s.readable(c, repo.repoKey)
	if err != nil {
		return err
	}
	if repo.settings.Gated == "" {
		return fail(http.StatusBadRequest, "%s is not gated: set gated in its settings first", repo.id())
	}
	if !slices.Contains(repo.settings.Granted, body.User) {
		repo.settings.Granted = append(repo.settings.Granted, body.User)
	}
	if err := repo.saveSettings(); err != nil {
		return err
	}
	c.json(http.StatusOK, map[string]bool{"success": true})
	return nil
}

// listRepos lists what the caller may see: ?author= ?search= ?filter= (tags, all must match) ?limit=.
func (s *Server) listRepos(c *call, kind string) error {
	repos, err := s.repos.list(kind, c.query.Get("author"))
	if err != nil {
		return err
	}
	search := strings.ToLower(c.query.Get("search"))
	offset, limit, err := c.page(1000)
	if err != nil {
		return err
	}
	var seen []*repository
	for _, repo := range repos {
		if repo.settings.Private && !c.account.mayWrite(repo.namespace) {
			continue
		}
		if search != "" && !strings.Contains(strings.ToLower(repo.id()), search) {
			continue
		}
		seen = append(seen, repo)
	}
	list := []map[string]any{}
	for _, repo := range seen {
		info, err := s.describe(c, repo, "main", false)
		if err != nil {
			return err
		}
		tags, _ := info["tags"].([]string)
		if slices.ContainsFunc(c.query["filter"], func(tag string) bool { return !slices.Contains(tags, tag) }) {
			continue
		}
		if !c.flag("full") && len(c.query["expand"]) == 0 {
			delete(info, "siblings")
		}
		list = append(list, expanded(info, c.query["expand"]))
	}
	c.json(http.StatusOK, paged(c, list, offset, limit))
	return nil
}

// page reads ?cursor= (an offset) and ?limit=.
func (c *call) page(maximum int) (offset, limit int, err error) {
	limit = maximum
	if text := c.query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return 0, 0, fail(http.StatusBadRequest, "limit must be a positive number, not %q", text)
		}
		limit = min(limit, maximum)
	}
	if text := c.query.Get("cursor"); text != "" {
		if offset, err = strconv.Atoi(text); err != nil || offset < 0 {
			return 0, 0, fail(http.StatusBadRequest, "cursor %q was not made by this Hub", text)
		}
	}
	return offset, limit, nil
}

// paged cuts a page out of a list and links to the next one.
func paged[T any](c *call, list []T, offset, limit int) []T {
	offset = min(offset, len(list))
	end := min(offset+limit, len(list))
	if end < len(list) {
		c.linkNext("cursor", strconv.Itoa(end))
	}
	return list[offset:end]
}

// linkNext announces the next page: this request with one parameter changed.
func (c *call) linkNext(parameter, value string) {
	query := url.Values{}
	for name, values := range c.query {
		query[name] = values
	}
	query.Set(parameter, value)
	c.w.Header().Set("Link", "<"+c.base+c.r.URL.EscapedPath()+"?"+query.Encode()+`>; rel="next"`)
}
