// Package host is a cluster seen from the machine that carries it: starting, finding, using and ending it.
package host

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

	"slipway.dev/e2e/cluster/internal/cgroup"
	"slipway.dev/e2e/cluster/internal/layout"
)

// ErrNotRunning is returned for a cluster that is not up.
var ErrNotRunning = errors.New("the cluster is not running; start it with `slipway-cluster up`")

// endTimeout is how long the kernel gets to take down a cluster's processes and control groups.
const endTimeout = 30 * time.Second

// required are the programs that come from Debian rather than with this one, and their packages.
var required = []struct{ path, debianPackage string }{
	{"/usr/bin/containerd", "containerd"},
	{"/usr/bin/ctr", "containerd"},
	{"/usr/bin/containerd-shim-runc-v2", "containerd"},
	{"/usr/sbin/runc", "runc"},
	{layout.CNIPlugins + "/ptp", "containernetworking-plugins"},
	{layout.CNIPlugins + "/host-local", "containernetworking-plugins"},
	{layout.CNIPlugins + "/portmap", "containernetworking-plugins"},
	{"/usr/sbin/iptables", "iptables"},
	{"/usr/bin/nsenter", "util-linux"},
}

// CheckMachine fails when the machine lacks something that a cluster needs, and says how to get it.
func CheckMachine() error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root: namespaces, mounts and control groups are made; use sudo")
	}
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	if missing := missingPackages(exists); len(missing) > 0 {
		return fmt.Errorf("this machine lacks %s; run: apt-get install --no-install-recommends %s",
			strings.Join(missing, ", "), strings.Join(missing, " "))
	}
	return nil
}

func missingPackages(exists func(path string) bool) []string {
	var missing []string
	seen := map[string]bool{}
	for _, program := range required {
		if !seen[program.debianPackage] && !exists(program.path) {
			seen[program.debianPackage] = true
			missing = append(missing, program.debianPackage)
		}
	}
	return missing
}

// NodePID finds the node's process 1, as a process id of this machine. It returns ErrNotRunning when there is none.
func NodePID(cluster layout.Cluster) (int, error) {
	pids, err := cgroup.Named(cluster.Cgroup()).SystemProcesses()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it has just ended
		}
		if isFirst(string(status)) {
			return pid, nil
		}
	}
	return 0, ErrNotRunning
}

// isFirst tells from /proc/PID/status whether a process is process 1 of a namespace below this one.
func isFirst(status string) bool {
	for line := range strings.Lines(status) {
		if ids, found := strings.CutPrefix(line, "NSpid:"); found {
			fields := strings.Fields(ids)
			return len(fields) > 1 && fields[len(fields)-1] == "1"
		}
	}
	return false
}

// Component is one running program of the node.
type Component struct {
	Name string
	PID  int
	// Memory is its proportional share in bytes: what programs have in common is divided among them, and the
	// components are one file.
	Memory int64
}

// Components lists the node's own programs, without shims and pods.
func Components(cluster layout.Cluster) ([]Component, error) {
	pids, err := cgroup.Named(cluster.Cgroup()).SystemProcesses()
	if err != nil {
		return nil, err
	}
	var components []Component
	for _, pid := range pids {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(string(cmdline), "\x00")
		components = append(components, Component{Name: filepath.Base(name), PID: pid, Memory: memory(pid)})
	}
	return components, nil
}

func memory(pid int) int64 {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		if share, found := strings.CutPrefix(line, "Pss:"); found {
			kilobytes, err := strconv.ParseInt(strings.Fields(share)[0], 10, 64)
			if err != nil {
				return 0
			}
			return kilobytes * 1024
		}
	}
	return 0
}

// Down ends the cluster and removes everything it made. It is no error when there is none.
func Down(cluster layout.Cluster) error {
	if err := checkOurs(cluster); err != nil {
		return err
	}
	if err := cgroup.Named(cluster.Cgroup()).Remove(endTimeout); err != nil {
		return err
	}
	// Only now: the node's mounts are gone with its processes, and nothing but plain files is left.
	if err := os.RemoveAll(cluster.State); err != nil {
		return fmt.Errorf("removing the state directory: %w", err)
	}
	return nil
}

// marker is the file by which a directory is known to be a cluster's, and may be removed.
const marker = "slipway-cluster"

// checkOurs fails when the state directory holds something that is not a cluster's.
func checkOurs(cluster layout.Cluster) error {
	entries, err := os.ReadDir(cluster.State)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the state directory: %w", err)
	}
	if _, err := os.Stat(cluster.Path(marker)); err != nil {
		return fmt.Errorf("%s is in use for something else than a cluster; give --state an empty or new directory", cluster.State)
	}
	return nil
}

// Lock keeps other commands from starting or ending the same cluster until the returned function is called.
func Lock(cluster layout.Cluster) (func(), error) {
	path := cluster.State + ".lock"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of the clusters: %w", err)
	}
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("opening the cluster's lock: %w", err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("locking the cluster: %w", err)
		}
		// Whoever held the lock may have removed the file; then this lock is on nothing.
		if held, err := f.Stat(); err == nil {
			if current, err := os.Stat(path); err == nil && os.SameFile(held, current) {
				return func() {
					if _, err := os.Stat(cluster.State); errors.Is(err, fs.ErrNotExist) {
						os.Remove(path)
					}
					f.Close()
				}, nil
			}
		}
		f.Close()
	}
}
