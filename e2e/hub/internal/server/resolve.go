package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"slipway.dev/e2e/hub/internal/git"
)

// maxBlobInMemory is up to how many bytes a git blob is served from memory; larger ones
// pass through a temporary file, so that Range works without holding them.
const maxBlobInMemory = 8 << 20

// resolve serves a file of a repository. LFS objects are redirected to a signed URL, as on
// the Hub; /raw/ gives the pointer file instead.
func (s *Server) resolve(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	raw := rest[0] == "raw"
	revision, segments := takeRevision(rest[1:])
	filePath := strings.Join(segments, "/")
	commit, err := repo.git.Resolve(ctx, revision)
	if err != nil {
		return err
	}
	c.w.Header().Set("X-Repo-Commit", commit)
	if err := requireContent(c, repo); err != nil {
		return err
	}
	entry, err := repo.git.Entry(ctx, commit, filePath)
	if err != nil || entry.Dir {
		if err == nil || errors.Is(err, git.ErrEntryNotFound) {
			return failCode(http.StatusNotFound, codeEntryNotFound, "Entry not found: %s has no file %q at %s", repo.id(), filePath, revision)
		}
		return err
	}
	files, err := repo.withPointers(ctx, []git.Entry{entry})
	if err != nil {
		return err
	}
	target := files[0]
	if target.pointer != nil && !raw {
		return s.redirectToObject(c, repo, target, commit)
	}
	setFileHeaders(c.w.Header(), target.Path, entry.ID)
	return serveBlob(c, repo.git, entry)
}

func setFileHeaders(header http.Header, filePath, etag string) {
	contentType := mime.TypeByExtension(path.Ext(filePath))
	if contentType == "" {
		contentType = "text/plain; charset=utf-8"
	}
	name := path.Base(filePath)
	header.Set("Content-Type", contentType)
	header.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": name}))
	header.Set("Etag", `"`+etag+`"`)
	header.Set("Accept-Ranges", "bytes")
	header.Set("Access-Control-Expose-Headers", "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Linked-Size,X-Linked-Etag,ETag,Link,Accept-Ranges,Content-Range")
}

// serveBlob answers with a git blob; http.ServeContent handles Range and If-None-Match.
func serveBlob(c *call, repo git.Repo, entry git.Entry) error {
	ctx := c.r.Context()
	if entry.Size <= maxBlobInMemory {
		var content bytes.Buffer
		if err := repo.Blob(ctx, entry.ID, &content); err != nil {
			return err
		}
		http.ServeContent(c.w, c.r, "", time.Time{}, bytes.NewReader(content.Bytes()))
		return nil
	}
	spool, err := os.CreateTemp("", "slipway-hub-blob-")
	if err != nil {
		return err
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	if err := repo.Blob(ctx, entry.ID, spool); err != nil {
		return err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	http.ServeContent(c.w, c.r, "", time.Time{}, spool)
	return nil
}

// redirectToObject sends the client to the signed URL of an LFS object.
func (s *Server) redirectToObject(c *call, repo *repository, target file, commit string) error {
	oid, size := target.pointer.OID, target.pointer.Size
	if _, ok := repo.lfs.Size(oid); !ok {
		return failCode(http.StatusNotFound, codeEntryNotFound,
			"Entry not found: %q is in the commit, but its LFS object %s was never uploaded", target.Path, oid)
	}
	header := c.w.Header()
	header.Set("X-Linked-Etag", `"`+oid+`"`)
	header.Set("X-Linked-Size", fmt.Sprint(size))
	header.Set("Etag", `"`+oid+`"`)
	header.Set("Accept-Ranges", "bytes")
	if c.r.Header.Get("If-None-Match") == `"`+oid+`"` {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	query := url.Values{"commit": {commit}}
	location := c.base + s.signer.sign(http.MethodGet, objectPath(repo.repoKey, oid)+"/"+url.PathEscape(path.Base(target.Path)), query, s.now())
	header.Set("Location", location)
	header.Set("Content-Type", "text/plain; charset=utf-8")
	c.w.WriteHeader(http.StatusFound)
	_, err := io.WriteString(c.w, "Found. Redirecting to "+location+"\n")
	return err
}

// objectPath is the escaped path at which an LFS object is read and written by signed URLs.
func objectPath(key repoKey, oid string) string {
	return "/_lfs/" + key.kind + "/" + url.PathEscape(key.namespace) + "/" + url.PathEscape(key.name) + "/" + oid
}

// routeSigned serves the signed URLs: path is kind, namespace, name, object id and,
// for downloads, the file's name.
func (s *Server) routeSigned(c *call, path []string) error {
	if len(path) < 4 || len(path) > 5 {
		return errNoRoute
	}
	if err := s.signer.verify(c.r, s.now()); err != nil {
		return err
	}
	repo, err := s.repos.open(repoKey{path[0], path[1], path[2]})
	if errors.Is(err, errNoRepo) {
		return failCode(http.StatusNotFound, codeRepoNotFound, "Repository not found: it was deleted")
	}
	if err != nil {
		return err
	}
	oid := path[3]
	switch c.r.Method {
	case http.MethodPut:
		return s.receiveObject(c, repo, oid)
	case http.MethodPost:
		return s.verifyObject(c, repo)
	case http.MethodGet, http.MethodHead:
		name := oid
		if len(path) == 5 {
			name = path[4]
		}
		return s.sendObject(c, repo, oid, name)
	}
	return errNoRoute
}

// sendObject streams an LFS object. It repeats the headers of the redirect, because clients
// that follow a redirect to the same origin read them here.
func (s *Server) sendObject(c *call, repo *repository, oid, name string) error {
	object, err := repo.lfs.Open(oid)
	if errors.Is(err, fs.ErrNotExist) {
		return failCode(http.StatusNotFound, codeEntryNotFound, "Entry not found: no LFS object %s", oid)
	}
	if err != nil {
		return err
	}
	defer object.Close()
	info, err := object.Stat()
	if err != nil {
		return err
	}
	header := c.w.Header()
	setFileHeaders(header, name, oid)
	header.Set("Content-Type", "application/octet-stream")
	header.Set("X-Linked-Etag", `"`+oid+`"`)
	header.Set("X-Linked-Size", fmt.Sprint(info.Size()))
	if commit := c.query.Get("commit"); commit != "" {
		header.Set("X-Repo-Commit", commit)
	}
	http.ServeContent(c.w, c.r, "", time.Time{}, object)
	return nil
}
