package host

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway.dev/e2e/cluster/internal/layout"
)

func TestEachMissingPackageIsNamedOnce(t *testing.T) {
	if missing := missingPackages(func(string) bool { return true }); len(missing) != 0 {
		t.Errorf("%v are missing from a whole machine", missing)
	}
	missing := missingPackages(func(path string) bool { return path == "/usr/sbin/iptables" || path == "/usr/bin/nsenter" })
	if !slices.Equal(missing, []string{"containerd", "runc", "containernetworking-plugins"}) {
		t.Errorf("missing: %v", missing)
	}
}

func TestTheNodeIsTheFirstProcessOfANamespaceBelow(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\texe\nNSpid:\t4242\t1\nThreads:\t9\n": true,
		"Name:\texe\nNSpid:\t4243\t17\n":             false,
		"Name:\tsystemd\nNSpid:\t1\n":                false, // the machine's own
		"Name:\texe\n":                               false,
	} {
		if isFirst(status) != want {
			t.Errorf("%q: %v", status, !want)
		}
	}
}

func TestAnImageIsHeldOnlyWithItsDigest(t *testing.T) {
	present := parseImages("REF TYPE DIGEST SIZE PLATFORMS LABELS \n" +
		"slipway.dev/a:dev application/vnd.oci.image.manifest.v1+json sha256:aa 2.1 MiB linux/amd64 - \n" +
		"broken line\n")
	if len(present) != 1 || present["slipway.dev/a:dev"] != "sha256:aa" {
		t.Fatalf("read as %v", present)
	}
	for _, c := range []struct {
		wanted map[string]string
		want   bool
	}{
		{nil, false},
		{map[string]string{"slipway.dev/a:dev": "sha256:aa"}, true},
		{map[string]string{"slipway.dev/a:dev": "sha256:bb"}, false},
		{map[string]string{"slipway.dev/a:dev": "sha256:aa", "slipway.dev/b:dev": "sha256:bb"}, false},
	} {
		if holds(present, c.wanted) != c.want {
			t.Errorf("%v: %v", c.wanted, !c.want)
		}
	}
}

func TestTheFormerPortIsTakenAgainUnlessItIsInUse(t *testing.T) {
	first, err := listen("")
	if err != nil {
		t.Fatal(err)
	}
	port := first.Addr().(*net.TCPAddr).Port
	second, err := listen(strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if second.Addr().(*net.TCPAddr).Port == port {
		t.Error("a port in use was taken")
	}
	first.Close()
	third, err := listen(strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if third.Addr().(*net.TCPAddr).Port != port {
		t.Error("a free port was not taken again")
	}
}

func TestOnlyAClustersDirectoryMayBeRemoved(t *testing.T) {
	cluster := layout.Cluster{Name: "test", State: t.TempDir()}
	if err := checkOurs(cluster); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	if err := os.WriteFile(cluster.Path("thesis.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkOurs(cluster); err == nil || !strings.Contains(err.Error(), cluster.State) {
		t.Errorf("somebody's directory: %v", err)
	}
	if err := os.WriteFile(cluster.Path(marker), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkOurs(cluster); err != nil {
		t.Errorf("a cluster's directory: %v", err)
	}
}

func TestALockIsHeldAndGoesWithItsCluster(t *testing.T) {
	cluster := layout.Cluster{Name: "test", State: filepath.Join(t.TempDir(), "test")}
	unlock, err := Lock(cluster)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan func(), 1)
	go func() {
		unlock, err := Lock(cluster)
		if err != nil {
			t.Error(err)
		}
		second <- unlock
	}()
	select {
	case <-second:
		t.Fatal("two hold the lock")
	case <-time.After(100 * time.Millisecond):
	}
	unlock()
	(<-second)()
	if _, err := os.Stat(cluster.State + ".lock"); !os.IsNotExist(err) {
		t.Errorf("the lock of no cluster is left (%v)", err)
	}
}

func TestAMissingLogNamesThoseThatAreThere(t *testing.T) {
	cluster := layout.Cluster{Name: "test", State: t.TempDir()}
	if err := os.MkdirAll(cluster.Path("logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cluster.Log("kubelet"), []byte("one\ntwo\nthree\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLog(cluster, "kublet"); err == nil || !strings.Contains(err.Error(), "[kubelet]") {
		t.Errorf("the error is %v", err)
	}
	if got := tail(cluster.Log("kubelet"), 2); got != "two\nthree" {
		t.Errorf("the tail is %q", got)
	}
}
