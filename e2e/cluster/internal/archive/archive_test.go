package archive

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway.dev/e2e/cluster/internal/layout"
)

func save(t *testing.T, files ...file) string {
	t.Helper()
	content, err := tarball(files)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestThePauseProgramSleepsUntilItIsKilled(t *testing.T) {
	program, err := pauseProgram(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		t.Fatalf("it ended by itself: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestAnArchitectureWithoutPauseProgramIsNamed(t *testing.T) {
	if _, err := pauseProgram("mips"); err == nil || !strings.Contains(err.Error(), "mips") {
		t.Errorf("the error is %v", err)
	}
}

func TestThePauseImageIsAnArchiveOfThatName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pause.tar")
	if err := WritePause(path); err != nil {
		t.Fatal(err)
	}
	summary, err := Read(path)
	if err != nil || !slices.Equal(summary.Names, []string{layout.PauseImage}) {
		t.Errorf("%v (%v)", summary.Names, err)
	}
}

func TestNamesComeFromBothKindsOfArchive(t *testing.T) {
	oci := `{"manifests":[{"digest":"sha256:1","annotations":{"org.opencontainers.image.ref.name":"slipway.dev/a:dev"}}]}`
	// Docker's index has only the tag as ref.name.
	dockers := `{"manifests":[{"digest":"sha256:1","annotations":{"org.opencontainers.image.ref.name":"dev"}}]}`
	docker := `[{"Config":"c.json","RepoTags":["slipway.dev/b:dev","slipway.dev/c:dev"],"Layers":[]}]`
	for _, c := range []struct {
		path string
		want []string
	}{
		{save(t, file{"./index.json", 0o644, []byte(oci)}), []string{"slipway.dev/a:dev"}},
		{save(t, file{"index.json", 0o644, []byte(dockers)}, file{"manifest.json", 0o644, []byte(docker)}), []string{"slipway.dev/b:dev", "slipway.dev/c:dev"}},
	} {
		summary, err := Read(c.path)
		if err != nil || !slices.Equal(summary.Names, c.want) {
			t.Errorf("%v instead of %v (%v)", summary.Names, c.want, err)
		}
	}
}

func TestTheFingerprintFollowsTheManifests(t *testing.T) {
	read := func(digest string) string {
		index := `{"manifests":[{"digest":"` + digest + `","annotations":{"org.opencontainers.image.ref.name":"a/b:c"}}]}`
		summary, err := Read(save(t, file{"index.json", 0o644, []byte(index)}))
		if err != nil {
			t.Fatal(err)
		}
		return summary.Fingerprint
	}
	if read("sha256:1") != read("sha256:1") || read("sha256:1") == read("sha256:2") {
		t.Error("the fingerprint does not tell images apart")
	}
}

func TestWhatIsNoImageArchiveIsExplained(t *testing.T) {
	whole, err := os.ReadFile(save(t, file{"blob", 0o644, make([]byte, 4096)}, file{"index.json", 0o644, []byte("{}")}))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.tar")
	if err := os.WriteFile(cut, whole[:2000], 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		cut: "not a readable image archive",
		save(t, file{"readme", 0o644, []byte("hi")}):                                        "neither index.json nor manifest.json",
		save(t, file{"index.json", 0o644, []byte(`{"manifests":[]}`)}):                      "holds no image",
		save(t, file{"index.json", 0o644, []byte(`{"manifests":[{"digest":"sha256:1"}]}`)}): "sha256:1 in it has no name",
		save(t, file{"manifest.json", 0o644, []byte(`[{"RepoTags":null}]`)}):                "no image with a name",
		save(t, file{"manifest.json", 0o644, []byte(`not json`)}):                           "reading manifest.json",
		filepath.Join(t.TempDir(), "absent.tar"):                                            "no such file",
	} {
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("the error is %v, without %q", err, want)
		}
	}
}
