package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Entries in a page of a tree listing, without and with the last commit of each.
const (
	treePage         = 1000
	expandedTreePage = 50
)

func (s *Server) listTree(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	revision, path := takeRevision(rest)
	commit, err := repo.git.Resolve(ctx, revision)
	if err != nil {
		return err
	}
	files, err := repo.files(ctx, commit, strings.Join(path, "/"), c.flag("recursive"))
	if err != nil {
		return err
	}
	expand := c.flag("expand")
	maximum := treePage
	if expand {
		maximum = expandedTreePage
	}
	offset, limit, err := c.page(maximum)
	if err != nil {
		return err
	}
	entries, err := describeFiles(c, repo, commit, paged(c, files, offset, limit), expand)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, entries)
	return nil
}

func describeFiles(c *call, repo *repository, commit string, files []file, expand bool) ([]map[string]any, error) {
	entries := make([]map[string]any, 0, len(files))
	for _, f := range files {
		entry := map[string]any{"type": "file", "path": f.Path, "oid": f.ID, "size": f.contentSize()}
		if f.Dir {
			entry["type"], entry["size"] = "directory", 0
		}
		if f.pointer != nil {
			entry["lfs"] = map[string]any{"oid": f.pointer.OID, "size": f.pointer.Size, "pointerSize": f.Size}
		}
		if expand {
			last, err := repo.git.Log(c.r.Context(), commit, 0, 1, f.Path)
			if err != nil {
				return nil, err
			}
			if len(last) == 1 {
				entry["lastCommit"] = map[string]any{"id": last[0].ID, "title": last[0].Title, "date": timestamp(last[0].Date)}
			}
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// pathsInfo answers for named paths; those that do not exist are left out.
func (s *Server) pathsInfo(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	revision, _ := takeRevision(rest)
	paths, expand, err := pathsRequest(c)
	if err != nil {
		return err
	}
	commit, err := repo.git.Resolve(ctx, revision)
	if err != nil {
		return err
	}
	found, err := repo.git.Entries(ctx, commit, paths)
	if err != nil {
		return err
	}
	files, err := repo.withPointers(ctx, found)
	if err != nil {
		return err
	}
	entries, err := describeFiles(c, repo, commit, files, expand)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, entries)
	return nil
}

// pathsRequest reads the body as a form (the Python client) or as JSON.
func pathsRequest(c *call) (paths []string, expand bool, err error) {
	content, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxJSONBody))
	if err != nil {
		return nil, false, err
	}
	if strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(content))
		if err != nil {
			return nil, false, fail(http.StatusBadRequest, "The body is not a valid form: %s", err)
		}
		expand, _ = strconv.ParseBool(form.Get("expand"))
		return form["paths"], expand, nil
	}
	var body struct {
		Paths  stringOrList `json:"paths"`
		Expand bool         `json:"expand"`
	}
	if err := json.Unmarshal(content, &body); err != nil {
		return nil, false, fail(http.StatusBadRequest, "The body is neither a form nor JSON: %s", err)
	}
	return body.Paths, body.Expand, nil
}

// stringOrList is a JSON list of strings, or one string.
type stringOrList []string

func (l *stringOrList) UnmarshalJSON(content []byte) error {
	var one string
	if json.Unmarshal(content, &one) == nil {
		*l = stringOrList{one}
		return nil
	}
	return json.Unmarshal(content, (*[]string)(l))
}
