package server

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"slipway.dev/e2e/hub/internal/git"
)

// commitPage is how many commits a page of the history holds.
const commitPage = 50

func (s *Server) listRefs(c *call, repo *repository, _ []string) error {
	refs, err := repo.git.Refs(c.r.Context())
	if err != nil {
		return err
	}
	groups := []struct{ field, prefix string }{
		{"branches", "refs/heads/"}, {"tags", "refs/tags/"}, {"converts", "refs/convert/"}, {"pullRequests", "refs/pr/"},
	}
	answer := map[string][]map[string]string{"branches": {}, "tags": {}, "converts": {}}
	if c.flag("include_prs") {
		answer["pullRequests"] = []map[string]string{}
	}
	for _, ref := range refs {
		for _, group := range groups {
			name, ok := strings.CutPrefix(ref.Name, group.prefix)
			if _, asked := answer[group.field]; ok && asked {
				answer[group.field] = append(answer[group.field],
					map[string]string{"name": name, "ref": ref.Name, "targetCommit": ref.Commit})
			}
		}
	}
	c.json(http.StatusOK, answer)
	return nil
}

func (s *Server) listCommits(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	revision, _ := takeRevision(rest)
	commit, err := repo.git.Resolve(ctx, revision)
	if err != nil {
		return err
	}
	_, limit, err := c.page(commitPage)
	if err != nil {
		return err
	}
	page := 0
	if text := c.query.Get("p"); text != "" {
		if page, err = strconv.Atoi(text); err != nil || page < 0 {
			return fail(http.StatusBadRequest, "p must be a page number from 0, not %q", text)
		}
	}
	// One more than asked for tells whether there is another page.
	history, err := repo.git.Log(ctx, commit, page*limit, limit+1, "")
	if err != nil {
		return err
	}
	if len(history) > limit {
		history = history[:limit]
		c.linkNext("p", strconv.Itoa(page+1))
	}
	commits := make([]map[string]any, 0, len(history))
	for _, entry := range history {
		commits = append(commits, map[string]any{
			"id": entry.ID, "title": entry.Title, "message": entry.Message, "date": timestamp(entry.Date),
			"authors": []map[string]string{{"user": entry.Author}},
		})
	}
	c.json(http.StatusOK, commits)
	return nil
}

// compare answers with the textual difference of a..b.
func (s *Server) compare(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	from, to, ok := strings.Cut(strings.Join(rest, "/"), "..")
	if !ok {
		return fail(http.StatusBadRequest, "Name two revisions as a..b")
	}
	ids := [2]string{}
	for i, revision := range []string{from, strings.TrimPrefix(to, ".")} {
		id, err := repo.git.Resolve(ctx, revision)
		if err != nil {
			return err
		}
		ids[i] = id
	}
	diff, err := repo.git.Diff(ctx, ids[0], ids[1])
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = c.w.Write([]byte(diff))
	return err
}

// refName joins the segments of a ref that was not escaped.
func refName(rest []string) (string, error) {
	if len(rest) == 0 {
		return "", errNoRoute
	}
	return strings.Join(rest, "/"), nil
}

func (s *Server) createBranch(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	name, err := refName(rest)
	if err != nil {
		return err
	}
	if err := requireWrite(c, repo.namespace); err != nil {
		return err
	}
	var body struct {
		StartingPoint string `json:"startingPoint"`
	}
	if c.r.ContentLength != 0 {
		if err := c.decode(&body); err != nil {
			return err
		}
	}
	if body.StartingPoint == "" {
		body.StartingPoint = "main"
	}
	defer s.repos.lock(repo.repoKey)()
	full := "refs/heads/" + name
	if strings.HasPrefix(name, "refs/") {
		// refs/convert/parquet is such a branch; pull requests have their own address.
		full = name
		if !strings.HasPrefix(name, "refs/convert/") {
			return fail(http.StatusBadRequest, "Invalid branch name %q: names starting with refs/ are reserved", name)
		}
	}
	commit, err := repo.git.Resolve(ctx, body.StartingPoint)
	if err != nil {
		return err
	}
	switch err := repo.git.UpdateRef(ctx, full, commit, git.ZeroID); {
	case errors.Is(err, git.ErrRefMoved):
		return fail(http.StatusConflict, "Reference already exists: %s", full)
	case err != nil:
		return err
	}
	c.json(http.StatusOK, map[string]any{"success": true})
	return nil
}

func (s *Server) deleteBranch(c *call, repo *repository, rest []string) error {
	name, err := refName(rest)
	if err != nil {
		return err
	}
	if err := requireWrite(c, repo.namespace); err != nil {
		return err
	}
	if name == "main" {
		return fail(http.StatusForbidden, "Cannot delete the branch main")
	}
	return s.deleteRef(c, repo, "refs/heads/"+name)
}

func (s *Server) createTag(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	revision, _ := takeRevision(rest)
	if err := requireWrite(c, repo.namespace); err != nil {
		return err
	}
	var body struct {
		Tag     string `json:"tag"`
		Message string `json:"message"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	commit, err := repo.git.Resolve(ctx, revision)
	if err != nil {
		return err
	}
	defer s.repos.lock(repo.repoKey)()
	switch err := repo.git.CreateTag(ctx, body.Tag, commit, body.Message, person(c.account.Name), s.now()); {
	case errors.Is(err, git.ErrRefMoved):
		return fail(http.StatusConflict, "Tag reference exists already: refs/tags/%s", body.Tag)
	case err != nil:
		return err
	}
	c.json(http.StatusOK, map[string]any{"success": true})
	return nil
}

func (s *Server) deleteTag(c *call, repo *repository, rest []string) error {
	name, err := refName(rest)
	if err != nil {
		return err
	}
	if err := requireWrite(c, repo.namespace); err != nil {
		return err
	}
	return s.deleteRef(c, repo, "refs/tags/"+name)
}

func (s *Server) deleteRef(c *call, repo *repository, full string) error {
	defer s.repos.lock(repo.repoKey)()
	if err := repo.git.DeleteRef(c.r.Context(), full); err != nil {
		return err
	}
	c.json(http.StatusOK, map[string]any{"success": true})
	return nil
}

// superSquash replaces the history of a branch by one commit with the same files.
func (s *Server) superSquash(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	name, err := refName(rest)
	if err != nil {
		return err
	}
	if err := requireWrite(c, repo.namespace); err != nil {
		return err
	}
	var body struct {
		Message string `json:"message"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.Message == "" {
		body.Message = "Super-squash branch '" + name + "'"
	}
	defer s.repos.lock(repo.repoKey)()
	full := "refs/heads/" + name
	head, err := repo.git.RefValue(ctx, full)
	if err != nil {
		return err
	}
	commit, err := repo.git.Commit(ctx, head+"^{tree}", nil, body.Message, person(c.account.Name), s.now())
	if err != nil {
		return err
	}
	if err := repo.git.UpdateRef(ctx, full, commit, head); err != nil {
		return err
	}
	c.json(http.StatusOK, map[string]any{"success": true, "commitId": commit})
	return nil
}
