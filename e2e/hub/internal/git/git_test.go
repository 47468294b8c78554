package git

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	author = Person{Name: "owner", Email: "owner@example.com"}
	now    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// put commits files (path → content, "" removes) on top of parents without moving a ref.
func put(t *testing.T, repo Repo, files map[string]string, parents ...string) string {
	t.Helper()
	ctx := t.Context()
	base := EmptyTreeID
	if len(parents) > 0 {
		base = parents[0]
	}
	var changes []Change
	for path, content := range files {
		change := Change{Path: path}
		if content != "" {
			id, err := repo.WriteBlob(ctx, strings.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			change.ID = id
		}
		changes = append(changes, change)
	}
	tree, err := repo.WriteTree(ctx, base, changes)
	if err != nil {
		t.Fatal(err)
	}
	commit, err := repo.Commit(ctx, tree, parents, "a title\n\nand a message\n", author, now)
	if err != nil {
		t.Fatal(err)
	}
	return commit
}

func newRepo(t *testing.T) Repo {
	t.Helper()
	repo, err := Init(t.Context(), t.TempDir()+"/m.git")
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func paths(entries []Entry) []string {
	var list []string
	for _, entry := range entries {
		list = append(list, entry.Path)
	}
	return list
}

func TestRefsMoveOnlyFromTheExpectedValue(t *testing.T) {
	repo, ctx := newRepo(t), t.Context()
	first := put(t, repo, map[string]string{"a": "1"})
	second := put(t, repo, map[string]string{"a": "2"}, first)
	for _, step := range []struct {
		id, old string
		want    error
	}{
		{first, second, ErrRefMoved}, {first, ZeroID, nil}, {second, ZeroID, ErrRefMoved}, {second, first, nil}, {second, first, ErrRefMoved},
	} {
		if err := repo.UpdateRef(ctx, "refs/heads/main", step.id, step.old); !errors.Is(err, step.want) {
			t.Errorf("from %.7s to %.7s: %v, want %v", step.old, step.id, err, step.want)
		}
	}
	if err := repo.UpdateRef(ctx, "refs/heads/a..b", first, ZeroID); !errors.Is(err, ErrBadName) {
		t.Errorf("a bad name: %v", err)
	}
}

func TestResolve(t *testing.T) {
	repo, ctx := newRepo(t), t.Context()
	first := put(t, repo, map[string]string{"a": "1"})
	second := put(t, repo, map[string]string{"a": "2"}, first)
	for ref, id := range map[string]string{"refs/heads/main": second, "refs/heads/feature/x": first, "refs/pr/1": first} {
		if err := repo.UpdateRef(ctx, ref, id, ZeroID); err != nil {
			t.Fatal(err)
		}
	}
	if err := repo.CreateTag(ctx, "v1", first, "annotated", author, now); err != nil {
		t.Fatal(err)
	}
	for revision, want := range map[string]string{
		"main": second, "HEAD": second, "feature/x": first, "refs/pr/1": first, "v1": first, first: first, first[:7]: first,
	} {
		if got, err := repo.Resolve(ctx, revision); got != want || err != nil {
			t.Errorf("%s: %s, %v", revision, got, err)
		}
	}
	for _, revision := range []string{"", "none", "main~1", "main^{tree}", "@", "--all", "refs/heads/", first[:6], "main:a", ZeroID} {
		if got, err := repo.Resolve(ctx, revision); !errors.Is(err, ErrRevisionNotFound) {
			t.Errorf("%q: %s, %v", revision, got, err)
		}
	}
}

func TestTreesOfOddNames(t *testing.T) {
	repo, ctx := newRepo(t), t.Context()
	files := map[string]string{"a b/c.txt": "1", ":(top)x": "2", "*": "3", "ü/[x].bin": "4", "-n": "5"}
	commit := put(t, repo, files)
	for path, content := range files {
		entry, err := repo.Entry(ctx, commit, path)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		var got strings.Builder
		if err := repo.Blob(ctx, entry.ID, &got); err != nil || got.String() != content {
			t.Errorf("%q holds %q, %v", path, got.String(), err)
		}
	}
	all, err := repo.Tree(ctx, commit, "", true)
	if want := []string{"*", "-n", ":(top)x", "a b", "a b/c.txt", "ü", "ü/[x].bin"}; err != nil || !reflect.DeepEqual(paths(all), want) {
		t.Errorf("tree %q, %v", paths(all), err)
	}
	below, err := repo.Tree(ctx, commit, "a b", true)
	if want := []string{"a b/c.txt"}; err != nil || !reflect.DeepEqual(paths(below), want) {
		t.Errorf("folder %q, %v", paths(below), err)
	}
	for _, path := range []string{"none", "-n", "a b/", "../x", "a b/../*"} {
		if entries, err := repo.Tree(ctx, commit, path, false); !errors.Is(err, ErrEntryNotFound) {
			t.Errorf("folder %q: %q, %v", path, paths(entries), err)
		}
	}
}

func TestChangesReplaceAndRemove(t *testing.T) {
	repo, ctx := newRepo(t), t.Context()
	base := put(t, repo, map[string]string{"a": "1", "dir/b": "2", "dir/c/d": "3"})
	tree, err := repo.WriteTree(ctx, base, []Change{{Path: "dir/", Folder: true}, {Path: "a"}})
	if err != nil || tree != EmptyTreeID {
		t.Errorf("after removing everything: %s, %v", tree, err)
	}
	for _, change := range []Change{{Path: "none"}, {Path: "dir"}, {Path: "a", Folder: true}, {Path: "none/", Folder: true}} {
		if _, err := repo.WriteTree(ctx, base, []Change{change}); !errors.Is(err, ErrEntryNotFound) {
			t.Errorf("removing %+v: %v", change, err)
		}
	}
	blob, err := repo.WriteBlob(ctx, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	tree, err = repo.WriteTree(ctx, base, []Change{{Path: "dir", ID: blob}})
	if err != nil {
		t.Fatal(err)
	}
	if entries, _ := repo.Tree(ctx, tree, "", true); !reflect.DeepEqual(paths(entries), []string{"a", "dir"}) {
		t.Errorf("a file in place of a folder: %q", paths(entries))
	}
}

func TestMerge(t *testing.T) {
	repo, ctx := newRepo(t), t.Context()
	base := put(t, repo, map[string]string{"a": "1\n", "b": "1\n"})
	ours := put(t, repo, map[string]string{"a": "2\n"}, base)
	theirs := put(t, repo, map[string]string{"b": "2\n"}, base)
	conflicting := put(t, repo, map[string]string{"a": "3\n"}, base)
	tree, conflicts, err := repo.MergeTree(ctx, ours, theirs)
	if err != nil || len(conflicts) > 0 {
		t.Fatalf("%q, %v", conflicts, err)
	}
	want, err := repo.WriteTree(ctx, put(t, repo, map[string]string{"a": "2\n", "b": "2\n"}), nil)
	if err != nil || tree != want {
		t.Errorf("merged tree %s, want %s (%v)", tree, want, err)
	}
	if _, conflicts, err := repo.MergeTree(ctx, ours, conflicting); err != nil || !reflect.DeepEqual(conflicts, []string{"a"}) {
		t.Errorf("conflicts %q, %v", conflicts, err)
	}
}

func TestLogPagesAndFollowsAPath(t *testing.T) {
	repo, ctx := newRepo(t), t.Context()
	first := put(t, repo, map[string]string{"a": "1", "b": "1"})
	second := put(t, repo, map[string]string{"b": "2"}, first)
	all, err := repo.Log(ctx, second, 0, 10, "")
	if err != nil || len(all) != 2 || all[0].ID != second || all[0].Title != "a title" || all[0].Message != "and a message" || !all[0].Date.Equal(now) {
		t.Errorf("%+v, %v", all, err)
	}
	if page, err := repo.Log(ctx, second, 1, 1, ""); err != nil || len(page) != 1 || page[0].ID != first {
		t.Errorf("second page %+v, %v", page, err)
	}
	if of, err := repo.Log(ctx, second, 0, 1, "a"); err != nil || len(of) != 1 || of[0].ID != first {
		t.Errorf("last change of a: %+v, %v", of, err)
	}
}

func TestIgnored(t *testing.T) {
	repo := newRepo(t)
	got, err := repo.Ignored(t.Context(), "*.log\n!keep.log\nbuild/\n", []string{"a.log", "d/b.log", "keep.log", "build/x", "a.txt"})
	if want := map[string]bool{"a.log": true, "d/b.log": true, "build/x": true}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestCancelledCommandsEnd(t *testing.T) {
	repo := newRepo(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := repo.Refs(ctx); err == nil {
		t.Error("a command of a cancelled request ran")
	}
}
