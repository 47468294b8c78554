package server

import (
	"encoding/json"
	"strings"
	"testing"
)

// The pattern written for one path must cover that path in git's eyes, and no other.
func TestExactPatterns(t *testing.T) {
	hub := startHub(t, 0)
	for i, path := range []string{
		"plain.xyz", "dir/deep/file.xyz", "with blank.xyz", "with [brackets].xyz", "star*.xyz", "what?.xyz", "#hash.xyz", "!bang.xyz", `back\slash.xyz`, "ümlaut.xyz",
	} {
		hub.uploadLFS(path, strings.Repeat("\x00", i+1))
	}
	repo, err := hub.hub.repos.open(repoKey{"models", "acme", "m"})
	if err != nil {
		t.Fatal(err)
	}
	files, err := repo.files(t.Context(), "refs/heads/main", "", true)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{}
	for _, f := range files {
		if f.pointer != nil {
			paths = append(paths, f.Path)
		}
	}
	if len(paths) != 10 {
		t.Fatalf("LFS files %q", paths)
	}
	others := []string{"other.xyz", "dir/plain.xyz", "dir/plain2.xyz", "starred.xyz", "whats.xyz", "with  blank.xyz", "with b.xyz"}
	filters, err := repo.git.FilterAttributes(t.Context(), "refs/heads/main", append(paths, others...))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if filters[path] != "lfs" {
			t.Errorf("%q is not covered", path)
		}
	}
	for _, path := range others {
		if filters[path] == "lfs" {
			t.Errorf("%q is covered", path)
		}
	}
	_, _, info := hub.ask("GET", "/api/models/acme/m?blobs=true", "", "")
	var decoded struct {
		Siblings []struct {
			LFS *struct{ Size int64 }
		}
		UsedStorage int64
	}
	if err := json.Unmarshal([]byte(info), &decoded); err != nil {
		t.Fatal(err)
	}
	var pointers int
	for _, sibling := range decoded.Siblings {
		if sibling.LFS != nil {
			pointers++
		}
	}
	if pointers != 10 || decoded.UsedStorage < 55 {
		t.Errorf("%d of 10 siblings are LFS, %d bytes used", pointers, decoded.UsedStorage)
	}
}
