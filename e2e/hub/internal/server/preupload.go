package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"strings"
)

// maxRegularFile is the largest file in bytes that goes into git itself; larger ones go to LFS.
const maxRegularFile = 10 << 20

type preuploadFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Sample string `json:"sample"` // first bytes of the file, base64
}

type preuploadAnswer struct {
	Path         string `json:"path"`
	UploadMode   string `json:"uploadMode"` // lfs or regular
	ShouldIgnore bool   `json:"shouldIgnore"`
	OID          string `json:"oid,omitempty"` // of the file already at that path: git blob id or sha256
}

// preupload decides file by file how it is to be uploaded.
func (s *Server) preupload(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	revision, _ := takeRevision(rest)
	if c.account == nil {
		return fail(http.StatusUnauthorized, "Unauthorized: uploading needs a token")
	}
	var body struct {
		Files     []preuploadFile `json:"files"`
		GitIgnore *string         `json:"gitIgnore"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	commit, err := repo.git.Resolve(ctx, revision)
	if err != nil {
		return err
	}
	paths := make([]string, 0, len(body.Files))
	for _, f := range body.Files {
		if err := validatePath(f.Path); err != nil {
			return err
		}
		paths = append(paths, f.Path)
	}
	filters, err := repo.git.FilterAttributes(ctx, commit, paths)
	if err != nil {
		return err
	}
	gitIgnore, err := repo.gitIgnore(ctx, commit, body.GitIgnore)
	if err != nil {
		return err
	}
	ignored, err := repo.git.Ignored(ctx, gitIgnore, paths)
	if err != nil {
		return err
	}
	entries, err := repo.git.Entries(ctx, commit, paths)
	if err != nil {
		return err
	}
	existing, err := repo.withPointers(ctx, entries)
	if err != nil {
		return err
	}
	present := map[string]file{}
	for _, f := range existing {
		present[f.Path] = f
	}
	answers := make([]preuploadAnswer, 0, len(body.Files))
	for _, f := range body.Files {
		answer := preuploadAnswer{Path: f.Path, UploadMode: "regular", ShouldIgnore: ignored[f.Path]}
		if filters[f.Path] == "lfs" || f.Size > maxRegularFile || isBinary(f.Sample) {
			answer.UploadMode = "lfs"
		}
		if there, ok := present[f.Path]; ok && !there.Dir {
			answer.OID = there.etag()
		}
		answers = append(answers, answer)
	}
	c.json(http.StatusOK, map[string]any{"files": answers})
	return nil
}

// isBinary judges the sample as git does: text holds no NUL.
func isBinary(sample string) bool {
	content, err := base64.StdEncoding.DecodeString(sample)
	return err == nil && bytes.IndexByte(content, 0) >= 0
}

// gitIgnore is the text sent along, or else the .gitignore of the commit.
func (r *repository) gitIgnore(ctx context.Context, commit string, sent *string) (string, error) {
	if sent != nil {
		return *sent, nil
	}
	entries, err := r.git.Entries(ctx, commit, []string{".gitignore"})
	if err != nil || len(entries) == 0 || entries[0].Dir || entries[0].Size > maxMetadataFile {
		return "", err
	}
	contents, err := r.git.Blobs(ctx, []string{entries[0].ID})
	return string(contents[entries[0].ID]), err
}

// validatePath refuses what git would refuse or what would leave the repository.
func validatePath(path string) error {
	bad := path == "" || strings.HasPrefix(path, "/") || strings.ContainsAny(path, "\x00\n\r\t")
	for part := range strings.SplitSeq(strings.TrimSuffix(path, "/"), "/") {
		bad = bad || part == "" || part == "." || part == ".." || strings.EqualFold(part, ".git")
	}
	if bad {
		return fail(http.StatusBadRequest, "Invalid path %q: use a relative path inside the repository, without '.', '..' and '.git'", path)
	}
	return nil
}
