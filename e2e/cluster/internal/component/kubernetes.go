// Package component holds the programs of the cluster: each is the upstream program of that name, called as a function.
package component

import (
	"context"
	"fmt"
	"os"
	_ "time/tzdata" // time zones of CronJobs

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // credential plugins of a kubeconfig
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // the JSON log format
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // the version metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"slipway.dev/e2e/cluster/internal/provisioner"
)

// Programs maps a program's name to the function that runs it. Each takes os.Args as the program itself would see
// them (args[0] is the name) and returns the exit code.
var Programs = map[string]func(args []string) int{
	"etcd": func(args []string) int {
		etcdmain.Main(args)
		return 0
	},
	"kube-apiserver":          cobraProgram(apiserver.NewAPIServerCommand),
	"kube-controller-manager": cobraProgram(controllermanager.NewControllerManagerCommand),
	"kube-scheduler":          cobraProgram(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kube-proxy":              cobraProgram(proxy.NewProxyCommand),
	"kubelet": cobraProgram(func() *cobra.Command {
		return kubelet.NewKubeletCommand(context.Background())
	}),
	"kubectl":            runKubectl,
	"coredns":            runCoreDNS,
	"volume-provisioner": runProvisioner,
}

// cobraProgram runs a Kubernetes component. The components read os.Args themselves, as it is.
func cobraProgram(command func() *cobra.Command) func([]string) int {
	return func([]string) int { return cli.Run(command()) }
}

func runKubectl(args []string) int {
	logs.GlogSetter(kubectl.GetLogVerbosity(args)) //nolint:errcheck // as kubectl itself: a bad -v is reported by its flags
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
		return 1
	}
	return 0
}

// runProvisioner takes the kubeconfig and the folder of the volumes.
func runProvisioner(args []string) int {
	if len(args) != 3 {
		fmt.Fprintln(os.Stderr, "volume-provisioner: give the kubeconfig and the volumes' folder as the only arguments")
		return 2
	}
	if err := provisioner.Run(context.Background(), args[1], args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "volume-provisioner:", err)
		return 1
	}
	return 0
}
