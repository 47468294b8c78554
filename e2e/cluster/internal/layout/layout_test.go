package layout

import (
	"strings"
	"testing"
)

func TestNamesThatCannotNameANodeAreRefused(t *testing.T) {
	for _, name := range []string{"", "Upper", "under_score", "-dash", "dash-", "1digit", strings.Repeat("a", 31)} {
		if _, err := New(name, "/state"); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	for _, name := range []string{"a", "slipway", "ci-2", strings.Repeat("a", 30)} {
		if _, err := New(name, "/state"); err != nil {
			t.Errorf("%q was refused: %v", name, err)
		}
	}
}

func TestStateDefaultsToTheCache(t *testing.T) {
	t.Setenv("SLIPWAY_CACHE", "/cache")
	cluster, err := New("slipway", "")
	if err != nil {
		t.Fatal(err)
	}
	if cluster.State != "/cache/cluster/slipway" {
		t.Errorf("the state directory is %s", cluster.State)
	}
}

func TestClustersOfOneNameInTwoDirectoriesHaveTheirOwnControlGroups(t *testing.T) {
	one, two := Cluster{Name: "slipway", State: "/one"}, Cluster{Name: "slipway", State: "/two"}
	if one.Cgroup() == two.Cgroup() {
		t.Errorf("both are in %s", one.Cgroup())
	}
	if one.Cgroup() != (Cluster{Name: "slipway", State: "/one"}).Cgroup() {
		t.Error("the same cluster has two control groups")
	}
}
