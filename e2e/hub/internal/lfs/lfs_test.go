package lfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func oidOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func TestPointerSurvivesWritingAndReading(t *testing.T) {
	for _, size := range []int64{0, 1, 1 << 40} {
		want := Pointer{OID: oidOf("x"), Size: size}
		text := want.String()
		if !MaybePointer(int64(len(text))) {
			t.Errorf("a pointer of %d bytes is taken for content", len(text))
		}
		if got, ok := ParsePointer([]byte(text)); !ok || got != want {
			t.Errorf("ParsePointer(%q) = %v, %v", text, got, ok)
		}
	}
}

func TestOtherContentIsNoPointer(t *testing.T) {
	valid := Pointer{OID: oidOf("x"), Size: 7}.String()
	for name, content := range map[string]string{
		"empty":           "",
		"text":            strings.Repeat("a line of text\n", 9),
		"upper-case oid":  strings.Replace(valid, oidOf("x"), strings.ToUpper(oidOf("x")), 1),
		"more behind":     valid + "more\n",
		"something first": "x" + valid,
		"size too large":  strings.Replace(valid, "size 7", "size 99999999999999999999", 1),
	} {
		if _, ok := ParsePointer([]byte(content)); ok {
			t.Errorf("%s: taken for a pointer", name)
		}
	}
}

func TestStoreKeepsOnlyWhatTheIDNames(t *testing.T) {
	store := Store{Dir: t.TempDir()}
	const content = "the weights"
	oid, size := oidOf(content), int64(len(content))
	for name, attempt := range map[string]struct {
		oid  string
		size int64
		body io.Reader
	}{
		"other content": {oid, size, strings.NewReader("the weighty")},
		"shorter":       {oid, size, strings.NewReader("the")},
		"longer":        {oid, size, strings.NewReader(content + "!")},
		"no sha256":     {"../../escape", size, strings.NewReader(content)},
	} {
		if err := store.Put(attempt.oid, attempt.size, attempt.body); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: Put = %v, want ErrMismatch", name, err)
		}
	}
	broken := io.MultiReader(strings.NewReader("the"), &failingReader{})
	if err := store.Put(oid, size, broken); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Put of a broken stream = %v", err)
	}
	if _, ok := store.Size(oid); ok {
		t.Fatal("an object is stored after failed uploads only")
	}
	if left, _ := filepath.Glob(filepath.Join(store.Dir, "incoming", "*")); len(left) > 0 {
		t.Errorf("failed uploads left %v", left)
	}
	if err := store.Put(oid, size, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	file, err := store.Open(oid)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got, _ := io.ReadAll(file); string(got) != content {
		t.Errorf("stored %q", got)
	}
	if _, err := store.Open("../" + oid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of a path = %v", err)
	}
}

type failingReader struct{}

func (*failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
