// Command slipway-cluster is a Kubernetes cluster of one node in one program, for tests and demonstrations.
//
// Called by the name of one of Kubernetes' components (kubectl, kubelet, ...), or with that name as its first
// argument, it is that component.
package main

import (
	"os"
	"path/filepath"

	"slipway.dev/e2e/cluster/internal/command"
	"slipway.dev/e2e/cluster/internal/component"
)

func main() {
	if program, found := component.Programs[filepath.Base(os.Args[0])]; found {
		os.Exit(program(os.Args))
	}
	os.Exit(command.Run(os.Args[1:]))
}
