// Package cgroup keeps the processes of one cluster in control groups of its own, finds them there and ends them.
//
// The control group is the one record of what is running: it cannot be stale, and it outlives the state directory.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Root is where the kernel's control groups are mounted.
const Root = "/sys/fs/cgroup"

// Group is one control group, present in every hierarchy under root.
type Group struct {
	root string
	name string
}

// Named returns the group called name.
func Named(name string) Group { return Group{root: Root, name: name} }

// systemLeaf holds the cluster's own processes; pods live beside it, since control groups of version 2 allow
// processes only in leaves.
const systemLeaf = "system"

// hierarchies lists the mounted hierarchies: the root alone with version 2, a folder for each controller with version 1.
func (g Group) hierarchies() ([]string, error) {
	if isGroup(g.root) {
		return []string{g.root}, nil
	}
	entries, err := os.ReadDir(g.root)
	if err != nil {
		return nil, fmt.Errorf("reading control groups: %w; mount them at %s", err, g.root)
	}
	var found []string
	for _, entry := range entries {
		if path := filepath.Join(g.root, entry.Name()); entry.IsDir() && isGroup(path) {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no control groups are mounted at %s; mount them there", g.root)
	}
	return found, nil
}

func isGroup(path string) bool {
	_, err := os.Stat(filepath.Join(path, "cgroup.procs"))
	return err == nil
}

// Create makes the group in every hierarchy. It is no error when it is there already.
func (g Group) Create() error {
	hierarchies, err := g.hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range hierarchies {
		parent := hierarchy
		for _, element := range []string{g.name, systemLeaf} {
			child := filepath.Join(parent, element)
			if err := os.Mkdir(child, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("making a control group: %w; this needs root and writable control groups", err)
			}
			if err := inheritCpuset(parent, child); err != nil {
				return err
			}
			parent = child
		}
	}
	return nil
}

// inheritCpuset copies the parent's CPUs and memory nodes: a version 1 cpuset starts empty, and takes no process so.
func inheritCpuset(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the parent's cpuset: %w", err)
		}
		if len(strings.TrimSpace(string(value))) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(child, file), value, 0); err != nil {
			return fmt.Errorf("setting the cpuset: %w", err)
		}
	}
	return nil
}

// Join moves the calling process into the group. Its children are born there.
func (g Group) Join() error {
	hierarchies, err := g.hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range hierarchies {
		// "0" is the writer itself, whichever process-id namespace it is in.
		if err := os.WriteFile(filepath.Join(hierarchy, g.name, systemLeaf, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("joining the control group: %w", err)
		}
	}
	return nil
}

// SystemProcesses lists the cluster's own processes, without those of pods.
func (g Group) SystemProcesses() ([]int, error) { return g.processes(systemLeaf) }

// Processes lists all processes of the cluster, those of pods included, once each.
func (g Group) Processes() ([]int, error) { return g.processes("") }

func (g Group) processes(below string) ([]int, error) {
	hierarchies, err := g.hierarchies()
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	var pids []int
	for _, hierarchy := range hierarchies {
		err := filepath.WalkDir(filepath.Join(hierarchy, g.name, below), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "cgroup.procs" {
				return ignoreGone(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return ignoreGone(err)
			}
			for _, field := range strings.Fields(string(content)) {
				// 0 stands for a process that this namespace cannot see.
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 && !seen[pid] {
					seen[pid] = true
					pids = append(pids, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing the processes of control group %s: %w", g.name, err)
		}
	}
	return pids, nil
}

// ignoreGone forgives what a group that is being removed answers.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

// Remove kills every process of the group and removes it from all hierarchies. It is no error when there is none.
// It gives up when processes are still there after timeout.
func (g Group) Remove(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		pids, err := g.Processes()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("ending process %d: %w", pid, err)
			}
		}
		var removeErr error
		if len(pids) == 0 {
			if removeErr = g.removeFolders(); removeErr == nil {
				return nil
			}
		}
		if time.Now().After(deadline) {
			if removeErr != nil {
				return fmt.Errorf("removing control group %s: %w", g.name, removeErr)
			}
			return fmt.Errorf("%d processes of control group %s are still there after %s: %v", len(pids), g.name, timeout, pids)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (g Group) removeFolders() error {
	hierarchies, err := g.hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range hierarchies {
		var folders []string
		err := filepath.WalkDir(filepath.Join(hierarchy, g.name), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return ignoreGone(err)
		})
		if err != nil {
			return err
		}
		for i := len(folders) - 1; i >= 0; i-- {
			if err := syscall.Rmdir(folders[i]); err != nil && !errors.Is(err, syscall.ENOENT) {
				return fmt.Errorf("removing %s: %w", folders[i], err)
			}
		}
	}
	return nil
}
