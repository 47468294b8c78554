package lfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ErrMismatch means that the bytes received are not those the object id names.
var ErrMismatch = errors.New("content does not match its object id")

// Store keeps the LFS objects of one repository in files named by their sha256.
type Store struct {
	Dir string
}

func (s Store) path(oid string) string {
	return filepath.Join(s.Dir, "objects", oid[:2], oid[2:4], oid)
}

// Size is the length in bytes of a stored object; ok is false when it is not stored.
func (s Store) Size(oid string) (size int64, ok bool) {
	if !ValidOID(oid) {
		return 0, false
	}
	info, err := os.Stat(s.path(oid))
	if err != nil {
		return 0, false
	}
	return info.Size(), true
}

// Open opens a stored object for reading; the error is os.ErrNotExist when it is not stored.
func (s Store) Open(oid string) (*os.File, error) {
	if !ValidOID(oid) {
		return nil, os.ErrNotExist
	}
	return os.Open(s.path(oid))
}

// Put streams content into the store. Nothing is kept unless the content's sha256 is oid
// and, when size is not negative, its length is size; otherwise it returns ErrMismatch.
func (s Store) Put(oid string, size int64, content io.Reader) error {
	if !ValidOID(oid) {
		return fmt.Errorf("%w: %q is not a sha256", ErrMismatch, oid)
	}
	incoming := filepath.Join(s.Dir, "incoming")
	if err := os.MkdirAll(incoming, 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(incoming, oid[:8]+"-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	hash := sha256.New()
	written, err := io.Copy(io.MultiWriter(file, hash), content)
	if err != nil {
		return err
	}
	if size >= 0 && written != size {
		return fmt.Errorf("%w: received %d bytes, expected %d", ErrMismatch, written, size)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != oid {
		return fmt.Errorf("%w: received sha256 %s, expected %s", ErrMismatch, sum, oid)
	}
	if err := file.Close(); err != nil {
		return err
	}
	return s.adopt(oid, file.Name())
}

func (s Store) adopt(oid, path string) error {
	target := s.path(oid)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.Rename(path, target)
}
