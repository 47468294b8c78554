package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"slipway.dev/e2e/cluster/internal/archive"
	"slipway.dev/e2e/cluster/internal/layout"
	"slipway.dev/e2e/cluster/internal/progress"
)

// Enter is a command that runs args inside the node's namespaces.
func Enter(cluster layout.Cluster, args ...string) (*exec.Cmd, error) {
	pid, err := NodePID(cluster)
	if err != nil {
		return nil, err
	}
	return exec.Command("nsenter", append([]string{
		"--target", strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--"}, args...)...), nil
}

// ctr runs containerd's client inside the node and returns what it printed.
func ctr(cluster layout.Cluster, stdin *os.File, args ...string) (string, error) {
	cmd, err := Enter(cluster, append([]string{"ctr", "--address", layout.ContainerdSocket, "--namespace", "k8s.io"}, args...)...)
	if err != nil {
		return "", err
	}
	var output, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &complaint
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return output.String(), nil
}

// loadedFile records for each archive's fingerprint the digests that its images had after the import.
const loadedFile = "loaded.json"

type loaded map[string]map[string]string

// Load imports image archives into the node. An archive whose images are there already is skipped.
func Load(cluster layout.Cluster, archives []string, report *progress.Report) error {
	if _, err := NodePID(cluster); err != nil {
		return err
	}
	unlock, err := Lock(cluster)
	if err != nil {
		return err
	}
	defer unlock()
	record, err := readLoaded(cluster)
	if err != nil {
		return err
	}
	for _, path := range archives {
		summary, err := archive.Read(path)
		if err != nil {
			return err
		}
		present, err := imageDigests(cluster)
		if err != nil {
			return err
		}
		if holds(present, record[summary.Fingerprint]) {
			fmt.Fprintf(report.Out, "%s is loaded already\n", strings.Join(summary.Names, ", "))
			continue
		}
		if err := report.Do(path+" to be imported", func() error { return importArchive(cluster, path) }); err != nil {
			return fmt.Errorf("importing %s: %w", path, err)
		}
		if present, err = imageDigests(cluster); err != nil {
			return err
		}
		digests := map[string]string{}
		for _, name := range summary.Names {
			if present[name] == "" {
				return fmt.Errorf("image %q of %s is not there under that name after the import; name it in full, with registry and tag, such as slipway.dev/%s:dev", name, path, strings.Split(name, ":")[0])
			}
			digests[name] = present[name]
		}
		record[summary.Fingerprint] = digests
		if err := writeLoaded(cluster, record); err != nil {
			return err
		}
		fmt.Fprintf(report.Out, "%s loaded\n", strings.Join(summary.Names, ", "))
	}
	return nil
}

// importArchive hands the archive over as standard input: its path may mean nothing inside the node.
func importArchive(cluster layout.Cluster, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = ctr(cluster, f, "images", "import", "-")
	return err
}

// holds tells whether all wanted images are present with their digests. Nothing wanted means never loaded.
func holds(present, wanted map[string]string) bool {
	for name, digest := range wanted {
		if present[name] != digest {
			return false
		}
	}
	return len(wanted) > 0
}

// imageDigests maps the names of the node's images to their digests.
func imageDigests(cluster layout.Cluster) (map[string]string, error) {
	listing, err := ctr(cluster, nil, "images", "list")
	if err != nil {
		return nil, err
	}
	return parseImages(listing), nil
}

// parseImages reads `ctr images list`: a heading, then lines of name, type, digest and more.
func parseImages(listing string) map[string]string {
	digests := map[string]string{}
	for line := range strings.Lines(listing) {
		if fields := strings.Fields(line); len(fields) >= 3 && strings.HasPrefix(fields[2], "sha256:") {
			digests[fields[0]] = fields[2]
		}
	}
	return digests
}

func readLoaded(cluster layout.Cluster) (loaded, error) {
	content, err := os.ReadFile(cluster.Path(loadedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return loaded{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of images: %w", err)
	}
	record := loaded{}
	// A record cut short by a crash only costs another import.
	if json.Unmarshal(content, &record) != nil {
		return loaded{}, nil
	}
	return record, nil
}

func writeLoaded(cluster layout.Cluster, record loaded) error {
	content, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encoding the record of images: %w", err)
	}
	if err := os.WriteFile(cluster.Path(loadedFile), content, 0o644); err != nil {
		return fmt.Errorf("writing the record of images: %w", err)
	}
	return nil
}
