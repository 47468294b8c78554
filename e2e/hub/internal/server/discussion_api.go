package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"
)

// discussionPage is how many discussions a page holds.
const discussionPage = 50

// getDiscussions serves the list, or with a number the details of one.
func (s *Server) getDiscussions(c *call, repo *repository, rest []string) error {
	if len(rest) == 0 {
		return listDiscussions(c, repo)
	}
	d, err := repo.numbered(rest)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return errNoRoute
	}
	details, err := repo.details(c.r.Context(), d, c.flag("diff"))
	if err != nil {
		return err
	}
	c.json(http.StatusOK, details)
	return nil
}

func (r *repository) numbered(rest []string) (*discussion, error) {
	num, err := strconv.Atoi(rest[0])
	if err != nil || num < 1 {
		return nil, fail(http.StatusBadRequest, "%q is not the number of a discussion", rest[0])
	}
	return r.discussion(num)
}

func listDiscussions(c *call, repo *repository) error {
	all, err := repo.discussions()
	if err != nil {
		return err
	}
	kind, status, author := c.query.Get("type"), c.query.Get("status"), c.query.Get("author")
	matching := []map[string]any{}
	for _, d := range all {
		open := d.Status == statusOpen || d.Status == statusDraft
		if kind == "pull_request" && !d.IsPullRequest || kind == "discussion" && d.IsPullRequest ||
			status == "open" && !open || status == "closed" && open || author != "" && author != d.Author {
			continue
		}
		matching = append(matching, repo.summary(d))
	}
	page := 0
	if text := c.query.Get("p"); text != "" {
		if page, err = strconv.Atoi(text); err != nil || page < 0 {
			return fail(http.StatusBadRequest, "p must be a page number from 0, not %q", text)
		}
	}
	start := min(page*discussionPage, len(matching))
	end := min(start+discussionPage, len(matching))
	c.json(http.StatusOK, map[string]any{"discussions": matching[start:end], "count": len(matching), "start": start})
	return nil
}

func (r *repository) summary(d *discussion) map[string]any {
	return map[string]any{
		"num": d.Num, "title": d.Title, "author": map[string]string{"name": d.Author}, "createdAt": timestamp(d.CreatedAt),
		"status": d.Status, "isPullRequest": d.IsPullRequest, "pinned": d.Pinned,
		"repo": map[string]string{"name": r.id(), "type": r.singular()},
	}
}

func (r *repository) details(ctx context.Context, d *discussion, withDiff bool) (map[string]any, error) {
	details := r.summary(d)
	events := append([]event{}, d.Events...)
	if d.IsPullRequest {
		head, err := r.git.RefValue(ctx, d.ref())
		if err != nil {
			return nil, err
		}
		base := d.Base
		if base == "" {
			if base, err = r.git.RefValue(ctx, d.Target); err != nil {
				return nil, err
			}
		}
		changes := map[string]any{"base": d.Target}
		if d.MergeCommit != "" {
			changes["mergeCommitId"] = d.MergeCommit
		}
		details["changes"] = changes
		conflicts := []string{}
		if d.Status == statusOpen || d.Status == statusDraft {
			_, found, err := r.git.MergeTree(ctx, base, head)
			if err != nil {
				return nil, err
			}
			conflicts = append(conflicts, found...)
		}
		details["filesWithConflicts"] = conflicts
		if fork, ok := r.git.MergeBase(ctx, base, head); ok {
			if withDiff {
				if details["diff"], err = r.git.Diff(ctx, fork, head); err != nil {
					return nil, err
				}
			}
			commits, err := r.git.Log(ctx, fork+".."+head, 0, 1000, "")
			if err != nil {
				return nil, err
			}
			for i := len(commits) - 1; i >= 0; i-- {
				commit := commits[i]
				events = append(events, event{
					ID: commit.ID[:24], Type: "commit", CreatedAt: timestamp(commit.Date), Author: map[string]string{"name": commit.Author},
					Data: map[string]any{"subject": commit.Title, "oid": commit.ID},
				})
			}
		}
	}
	details["events"] = events
	return details, nil
}

// postDiscussions opens a discussion, or acts on the one with a number.
func (s *Server) postDiscussions(c *call, repo *repository, rest []string) error {
	if c.account == nil {
		return fail(http.StatusUnauthorized, "Unauthorized: taking part in discussions needs a token")
	}
	var body struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		PullRequest bool   `json:"pullRequest"`
		Comment     string `json:"comment"`
		Status      string `json:"status"`
	}
	if c.r.ContentLength != 0 {
		if err := c.decode(&body); err != nil {
			return err
		}
	}
	ctx := c.r.Context()
	defer s.repos.lock(repo.repoKey)()
	if len(rest) == 0 {
		if strings.TrimSpace(body.Title) == "" {
			return fail(http.StatusBadRequest, "A discussion needs a title")
		}
		n := newDiscussion{author: c.account.Name, title: body.Title, description: body.Description, status: statusOpen}
		if body.PullRequest {
			head, err := repo.git.RefValue(ctx, "refs/heads/main")
			if err != nil {
				return err
			}
			n.target, n.head, n.status = "refs/heads/main", head, statusDraft
		}
		d, err := s.openPullRequest(ctx, repo, n)
		if err != nil {
			return err
		}
		answer := repo.summary(d)
		answer["url"] = c.base + repo.webPath() + "/discussions/" + strconv.Itoa(d.Num)
		c.json(http.StatusOK, answer)
		return nil
	}
	d, err := repo.numbered(rest)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return errNoRoute
	}
	author, now := c.account.Name, s.now()
	if action := rest[1]; action != "comment" {
		// Its author may close or rename a discussion; merging and pinning is for who may write.
		if err := requireWrite(c, repo.namespace); err != nil && (action == "merge" || action == "pin" || author != d.Author) {
			return err
		}
	}
	switch rest[1] {
	case "comment":
		if body.Comment == "" {
			return fail(http.StatusBadRequest, "The comment is empty")
		}
		happened := d.add("comment", author, now, commentData(body.Comment, author, now))
		c.answerEvent(repo, d, "newMessage", happened, &err)
	case "title":
		if strings.TrimSpace(body.Title) == "" {
			return fail(http.StatusBadRequest, "The title is empty")
		}
		happened := d.add("title-change", author, now, map[string]any{"from": d.Title, "to": body.Title})
		d.Title = body.Title
		c.answerEvent(repo, d, "newTitle", happened, &err)
	case "status":
		if err := checkTransition(d, body.Status); err != nil {
			return err
		}
		d.Status = body.Status
		if body.Comment != "" {
			d.add("comment", author, now, commentData(body.Comment, author, now))
		}
		happened := d.add("status-change", author, now, map[string]any{"status": body.Status})
		c.answerEvent(repo, d, "newStatus", happened, &err)
	case "pin":
		d.Pinned = !d.Pinned
		if err = repo.saveDiscussion(d); err == nil {
			c.json(http.StatusOK, map[string]bool{"pinned": d.Pinned})
		}
	case "merge":
		if !d.IsPullRequest {
			return fail(http.StatusBadRequest, "Discussion %d is not a pull request", d.Num)
		}
		if d.Status != statusOpen {
			return fail(http.StatusBadRequest, "Pull request %d is %s: only an open one can be merged", d.Num, d.Status)
		}
		if err = s.merge(ctx, repo, d, author, body.Comment); err == nil {
			c.json(http.StatusOK, map[string]any{"success": true, "mergeCommitId": d.MergeCommit})
		}
	default:
		return errNoRoute
	}
	return err
}

// answerEvent stores the discussion and answers with what happened, under the name clients read.
func (c *call) answerEvent(repo *repository, d *discussion, field string, happened event, err *error) {
	if *err = repo.saveDiscussion(d); *err == nil {
		c.json(http.StatusOK, map[string]any{field: happened})
	}
}

func checkTransition(d *discussion, status string) error {
	switch {
	case status != statusOpen && status != statusClosed:
		return fail(http.StatusBadRequest, "Unknown status %q: use open or closed", status)
	case d.Status == statusMerged:
		return fail(http.StatusBadRequest, "Pull request %d is merged already", d.Num)
	case d.Status == status:
		return fail(http.StatusBadRequest, "Discussion %d is %s already", d.Num, status)
	}
	return nil
}
