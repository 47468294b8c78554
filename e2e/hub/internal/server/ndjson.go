package server

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// maxCommitLine is the longest line of a commit, in bytes: a regular file in base64 and its path.
const maxCommitLine = maxRegularFile/3*4 + 64<<10

// commitHeader is the first line of a commit.
type commitHeader struct {
	Summary      string `json:"summary"`
	Description  string `json:"description"`
	ParentCommit string `json:"parentCommit"`
}

// The lines that may follow it. Each is one change.
type (
	commitFile struct {
		Path     string `json:"path"`
		Content  string `json:"content"`
		Encoding string `json:"encoding"`
	}
	commitLFSFile struct {
		Path string `json:"path"`
		Algo string `json:"algo"`
		OID  string `json:"oid"`
		Size *int64 `json:"size"` // absent for copies of a file of this repository
	}
	commitDeletion struct {
		Path   string `json:"path"`
		Folder bool   `json:"-"`
	}
)

// readCommit reads a commit line by line: the header, then one callback for each change
// (*commitFile, *commitLFSFile or *commitDeletion). No more than one line is held in memory.
func readCommit(body io.Reader, onHeader func(commitHeader) error, onChange func(any) error) error {
	reader := bufio.NewReaderSize(body, 64<<10)
	sawHeader := false
	for number := 1; ; number++ {
		line, err := readLine(reader)
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, errLineTooLong) {
			return fail(http.StatusRequestEntityTooLarge,
				"Line %d of the commit holds a file larger than %d bytes: upload it with LFS and send an lfsFile line", number, maxRegularFile)
		}
		if err != nil {
			return fail(http.StatusBadRequest, "The commit ended in line %d: %s", number, err)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var item struct {
			Key   string          `json:"key"`
			Value json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(line, &item); err != nil {
			return fail(http.StatusBadRequest, "Line %d of the commit is not JSON: %s", number, err)
		}
		if sawHeader == (item.Key == "header") {
			return fail(http.StatusBadRequest, "Line %d of the commit has the key %q: the header must come first and once", number, item.Key)
		}
		var value any
		switch item.Key {
		case "header":
			value = &commitHeader{}
		case "file":
			value = &commitFile{}
		case "lfsFile":
			value = &commitLFSFile{}
		case "deletedFile", "deletedFolder":
			value = &commitDeletion{Folder: item.Key == "deletedFolder"}
		default:
			return fail(http.StatusBadRequest, "Line %d of the commit has the unknown key %q: use file, lfsFile, deletedFile or deletedFolder", number, item.Key)
		}
		if err := json.Unmarshal(item.Value, value); err != nil {
			return fail(http.StatusBadRequest, "Line %d of the commit has a %s that can't be read: %s", number, item.Key, err)
		}
		if header, ok := value.(*commitHeader); ok {
			sawHeader = true
			if header.Summary == "" {
				return fail(http.StatusBadRequest, "The commit's header has no summary")
			}
			err = onHeader(*header)
		} else {
			err = onChange(value)
		}
		if err != nil {
			return err
		}
	}
	if !sawHeader {
		return fail(http.StatusBadRequest, "The commit is empty: its first line must be a header")
	}
	return nil
}

var errLineTooLong = errors.New("line too long")

// readLine reads up to a newline or the end; io.EOF comes alone, after the last line.
func readLine(reader *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		if len(line)+len(part) > maxCommitLine {
			return nil, errLineTooLong
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		default:
			return line, err
		}
	}
}

// content decodes the file's bytes: base64 unless it says utf-8.
func (f *commitFile) content() ([]byte, error) {
	switch f.Encoding {
	case "base64", "":
		content, err := base64.StdEncoding.DecodeString(f.Content)
		if err != nil {
			return nil, fail(http.StatusBadRequest, "The content of %q is not base64: %s", f.Path, err)
		}
		return content, nil
	case "utf-8":
		return []byte(f.Content), nil
	}
	return nil, fail(http.StatusBadRequest, "The content of %q has the unknown encoding %q: use base64 or utf-8", f.Path, f.Encoding)
}
