package git

import (
	"context"
	"regexp"
	"strings"
	"time"
)

// shortCommitID is a commit id, whole or shortened as git does.
var shortCommitID = regexp.MustCompile(`^[0-9a-f]{7,40}$`)

// Ref is a branch, tag or other ref and the commit it points at (annotated tags peeled).
type Ref struct {
	Name   string // full name, such as refs/heads/main
	Commit string
}

// Resolve finds the commit that a revision names: a branch, a tag, refs/…, or a commit id.
// It returns ErrRevisionNotFound for everything else; git's own revision syntax is not accepted.
func (r Repo) Resolve(ctx context.Context, revision string) (string, error) {
	var candidates []string
	switch {
	case revision == "HEAD":
		candidates = []string{"HEAD"}
	case strings.HasPrefix(revision, "refs/"):
		candidates = []string{revision}
	default:
		candidates = []string{"refs/heads/" + revision, "refs/tags/" + revision}
	}
	for _, name := range candidates {
		if name != "HEAD" && r.checkRefName(ctx, name) != nil {
			continue
		}
		if id, err := r.peel(ctx, name); err == nil {
			return id, nil
		} else if ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
	if shortCommitID.MatchString(revision) {
		if id, err := r.peel(ctx, revision); err == nil {
			return id, nil
		}
	}
	return "", ErrRevisionNotFound
}

func (r Repo) peel(ctx context.Context, name string) (string, error) {
	return r.line(ctx, nil, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
}

func (r Repo) checkRefName(ctx context.Context, full string) error {
	if !plainRef.MatchString(full) {
		if _, err := r.run(ctx, nil, nil, "check-ref-format", full); err != nil {
			return ErrBadName
		}
	}
	return nil
}

// plainRef matches names that need no check by git: most of them, one process less each.
var plainRef = regexp.MustCompile(`^refs/[A-Za-z0-9]+(/[A-Za-z0-9][A-Za-z0-9_-]*)+$`)

// RefValue is the commit a full ref name points at, or ErrRevisionNotFound.
func (r Repo) RefValue(ctx context.Context, full string) (string, error) {
	id, err := r.peel(ctx, full)
	if err != nil {
		return "", ErrRevisionNotFound
	}
	return id, nil
}

// Refs lists the refs under the given prefixes (all when none is given), sorted by name.
func (r Repo) Refs(ctx context.Context, prefixes ...string) ([]Ref, error) {
	args := append([]string{"for-each-ref", "--format=%(refname) %(objectname) %(*objectname)"}, prefixes...)
	out, err := r.run(ctx, nil, nil, args...)
	if err != nil {
		return nil, err
	}
	var refs []Ref
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		refs = append(refs, Ref{Name: fields[0], Commit: fields[len(fields)-1]})
	}
	return refs, nil
}

// UpdateRef moves a ref from old to id. An old of ZeroID creates it.
// It returns ErrRefMoved when the ref has another value by now.
func (r Repo) UpdateRef(ctx context.Context, full, id, old string) error {
	if err := r.checkRefName(ctx, full); err != nil {
		return err
	}
	if _, err := r.run(ctx, nil, nil, "update-ref", full, id, old); err != nil {
		current, lookup := r.RefValue(ctx, full)
		if lookup != nil {
			current = ZeroID
		}
		if current != old {
			return ErrRefMoved
		}
		return err
	}
	return nil
}

// DeleteRef removes a ref, or returns ErrRevisionNotFound.
func (r Repo) DeleteRef(ctx context.Context, full string) error {
	if err := r.checkRefName(ctx, full); err != nil {
		return ErrRevisionNotFound
	}
	if _, err := r.RefValue(ctx, full); err != nil {
		return err
	}
	_, err := r.run(ctx, nil, nil, "update-ref", "-d", full)
	return err
}

// CreateTag makes refs/tags/name at a commit, annotated when there is a message.
// It returns ErrRefMoved when the tag exists.
func (r Repo) CreateTag(ctx context.Context, name, commit, message string, tagger Person, now time.Time) error {
	full := "refs/tags/" + name
	if err := r.checkRefName(ctx, full); err != nil {
		return err
	}
	target := commit
	if message != "" {
		body := "object " + commit + "\ntype commit\ntag " + name + "\ntagger " + tagger.Name + " <" + tagger.Email + "> " +
			unixDate(now) + "\n\n" + message + "\n"
		id, err := r.line(ctx, nil, strings.NewReader(body), "mktag")
		if err != nil {
			return err
		}
		target = id
	}
	if _, err := r.run(ctx, nil, nil, "update-ref", full, target, ZeroID); err != nil {
		if _, lookup := r.RefValue(ctx, full); lookup == nil {
			return ErrRefMoved
		}
		return err
	}
	return nil
}

// MergeBase is the best common ancestor of two commits; ok is false when there is none.
func (r Repo) MergeBase(ctx context.Context, a, b string) (base string, ok bool) {
	base, err := r.line(ctx, nil, nil, "merge-base", a, b)
	return base, err == nil && base != ""
}
