package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"slipway.dev/e2e/cluster/internal/layout"
)

// pauseCode is, for each architecture, a program that sleeps for ever: every pod has one, so it should weigh nothing.
var pauseCode = map[string]struct {
	machine uint16 // ELF's number of the architecture
	code    []byte
}{
	// again: mov eax, 34 (pause); syscall; jmp again
	"amd64": {62, []byte{0xb8, 0x22, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7}},
	// again: mov x0..x3, 0; mov x8, 73 (ppoll); svc 0; b again
	"arm64": {183, words(0xd2800000, 0xd2800001, 0xd2800002, 0xd2800003, 0xd2800928, 0xd4000001, 0x17fffffa)},
}

func words(values ...uint32) []byte {
	var out []byte
	for _, value := range values {
		out = binary.LittleEndian.AppendUint32(out, value)
	}
	return out
}

// pauseProgram is the sleeping program as a static ELF executable for the architecture (in Go's name of it).
func pauseProgram(architecture string) ([]byte, error) {
	program, known := pauseCode[architecture]
	if !known {
		return nil, fmt.Errorf("there is no sandbox program for %s; use amd64 or arm64", architecture)
	}
	const headers, base = 64 + 56, 0x400000
	size := uint64(headers + len(program.code))
	var out bytes.Buffer
	for _, field := range []any{
		[16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, uint16(2), program.machine, uint32(1), // 64 bits, little endian, executable
		uint64(base + headers), uint64(64), uint64(0), uint32(0), // entry point, program headers, no section headers
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000), // one segment: load, read and execute
	} {
		if err := binary.Write(&out, binary.LittleEndian, field); err != nil {
			return nil, fmt.Errorf("writing the sandbox program: %w", err)
		}
	}
	out.Write(program.code)
	return out.Bytes(), nil
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// WritePause writes the image of pods' sandboxes to path, as an OCI archive.
func WritePause(path string) error {
	program, err := pauseProgram(runtime.GOARCH)
	if err != nil {
		return err
	}
	layer, err := tarball([]file{{"pause", 0o755, program}})
	if err != nil {
		return err
	}
	files := []file{{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	add := func(mediaType string, content any) descriptor {
		raw, isRaw := content.([]byte)
		if !isRaw {
			raw, _ = json.Marshal(content) // maps, slices and strings only: this cannot fail
		}
		sum := digest(raw)
		files = append(files, file{"blobs/sha256/" + sum, 0o644, raw})
		return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: len(raw)}
	}
	const oci = "application/vnd.oci.image."
	layerAt := add(oci+"layer.v1.tar", layer)
	configAt := add(oci+"config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/pause"}, "User": "65535:65535"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layerAt.Digest}},
	})
	manifestAt := add(oci+"manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": configAt, "layers": []descriptor{layerAt},
	})
	manifestAt.Annotations = map[string]string{refName: layout.PauseImage}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifestAt}})
	if err != nil {
		return fmt.Errorf("encoding the sandbox image's index: %w", err)
	}
	image, err := tarball(append(files, file{indexFile, 0o644, index}))
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, image, 0o644); err != nil {
		return fmt.Errorf("writing the sandbox image: %w", err)
	}
	return nil
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

type file struct {
	name    string
	mode    int64
	content []byte
}

func tarball(files []file) ([]byte, error) {
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, f := range files {
		if err := writer.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg}); err != nil {
			return nil, fmt.Errorf("writing %s: %w", f.name, err)
		}
		if _, err := writer.Write(f.content); err != nil {
			return nil, fmt.Errorf("writing %s: %w", f.name, err)
		}
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("closing the archive: %w", err)
	}
	return out.Bytes(), nil
}
