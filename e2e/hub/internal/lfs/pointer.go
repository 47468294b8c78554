// Package lfs reads and writes Git LFS pointer files and keeps LFS objects by content.
package lfs

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Sizes in bytes between which a blob can be a pointer file. The specification allows
// extensions up to 1024 bytes; the Hub and git-lfs write none.
const (
	minPointerSize = 120
	maxPointerSize = 200
)

// Pointer is what a pointer file says of the object it stands for.
type Pointer struct {
	OID  string // sha256 of the content, 64 hexadecimal digits
	Size int64  // bytes of the content
}

var (
	oidPattern     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	pointerPattern = regexp.MustCompile(`^version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize ([0-9]+)\n?$`)
)

// ValidOID tells whether s is a sha256 in lower-case hexadecimal.
func ValidOID(s string) bool { return oidPattern.MatchString(s) }

// MaybePointer tells by its size alone whether a blob is worth parsing as a pointer.
func MaybePointer(size int64) bool { return size >= minPointerSize && size <= maxPointerSize }

// ParsePointer reads a pointer file; ok is false when the content is something else.
func ParsePointer(content []byte) (pointer Pointer, ok bool) {
	match := pointerPattern.FindSubmatch(content)
	if match == nil {
		return Pointer{}, false
	}
	size, err := strconv.ParseInt(string(match[2]), 10, 64)
	if err != nil {
		return Pointer{}, false
	}
	return Pointer{OID: string(match[1]), Size: size}, true
}

// String is the pointer file's content.
func (p Pointer) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", p.OID, p.Size)
	return text.String()
}
