package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/e2e/hub/internal/git"
)

// The states of a discussion or pull request. A pull request opened without a commit is a draft.
const (
	statusDraft  = "draft"
	statusOpen   = "open"
	statusClosed = "closed"
	statusMerged = "merged"
)

// discussion is a discussion or pull request as it is stored, in discussions/N.json of the repository.
type discussion struct {
	Num           int       `json:"num"`
	Title         string    `json:"title"`
	Author        string    `json:"author"`
	CreatedAt     time.Time `json:"createdAt"`
	Status        string    `json:"status"`
	IsPullRequest bool      `json:"isPullRequest"`
	Pinned        bool      `json:"pinned,omitempty"`
	Target        string    `json:"target,omitempty"` // ref a pull request merges into
	// Base is the commit of Target that was merged into, once merged.
	Base        string  `json:"base,omitempty"`
	MergeCommit string  `json:"mergeCommit,omitempty"`
	Events      []event `json:"events"`
}

// event is one thing that happened in a discussion, in the Hub's JSON.
type event struct {
	ID        string            `json:"id"`
	Type      string            `json:"type"` // comment, status-change, title-change, commit
	CreatedAt string            `json:"createdAt"`
	Author    map[string]string `json:"author"`
	Data      map[string]any    `json:"data"`
}

// ref is where the commits of a pull request are.
func (d *discussion) ref() string { return "refs/pr/" + strconv.Itoa(d.Num) }

// add records an event.
func (d *discussion) add(kind, author string, now time.Time, data map[string]any) event {
	happened := event{
		ID:   stableID(strconv.Itoa(d.Num), strconv.Itoa(len(d.Events)), now.Format(time.RFC3339Nano)),
		Type: kind, CreatedAt: timestamp(now), Author: map[string]string{"name": author}, Data: data,
	}
	d.Events = append(d.Events, happened)
	return happened
}

func commentData(text, author string, now time.Time) map[string]any {
	return map[string]any{
		"edited": false, "hidden": false, "numEdits": 0,
		"latest": map[string]any{"raw": text, "updatedAt": timestamp(now), "author": map[string]string{"name": author}},
	}
}

func (r *repository) discussionFile(num int) string {
	return filepath.Join(r.git.Dir, "discussions", strconv.Itoa(num)+".json")
}

// discussion reads one, or fails with 404.
func (r *repository) discussion(num int) (*discussion, error) {
	content, err := os.ReadFile(r.discussionFile(num))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(404, "There is no discussion %d in %s", num, r.id())
	}
	if err != nil {
		return nil, err
	}
	var found discussion
	return &found, json.Unmarshal(content, &found)
}

func (r *repository) saveDiscussion(d *discussion) error {
	if err := os.MkdirAll(filepath.Dir(r.discussionFile(d.Num)), 0o755); err != nil {
		return err
	}
	return writeFileAtomically(r.discussionFile(d.Num), d)
}

// discussions lists all of them, newest first.
func (r *repository) discussions() ([]*discussion, error) {
	files, err := os.ReadDir(filepath.Join(r.git.Dir, "discussions"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []*discussion
	for _, entry := range files {
		number, ok := strings.CutSuffix(entry.Name(), ".json")
		num, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		found, err := r.discussion(num)
		if err != nil {
			return nil, err
		}
		list = append(list, found)
	}
	slices.SortFunc(list, func(a, b *discussion) int { return b.Num - a.Num })
	return list, nil
}

// newDiscussion is what a discussion or pull request is opened with.
type newDiscussion struct {
	author, title, description string
	target                     string // ref to merge into; empty: not a pull request
	head                       string // first commit of the pull request
	status                     string
}

// openPullRequest stores a pull request and its ref. The caller holds the repository's lock.
func (s *Server) openPullRequest(ctx context.Context, repo *repository, n newDiscussion) (*discussion, error) {
	list, err := repo.discussions()
	if err != nil {
		return nil, err
	}
	d := &discussion{
		Num: 1, Title: n.title, Author: n.author, CreatedAt: s.now().UTC(), Status: n.status, IsPullRequest: n.target != "", Target: n.target,
	}
	if len(list) > 0 {
		d.Num = list[0].Num + 1
	}
	if n.description != "" || !d.IsPullRequest {
		d.add("comment", n.author, d.CreatedAt, commentData(n.description, n.author, d.CreatedAt))
	}
	if d.IsPullRequest {
		if err := repo.git.UpdateRef(ctx, d.ref(), n.head, git.ZeroID); err != nil {
			return nil, err
		}
	}
	return d, repo.saveDiscussion(d)
}

// merge brings a pull request into its target with a merge commit.
// The caller holds the repository's lock.
func (s *Server) merge(ctx context.Context, repo *repository, d *discussion, author, comment string) error {
	target, err := repo.git.RefValue(ctx, d.Target)
	if err != nil {
		return err
	}
	head, err := repo.git.RefValue(ctx, d.ref())
	if err != nil {
		return err
	}
	tree, conflicts, err := repo.git.MergeTree(ctx, target, head)
	if err != nil {
		return err
	}
	if len(conflicts) > 0 {
		return fail(409, "The pull request conflicts with %s in: %s", d.Target, strings.Join(conflicts, ", "))
	}
	now := s.now()
	message := d.Title + " (#" + strconv.Itoa(d.Num) + ")\n"
	if comment != "" {
		message += "\n" + comment + "\n"
	}
	id, err := repo.git.Commit(ctx, tree, []string{target, head}, message, person(author), now)
	if err != nil {
		return err
	}
	if err := repo.git.UpdateRef(ctx, d.Target, id, target); err != nil {
		return err
	}
	d.Status, d.MergeCommit, d.Base = statusMerged, id, target
	if comment != "" {
		d.add("comment", author, now, commentData(comment, author, now))
	}
	d.add("status-change", author, now, map[string]any{"status": statusMerged})
	return repo.saveDiscussion(d)
}
