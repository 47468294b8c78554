package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes a file with the folders above it.
func write(t *testing.T, content string, elements ...string) {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGroupsAreMadeInEveryHierarchyOfVersion1(t *testing.T) {
	root := t.TempDir()
	write(t, "", root, "memory", "cgroup.procs")
	write(t, "", root, "cpuset", "cgroup.procs")
	write(t, "0-1\n", root, "cpuset", "cpuset.cpus")
	write(t, "0\n", root, "cpuset", "cpuset.mems")
	if err := (Group{root, "test"}).Create(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "memory", "test", "system")); err != nil {
		t.Error(err)
	}
	for _, level := range []string{"test", "test/system"} {
		cpus, err := os.ReadFile(filepath.Join(root, "cpuset", level, "cpuset.cpus"))
		if err != nil || string(cpus) != "0-1\n" {
			t.Errorf("the CPUs of %s are %q (%v)", level, cpus, err)
		}
	}
}

func TestVersion2HasOneHierarchy(t *testing.T) {
	root := t.TempDir()
	write(t, "", root, "cgroup.procs")
	write(t, "", root, "other.slice", "cgroup.procs")
	if err := (Group{root, "test"}).Create(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "test", "system")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "other.slice", "test")); err == nil {
		t.Error("a group was made inside another's")
	}
}

func TestMissingControlGroupsAreNamed(t *testing.T) {
	root := t.TempDir()
	if err := (Group{root, "test"}).Create(); err == nil || !strings.Contains(err.Error(), "no control groups are mounted at "+root) {
		t.Errorf("the error is %v", err)
	}
}

func TestProcessesOfPodsAreCountedOnceAndApartFromTheSystems(t *testing.T) {
	root := t.TempDir()
	for _, hierarchy := range []string{"memory", "pids"} {
		write(t, "", root, hierarchy, "cgroup.procs")
		write(t, "", root, hierarchy, "test", "cgroup.procs")
		write(t, "11\n0\n12\n", root, hierarchy, "test", "system", "cgroup.procs")
		write(t, "21\n", root, hierarchy, "test", "kubepods", "pod1", "cgroup.procs")
		write(t, "99\n", root, hierarchy, "other", "cgroup.procs")
	}
	all, err := (Group{root, "test"}).Processes()
	slices.Sort(all)
	if err != nil || !slices.Equal(all, []int{11, 12, 21}) {
		t.Errorf("all processes: %v (%v)", all, err)
	}
	system, err := (Group{root, "test"}).SystemProcesses()
	slices.Sort(system)
	if err != nil || !slices.Equal(system, []int{11, 12}) {
		t.Errorf("system processes: %v (%v)", system, err)
	}
}

func TestAGroupThatIsNotThereHasNoProcessesAndIsRemoved(t *testing.T) {
	root := t.TempDir()
	write(t, "", root, "memory", "cgroup.procs")
	group := Group{root, "test"}
	if pids, err := group.Processes(); err != nil || len(pids) != 0 {
		t.Errorf("%v (%v)", pids, err)
	}
	if err := group.Remove(0); err != nil {
		t.Error(err)
	}
}
