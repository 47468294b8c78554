package server

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"slipway.dev/e2e/hub/internal/card"
	"slipway.dev/e2e/hub/internal/git"
	"slipway.dev/e2e/hub/internal/lfs"
)

// pushAttempts is how often a commit without parentCommit is put on top of a branch that
// a git push moved meanwhile.
const pushAttempts = 3

// commit applies the changes of an NDJSON body to a branch or a pull request.
func (s *Server) commit(c *call, repo *repository, rest []string) error {
	ctx := c.r.Context()
	revision, _ := takeRevision(rest)
	if c.account == nil {
		return fail(http.StatusUnauthorized, "Unauthorized: committing needs a token")
	}
	createPR := c.flag("create_pr")
	if !createPR {
		if err := s.requireCommit(c, repo, revision); err != nil {
			return err
		}
	}
	if _, err := repo.git.Resolve(ctx, revision); err != nil {
		return err
	}
	var header commitHeader
	var changes []git.Change
	var lfsPaths []string
	err := readCommit(c.r.Body,
		func(h commitHeader) error { header = h; return nil },
		func(item any) error {
			change, isLFS, err := repo.prepareChange(ctx, item)
			if err != nil {
				return err
			}
			if isLFS {
				lfsPaths = append(lfsPaths, change.Path)
			}
			changes = append(changes, change)
			return nil
		})
	if err != nil {
		return err
	}
	defer s.repos.lock(repo.repoKey)()
	write := func(base string) (string, error) {
		tree, err := repo.writeTree(ctx, base, changes, lfsPaths)
		if err != nil {
			return "", err
		}
		message := strings.TrimSpace(header.Summary + "\n\n" + header.Description)
		return repo.git.Commit(ctx, tree, []string{base}, message+"\n", person(c.account.Name), s.now())
	}
	if createPR {
		return s.commitToNewPR(c, repo, revision, header, write)
	}
	id, err := repo.commitToRef(ctx, revision, header.ParentCommit, write)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, commitAnswer(c, repo, id))
	return nil
}

func commitAnswer(c *call, repo *repository, id string) map[string]any {
	return map[string]any{"success": true, "commitOid": id, "commitUrl": c.base + repo.webPath() + "/commit/" + id, "hookOutput": ""}
}

// requireCommit lets owners commit anywhere, and the author of a pull request to it.
func (s *Server) requireCommit(c *call, repo *repository, revision string) error {
	if number, ok := strings.CutPrefix(revision, "refs/pr/"); ok && c.account != nil {
		if n, err := strconv.Atoi(number); err == nil {
			if pr, err := repo.discussion(n); err == nil && pr.IsPullRequest && pr.Author == c.account.Name {
				return nil
			}
		}
	}
	return requireWrite(c, repo.namespace)
}

// writableRef is the ref a commit may go to: commit ids and tags can't be committed to.
func (r *repository) writableRef(ctx context.Context, revision string) (full, head string, err error) {
	full = revision
	switch {
	case revision == "HEAD":
		full = "refs/heads/main"
	case !strings.HasPrefix(revision, "refs/"):
		full = "refs/heads/" + revision
	case !strings.HasPrefix(revision, "refs/heads/") && !strings.HasPrefix(revision, "refs/pr/") && !strings.HasPrefix(revision, "refs/convert/"):
		return "", "", fail(http.StatusBadRequest, "Cannot commit to %s: name a branch or refs/pr/N", revision)
	}
	head, err = r.git.RefValue(ctx, full)
	if errors.Is(err, git.ErrRevisionNotFound) {
		if _, other := r.git.Resolve(ctx, revision); other == nil {
			return "", "", fail(http.StatusBadRequest, "Cannot commit to %s: it is a tag or a commit; name a branch", revision)
		}
	}
	return full, head, err
}

func (r *repository) commitToRef(ctx context.Context, revision, parent string, write func(base string) (string, error)) (string, error) {
	for attempt := 1; ; attempt++ {
		ref, head, err := r.writableRef(ctx, revision)
		if err != nil {
			return "", err
		}
		if parent != "" && !isPrefixOf(parent, head) {
			return "", errStaleParent()
		}
		id, err := write(head)
		if err != nil {
			return "", err
		}
		err = r.git.UpdateRef(ctx, ref, id, head)
		if errors.Is(err, git.ErrRefMoved) && parent == "" && attempt < pushAttempts {
			continue
		}
		return id, err
	}
}

// isPrefixOf tells whether a commit id, possibly shortened to 7 digits, names a commit.
func isPrefixOf(short, id string) bool { return len(short) >= 7 && strings.HasPrefix(id, short) }

func (s *Server) commitToNewPR(c *call, repo *repository, revision string, header commitHeader, write func(base string) (string, error)) error {
	ctx := c.r.Context()
	base, err := repo.git.Resolve(ctx, revision)
	if err != nil {
		return err
	}
	if header.ParentCommit != "" {
		if base, err = repo.git.Resolve(ctx, header.ParentCommit); err != nil {
			return err
		}
	}
	target, _, err := repo.writableRef(ctx, revision)
	if err != nil {
		return err
	}
	id, err := write(base)
	if err != nil {
		return err
	}
	pr, err := s.openPullRequest(ctx, repo, newDiscussion{
		author: c.account.Name, title: header.Summary, description: header.Description, target: target, head: id, status: statusOpen,
	})
	if err != nil {
		return err
	}
	answer := commitAnswer(c, repo, id)
	url := c.base + repo.webPath() + "/discussions/" + strconv.Itoa(pr.Num)
	// The Hub says pullRequestUrl; the Rust client hf-hub reads prUrl and prNum.
	answer["pullRequestUrl"], answer["prUrl"], answer["prNum"] = url, url, pr.Num
	c.json(http.StatusOK, answer)
	return nil
}

// prepareChange checks a line of a commit and stores its blob.
func (r *repository) prepareChange(ctx context.Context, item any) (change git.Change, isLFS bool, err error) {
	switch item := item.(type) {
	case *commitDeletion:
		return git.Change{Path: item.Path, Folder: item.Folder}, false, validatePath(item.Path)
	case *commitFile:
		if err := validatePath(item.Path); err != nil {
			return change, false, err
		}
		content, err := item.content()
		if err != nil {
			return change, false, err
		}
		if len(content) > maxRegularFile {
			return change, false, fail(http.StatusBadRequest, "%q is larger than %d bytes: upload it with LFS", item.Path, maxRegularFile)
		}
		if item.Path == "README.md" {
			if _, err := card.Parse(string(content)); err != nil {
				return change, false, fail(http.StatusBadRequest, "Invalid metadata in README.md: %s", err)
			}
		}
		id, err := r.git.WriteBlob(ctx, bytes.NewReader(content))
		return git.Change{Path: item.Path, ID: id}, false, err
	case *commitLFSFile:
		if err := validatePath(item.Path); err != nil {
			return change, false, err
		}
		if item.Algo != "" && item.Algo != "sha256" {
			return change, false, fail(http.StatusBadRequest, "%q has the unknown LFS algorithm %q: use sha256", item.Path, item.Algo)
		}
		size, stored := r.lfs.Size(item.OID)
		if !stored {
			return change, false, fail(http.StatusBadRequest, "The LFS object %s of %q was not uploaded: send it through the LFS batch API first", item.OID, item.Path)
		}
		if item.Size != nil && *item.Size != size {
			return change, false, fail(http.StatusBadRequest, "The LFS object of %q has %d bytes, not %d", item.Path, size, *item.Size)
		}
		id, err := r.git.WriteBlob(ctx, strings.NewReader(lfs.Pointer{OID: item.OID, Size: size}.String()))
		return git.Change{Path: item.Path, ID: id}, true, err
	}
	return change, false, errors.New("unknown kind of change")
}

// writeTree applies the changes, and makes .gitattributes name those LFS files that no
// pattern of it covers: otherwise git would take their pointers for their content.
func (r *repository) writeTree(ctx context.Context, base string, changes []git.Change, lfsPaths []string) (string, error) {
	tree, err := r.git.WriteTree(ctx, base, changes)
	if err != nil || len(lfsPaths) == 0 {
		return tree, err
	}
	filters, err := r.git.FilterAttributes(ctx, tree, lfsPaths)
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for _, path := range lfsPaths {
		if filters[path] != "lfs" {
			lines.WriteString(attributeLine(exactPattern(path)))
		}
	}
	if lines.Len() == 0 {
		return tree, nil
	}
	attributes := ""
	entries, err := r.git.Entries(ctx, tree, []string{".gitattributes"})
	if err != nil {
		return "", err
	}
	if len(entries) == 1 {
		contents, err := r.git.Blobs(ctx, []string{entries[0].ID})
		if err != nil {
			return "", err
		}
		attributes = string(contents[entries[0].ID])
		if attributes != "" && !strings.HasSuffix(attributes, "\n") {
			attributes += "\n"
		}
	}
	id, err := r.git.WriteBlob(ctx, strings.NewReader(attributes+lines.String()))
	if err != nil {
		return "", err
	}
	return r.git.WriteTree(ctx, tree, []git.Change{{Path: ".gitattributes", ID: id}})
}
