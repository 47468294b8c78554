package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Change is one step of a commit: a blob put at a path, or (with an empty ID) a removal.
type Change struct {
	Path   string
	ID     string // object id of the blob; empty removes the path
	Folder bool   // the removal is of a folder and all below it
}

// WriteBlob stores content and returns its object id.
func (r Repo) WriteBlob(ctx context.Context, content io.Reader) (string, error) {
	return r.line(ctx, nil, content, "hash-object", "-w", "--stdin")
}

// WriteTree applies changes on top of a base tree or commit and returns the new tree's id.
// It returns ErrEntryNotFound, wrapped with the path, when a removal finds nothing.
func (r Repo) WriteTree(ctx context.Context, base string, changes []Change) (string, error) {
	env, cleanup, err := r.temporaryIndex()
	if err != nil {
		return "", err
	}
	defer cleanup()
	if _, err := r.run(ctx, env, nil, "read-tree", base); err != nil {
		return "", err
	}
	var records bytes.Buffer
	for _, change := range changes {
		switch {
		case change.Folder:
			out, err := r.run(ctx, env, nil, "ls-files", "-z", "--cached", "--", strings.TrimSuffix(change.Path, "/")+"/")
			if err != nil {
				return "", err
			}
			if len(out) == 0 {
				return "", fmt.Errorf("%w: folder %q", ErrEntryNotFound, change.Path)
			}
			for path := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
				fmt.Fprintf(&records, "0 %s\t%s\x00", ZeroID, path)
			}
		case change.ID == "":
			out, err := r.run(ctx, env, nil, "ls-files", "-z", "--cached", "--", change.Path)
			if err != nil {
				return "", err
			}
			if string(out) != change.Path+"\x00" {
				return "", fmt.Errorf("%w: file %q", ErrEntryNotFound, change.Path)
			}
			fmt.Fprintf(&records, "0 %s\t%s\x00", ZeroID, change.Path)
		default:
			fmt.Fprintf(&records, "100644 %s\t%s\x00", change.ID, change.Path)
		}
	}
	if records.Len() > 0 {
		if _, err := r.run(ctx, env, &records, "update-index", "-z", "--replace", "--index-info"); err != nil {
			return "", err
		}
	}
	return r.line(ctx, env, nil, "write-tree")
}

// Commit writes a commit object; it moves no ref.
func (r Repo) Commit(ctx context.Context, tree string, parents []string, message string, author Person, now time.Time) (string, error) {
	args := []string{"commit-tree", tree}
	for _, parent := range parents {
		args = append(args, "-p", parent)
	}
	return r.line(ctx, identity(author, now), strings.NewReader(message), args...)
}

// MergeTree merges two commits without a work tree.
// The conflicting paths are returned, and then the tree is not usable.
func (r Repo) MergeTree(ctx context.Context, ours, theirs string) (tree string, conflicts []string, err error) {
	out, err := r.run(ctx, nil, nil, "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", ours, theirs)
	var failed *CommandError
	conflicted := errors.As(err, &failed) && failed.ExitCode() == 1
	if err != nil && !conflicted {
		return "", nil, err
	}
	fields := strings.Split(strings.TrimRight(string(out), "\x00\n"), "\x00")
	tree = strings.TrimSpace(fields[0])
	if conflicted {
		return tree, fields[1:], nil
	}
	return tree, nil, nil
}

// FilterAttributes tells for each path which gitattributes filter ("lfs", or "unspecified") a tree gives it.
func (r Repo) FilterAttributes(ctx context.Context, tree string, paths []string) (map[string]string, error) {
	filters := make(map[string]string, len(paths))
	if len(paths) == 0 {
		return filters, nil
	}
	env, cleanup, err := r.temporaryIndex()
	if err != nil {
		return nil, err
	}
	defer cleanup()
	if _, err := r.run(ctx, env, nil, "read-tree", tree); err != nil {
		return nil, err
	}
	stdin := strings.NewReader(strings.Join(paths, "\x00") + "\x00")
	out, err := r.run(ctx, env, stdin, "check-attr", "--cached", "--stdin", "-z", "filter")
	if err != nil {
		return nil, err
	}
	fields := strings.Split(string(out), "\x00")
	for i := 0; i+2 < len(fields); i += 3 {
		filters[fields[i]] = fields[i+2]
	}
	return filters, nil
}

// Ignored tells which of the paths the given .gitignore text excludes.
func (r Repo) Ignored(ctx context.Context, gitIgnore string, paths []string) (map[string]bool, error) {
	ignored := make(map[string]bool)
	if strings.TrimSpace(gitIgnore) == "" || len(paths) == 0 {
		return ignored, nil
	}
	work, err := os.MkdirTemp("", "slipway-hub-ignore-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, ".gitignore"), []byte(gitIgnore), 0o600); err != nil {
		return nil, err
	}
	// check-ignore refuses to run with literal pathspecs; it takes no patterns anyway.
	cmd := r.Command(ctx, []string{"GIT_WORK_TREE=" + work, "GIT_LITERAL_PATHSPECS=0"}, "check-ignore", "--no-index", "--stdin", "-z")
	cmd.Dir = work
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\x00") + "\x00")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	failed := &CommandError{Args: cmd.Args[1:], Stderr: strings.TrimSpace(stderr.String()), Err: err}
	// Exit status 1 says that nothing is ignored.
	if err != nil && failed.ExitCode() != 1 {
		return nil, failed
	}
	for path := range strings.SplitSeq(string(out), "\x00") {
		if path != "" {
			ignored[path] = true
		}
	}
	return ignored, nil
}
