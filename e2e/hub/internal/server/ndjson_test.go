package server

import (
	"fmt"
	"strings"
	"testing"
)

func readAll(body string) (header commitHeader, changes []any, err error) {
	err = readCommit(strings.NewReader(body),
		func(h commitHeader) error { header = h; return nil },
		func(change any) error { changes = append(changes, change); return nil })
	return header, changes, err
}

func TestReadCommit(t *testing.T) {
	header, changes, err := readAll(`{"key":"header","value":{"summary":"s","description":"d","parentCommit":"abc"}}
{"key":"file","value":{"content":"aGk=","path":"a.txt","encoding":"base64"}}

{"key":"lfsFile","value":{"path":"b.bin","algo":"sha256","oid":"0","size":5}}
{"key":"lfsFile","value":{"path":"copy.bin","algo":"sha256","oid":"0"}}
{"key":"deletedFile","value":{"path":"c.txt"}}
{"key":"deletedFolder","value":{"path":"d/"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if header != (commitHeader{"s", "d", "abc"}) || len(changes) != 5 {
		t.Fatalf("header %+v, %d changes", header, len(changes))
	}
	if content, err := changes[0].(*commitFile).content(); err != nil || string(content) != "hi" {
		t.Errorf("content %q, %v", content, err)
	}
	if size := changes[1].(*commitLFSFile).Size; size == nil || *size != 5 {
		t.Errorf("size %v", size)
	}
	if changes[2].(*commitLFSFile).Size != nil {
		t.Error("a copy has a size")
	}
	if changes[3].(*commitDeletion).Folder || !changes[4].(*commitDeletion).Folder {
		t.Error("files and folders are mixed up")
	}
}

func TestReadCommitNamesTheLine(t *testing.T) {
	const header = `{"key":"header","value":{"summary":"s"}}` + "\n"
	for name, test := range map[string]struct{ body, want string }{
		"empty":         {"", "must be a header"},
		"no header":     {`{"key":"deletedFile","value":{"path":"a"}}`, "Line 1"},
		"two headers":   {header + header, "Line 2"},
		"no summary":    {`{"key":"header","value":{}}`, "summary"},
		"unknown key":   {header + `{"key":"symlink","value":{}}`, `unknown key "symlink"`},
		"not JSON":      {header + "\n{", "Line 3"},
		"wrong type":    {header + `{"key":"file","value":{"path":7}}`, "Line 2"},
		"too long":      {header + `{"key":"file","value":{"content":"` + strings.Repeat("A", maxCommitLine) + `"}}`, "LFS"},
		"cut in a line": {header + `{"key":"file","val`, "Line 2"},
	} {
		if _, _, err := readAll(test.body); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
}

func TestFileContentThatIsNotBase64(t *testing.T) {
	for _, file := range []commitFile{{Content: "%", Encoding: "base64"}, {Content: "x", Encoding: "latin-1"}} {
		if _, err := file.content(); err == nil {
			t.Errorf("%+v was accepted", file)
		}
	}
}

func TestValidatePath(t *testing.T) {
	for _, path := range []string{"a", "a/b.txt", "dir/", ".gitattributes", "weird [x] ü.bin"} {
		if err := validatePath(path); err != nil {
			t.Errorf("%q is refused: %v", path, err)
		}
	}
	for _, path := range []string{"", "/a", "a//b", "../a", "a/../b", "./a", ".git/config", "a/.GIT/x", "a\x00b", "a\nb"} {
		if validatePath(path) == nil {
			t.Errorf("%q is accepted", path)
		}
	}
}

func TestRepositoryNames(t *testing.T) {
	for name, valid := range map[string]bool{
		"model": true, "Model-1.0_x": true, "a": true, "": false, ".": false, "..": false, "a--b": false, "a..b": false,
		"-a": false, "a-": false, ".a": false, "a.git": false, "a/b": false, strings.Repeat("a", 97): false, "a b": false,
	} {
		if got := (repoKey{"models", "acme", name}).validate() == nil; got != valid {
			t.Errorf("%q: valid is %v", name, got)
		}
	}
}

func TestTakeRevision(t *testing.T) {
	for path, want := range map[string]string{
		"": "main []", "main": "main []", "main/a/b": "main [a b]", "refs/pr/1/a": "refs/pr/1 [a]",
		"refs/convert/parquet": "refs/convert/parquet []", "refs/other/a": "refs [other a]",
	} {
		var segments []string
		if path != "" {
			segments = strings.Split(path, "/")
		}
		revision, rest := takeRevision(segments)
		if got := fmt.Sprint(revision, " ", rest); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}
