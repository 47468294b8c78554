package node

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"slipway.dev/e2e/cluster/internal/layout"
)

func status(gpus string) corev1.NodeStatus {
	if gpus == "" {
		return corev1.NodeStatus{}
	}
	resources := corev1.ResourceList{layout.GPUResource: resource.MustParse(gpus)}
	return corev1.NodeStatus{Capacity: resources, Allocatable: resources}
}

func TestTheNodesStatusIsPatchedOnlyWhenTheGPUsDiffer(t *testing.T) {
	for _, c := range []struct {
		offered string
		wanted  int64
		want    string
	}{
		{"", 0, ""},
		{"2", 2, ""},
		{"", 2, `{"status":{"allocatable":{"nvidia.com/gpu":"2"},"capacity":{"nvidia.com/gpu":"2"}}}`},
		{"2", 0, `{"status":{"allocatable":{"nvidia.com/gpu":null},"capacity":{"nvidia.com/gpu":null}}}`},
		{"0", 0, `{"status":{"allocatable":{"nvidia.com/gpu":null},"capacity":{"nvidia.com/gpu":null}}}`},
	} {
		patch, err := gpuPatch(status(c.offered), c.wanted)
		if err != nil || string(patch) != c.want {
			t.Errorf("from %q to %d: %s (%v)", c.offered, c.wanted, patch, err)
		}
	}
}

func TestConfigurationFilesAreRenderedWhole(t *testing.T) {
	cluster := layout.Cluster{Name: "test", State: t.TempDir()}
	if err := writeConfig(cluster, "slipway-test-1", "native"); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		content, err := os.ReadFile(cluster.Path("config", name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "$") {
			t.Errorf("%s has something left to fill in:\n%s", name, content)
		}
		return string(content)
	}
	var kubelet map[string]any
	if err := yaml.UnmarshalStrict([]byte(read("kubelet.yaml")), &kubelet); err != nil || kubelet["cgroupRoot"] != "/slipway-test-1" {
		t.Errorf("the kubelet's control group is %v (%v)", kubelet["cgroupRoot"], err)
	}
	if !json.Valid([]byte(read("cni/10-pods.conflist"))) {
		t.Error("the network's configuration is no JSON")
	}
	for name, want := range map[string]string{
		"containerd.toml": `snapshotter = "native"`,
		"Corefile":        "kubernetes cluster.local in-addr.arpa ip6.arpa",
	} {
		if !strings.Contains(read(name), want) {
			t.Errorf("%s lacks %q", name, want)
		}
	}
}

func TestProgramsThatFailAreReported(t *testing.T) {
	cluster := layout.Cluster{Name: "test", State: t.TempDir()}
	if err := os.Mkdir(cluster.Path("logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := newSupervisor(cluster)
	if err := s.run("good", "/bin/sh", "-c", "echo said"); err != nil {
		t.Error(err)
	}
	if content, _ := os.ReadFile(cluster.Log("good")); string(content) != "said\n" {
		t.Errorf("the log holds %q", content)
	}
	if err := s.run("bad", "/bin/sh", "-c", "exit 3"); err == nil || !strings.Contains(err.Error(), "bad ended with exit code 3") {
		t.Errorf("the error is %v", err)
	}
	if err := s.run("absent", "/nowhere/absent"); err == nil || !strings.Contains(err.Error(), "starting absent") {
		t.Errorf("the error is %v", err)
	}
}
