package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"
)

// Entry is a file or folder of a commit.
type Entry struct {
	Path string // full path from the root, without a trailing slash
	ID   string // object id
	Dir  bool
	Size int64 // bytes of the blob in git (of the pointer file for LFS); 0 for folders
}

// CommitInfo is one commit of a history.
type CommitInfo struct {
	ID      string
	Author  string
	Date    time.Time
	Title   string
	Message string // what follows the title
}

// Tree lists the entries of a commit in a folder ("" is the root).
// It returns ErrEntryNotFound when the commit has no such folder.
func (r Repo) Tree(ctx context.Context, commit, folder string, recursive bool) ([]Entry, error) {
	args := []string{"ls-tree", "-l", "-z", "--full-tree"}
	if recursive {
		args = append(args, "-r", "-t")
	}
	args = append(args, commit)
	if folder != "" {
		entry, err := r.Entry(ctx, commit, folder)
		if err != nil {
			return nil, err
		}
		if !entry.Dir {
			return nil, ErrEntryNotFound
		}
		args = append(args, "--", folder+"/")
	}
	out, err := r.run(ctx, nil, nil, args...)
	if err != nil {
		return nil, err
	}
	entries, err := parseTree(out)
	if err != nil || folder == "" || !recursive {
		return entries, err
	}
	// ls-tree -t also lists the folders on the way down to the folder.
	kept := entries[:0]
	for _, entry := range entries {
		if strings.HasPrefix(entry.Path, folder+"/") {
			kept = append(kept, entry)
		}
	}
	return kept, nil
}

// Entry finds one file or folder of a commit.
func (r Repo) Entry(ctx context.Context, commit, path string) (Entry, error) {
	entries, err := r.Entries(ctx, commit, []string{path})
	if err != nil {
		return Entry{}, err
	}
	if len(entries) == 0 {
		return Entry{}, ErrEntryNotFound
	}
	return entries[0], nil
}

// Entries finds those of the paths that exist in a commit.
func (r Repo) Entries(ctx context.Context, commit string, paths []string) ([]Entry, error) {
	wanted := make(map[string]bool, len(paths))
	args := []string{"ls-tree", "-l", "-z", "--full-tree", commit, "--"}
	for _, name := range paths {
		// No entry has such a name, and git fails on some of them.
		if name == "" || name != path.Clean(name) || strings.HasPrefix(name, "/") || strings.HasPrefix(name, "..") || strings.ContainsRune(name, 0) {
			continue
		}
		wanted[name] = true
		args = append(args, name)
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	out, err := r.run(ctx, nil, nil, args...)
	if err != nil {
		return nil, err
	}
	all, err := parseTree(out)
	if err != nil {
		return nil, err
	}
	entries := all[:0]
	for _, entry := range all {
		if wanted[entry.Path] {
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// parseTree reads "mode type id size\tpath\0" records.
func parseTree(out []byte) ([]Entry, error) {
	var entries []Entry
	for record := range bytes.SplitSeq(out, []byte{0}) {
		if len(record) == 0 {
			continue
		}
		meta, path, ok := strings.Cut(string(record), "\t")
		fields := strings.Fields(meta)
		if !ok || len(fields) != 4 {
			return nil, fmt.Errorf("unexpected line from git ls-tree: %q", record)
		}
		entry := Entry{Path: path, ID: fields[2], Dir: fields[1] == "tree"}
		if !entry.Dir && fields[3] != "-" {
			size, err := strconv.ParseInt(fields[3], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("unexpected size from git ls-tree: %q", record)
			}
			entry.Size = size
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Blob writes the content of a blob to w without holding it in memory.
func (r Repo) Blob(ctx context.Context, id string, w io.Writer) error {
	cmd := r.Command(ctx, nil, "cat-file", "blob", id)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Run(); err != nil {
		return &CommandError{Args: cmd.Args[1:], Stderr: strings.TrimSpace(stderr.String()), Err: err}
	}
	return nil
}

// Blobs reads several small blobs with one process; the result is keyed by object id.
func (r Repo) Blobs(ctx context.Context, ids []string) (map[string][]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	out, err := r.run(ctx, nil, strings.NewReader(strings.Join(ids, "\n")+"\n"), "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	blobs := make(map[string][]byte, len(ids))
	reader := bufio.NewReader(bytes.NewReader(out))
	for {
		header, err := reader.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return blobs, nil
		}
		fields := strings.Fields(header)
		if err != nil || len(fields) != 3 {
			return nil, fmt.Errorf("unexpected line from git cat-file: %q", header)
		}
		size, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, fmt.Errorf("unexpected size from git cat-file: %q", header)
		}
		content := make([]byte, size+1) // a newline follows each object
		if _, err := io.ReadFull(reader, content); err != nil {
			return nil, err
		}
		blobs[fields[0]] = content[:size]
	}
}

const logFormat = "--format=%H%x1f%an%x1f%aI%x1f%s%x1f%b%x1e"

// Log lists up to limit commits reachable from commit, newest first, after skipping some.
// A path restricts it to commits that changed that path.
func (r Repo) Log(ctx context.Context, commit string, skip, limit int, path string) ([]CommitInfo, error) {
	args := []string{"log", logFormat, "--skip=" + strconv.Itoa(skip), "--max-count=" + strconv.Itoa(limit), commit, "--"}
	if path != "" {
		args = append(args, path)
	}
	out, err := r.run(ctx, nil, nil, args...)
	if err != nil {
		return nil, err
	}
	var commits []CommitInfo
	for record := range strings.SplitSeq(string(out), "\x1e") {
		fields := strings.Split(strings.TrimPrefix(record, "\n"), "\x1f")
		if len(fields) != 5 {
			continue
		}
		date, err := time.Parse(time.RFC3339, fields[2])
		if err != nil {
			return nil, err
		}
		commits = append(commits, CommitInfo{
			ID: fields[0], Author: fields[1], Date: date.UTC(), Title: fields[3], Message: strings.TrimSpace(fields[4]),
		})
	}
	return commits, nil
}

// Diff is the textual difference between two commits.
func (r Repo) Diff(ctx context.Context, from, to string) (string, error) {
	out, err := r.run(ctx, nil, nil, "diff", "--no-color", "--no-ext-diff", from, to, "--")
	return string(out), err
}

func unixDate(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) + " +0000" }
