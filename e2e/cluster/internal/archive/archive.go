// Package archive reads and writes image archives, without unpacking them.
package archive

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

const (
	indexFile    = "index.json"    // OCI archives
	manifestFile = "manifest.json" // archives of `docker save`
	refName      = "org.opencontainers.image.ref.name"
	imageName    = "io.containerd.image.name" // newer Docker's, which is a full reference
)

// Summary says which images an archive holds.
type Summary struct {
	// Names are the images' references, such as slipway.dev/trainer:dev.
	Names []string
	// Fingerprint changes whenever any image in the archive does: it covers the manifests' digests.
	Fingerprint string
}

// Read summarizes the archive at path: an OCI archive, or one of `docker save`.
// It fails with the cause when the file is neither, is cut short, or holds an image without a name.
func Read(path string) (Summary, error) {
	f, err := os.Open(path)
	if err != nil {
		return Summary{}, fmt.Errorf("opening the image archive: %w", err)
	}
	defer f.Close()
	index, manifest, err := manifests(tar.NewReader(f))
	if err != nil {
		return Summary{}, fmt.Errorf("%s is not a readable image archive: %w; build it anew", path, err)
	}
	var names []string
	fingerprint := append(append([]byte{}, index...), manifest...)
	switch {
	case manifest != nil:
		// Docker writes both files; its manifest.json has full references.
		names, err = dockerNames(manifest)
	case index != nil:
		names, err = ociNames(index)
	default:
		err = fmt.Errorf("it holds neither %s nor %s", indexFile, manifestFile)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("%s is not an image archive: %w; make it with e2e/images/build.sh, `docker save` or `buildah push … oci-archive:FILE:NAME`", path, err)
	}
	return Summary{Names: names, Fingerprint: digest(fingerprint)}, nil
}

// manifests reads both kinds of index to the archive's end, so that an archive cut short is noticed.
func manifests(reader *tar.Reader) (index, manifest []byte, err error) {
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return index, manifest, nil
		}
		if err != nil {
			return nil, nil, err
		}
		switch path.Clean(header.Name) {
		case indexFile:
			index, err = io.ReadAll(reader)
		case manifestFile:
			manifest, err = io.ReadAll(reader)
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

func dockerNames(content []byte) ([]string, error) {
	var images []struct{ RepoTags []string }
	if err := json.Unmarshal(content, &images); err != nil {
		return nil, fmt.Errorf("reading %s: %w", manifestFile, err)
	}
	var names []string
	for _, image := range images {
		names = append(names, image.RepoTags...)
	}
	if len(names) == 0 {
		return nil, errors.New("it holds no image with a name")
	}
	return names, nil
}

func ociNames(content []byte) ([]string, error) {
	var index struct{ Manifests []descriptor }
	if err := json.Unmarshal(content, &index); err != nil {
		return nil, fmt.Errorf("reading %s: %w", indexFile, err)
	}
	var names []string
	for _, manifest := range index.Manifests {
		name := manifest.Annotations[imageName]
		if name == "" {
			name = manifest.Annotations[refName]
		}
		if name == "" {
			return nil, fmt.Errorf("image %s in it has no name", manifest.Digest)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, errors.New("it holds no image")
	}
	return names, nil
}
