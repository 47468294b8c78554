// Package command is the command line of slipway-cluster.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"slipway.dev/e2e/cluster/internal/host"
	"slipway.dev/e2e/cluster/internal/layout"
	"slipway.dev/e2e/cluster/internal/node"
	"slipway.dev/e2e/cluster/internal/progress"
)

// Exit codes besides 0 and 1 (failure); `exec` and `kubectl` pass on those of what they run.
const (
	exitUsage      = 2
	exitNotRunning = 3
)

// tool holds what all commands share.
type tool struct {
	name, state string
	report      *progress.Report
}

func (t *tool) cluster() (layout.Cluster, error) { return layout.New(t.name, t.state) }

// Run runs one command line and returns the exit code.
func Run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := &tool{report: &progress.Report{Out: os.Stderr}}
	// Kubernetes' packages put flags of theirs into the process-wide set, which cobra would offer as ours.
	pflag.CommandLine = pflag.NewFlagSet("slipway-cluster", pflag.ContinueOnError)
	root := t.root()
	root.SetArgs(args)
	// Traversing parses the flags before the command's name, whose errors cobra does not let us tell apart otherwise.
	_, _, err := root.Traverse(args)
	if err != nil {
		err = usageError{err}
	} else {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "slipway-cluster:", err)
	if errors.Is(err, host.ErrNotRunning) {
		return exitNotRunning
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return 1
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "slipway-cluster",
		Short: "A Kubernetes cluster of one node in one program, for tests and demonstrations",
		Long: `A Kubernetes cluster of one node in one program, for tests and demonstrations.

The cluster lives in namespaces of its own; several of different names run side by side.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the cluster is not running.`,
		SilenceUsage: true, SilenceErrors: true, TraverseChildren: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("there is no command %q; `slipway-cluster --help` lists them", args[0])}
			}
			return cmd.Help()
		},
		Args:              cobra.ArbitraryArgs,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&t.name, "name", "slipway", "the cluster's name, and its node's")
	root.PersistentFlags().StringVar(&t.state, "state", "", "directory for everything the cluster writes (default ~/.cache/slipway/cluster/NAME)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })

	add := func(use, short string, check cobra.PositionalArgs, run func(cmd *cobra.Command, cluster layout.Cluster, args []string) error) *cobra.Command {
		command := &cobra.Command{
			Use: use, Short: short,
			Args: func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return usageError{fmt.Errorf("%w; usage: slipway-cluster %s", err, use)}
				}
				return nil
			},
			RunE: func(cmd *cobra.Command, args []string) error {
				cluster, err := t.cluster()
				if err != nil {
					return usageError{err}
				}
				return run(cmd, cluster, args)
			},
		}
		root.AddCommand(command)
		return command
	}

	add("up", "Start the cluster and wait until it is ready", cobra.NoArgs, t.up)
	add("down", "End the cluster and remove everything it made", cobra.NoArgs, t.down)
	add("status", "Tell whether the cluster runs, where, and in what memory", cobra.NoArgs, t.status)
	add("kubeconfig", "Print the path of the kubeconfig", cobra.NoArgs, t.kubeconfig)
	add("load FILE...", "Import image archives (OCI, or of docker save)", cobra.MinimumNArgs(1), func(_ *cobra.Command, cluster layout.Cluster, args []string) error {
		return host.Load(cluster, args, t.report)
	})
	add("gpu N", "Make the node offer N nvidia.com/gpu (nothing stands behind them)", cobra.ExactArgs(1), t.gpu)
	add("restart COMPONENT", "End a component; the node starts it again", cobra.ExactArgs(1), func(_ *cobra.Command, cluster layout.Cluster, args []string) error {
		return host.Restart(cluster, args[0])
	})
	add("logs COMPONENT", "Print a component's log (node for the node's own)", cobra.ExactArgs(1), logs)
	add("exec -- COMMAND [ARGUMENT...]", "Run a command inside the node's namespaces", cobra.MinimumNArgs(1), execute)
	var reverse bool
	forward := add("forward LISTEN TARGET", "Carry connections from this machine into the node, or back", cobra.ExactArgs(2), func(cmd *cobra.Command, cluster layout.Cluster, args []string) error {
		return host.Forward(cmd.Context(), cluster, args[0], args[1], reverse, func(address net.Addr) {
			fmt.Fprintf(cmd.OutOrStdout(), "%s -> %s\n", address, args[1])
		})
	})
	forward.Flags().BoolVar(&reverse, "reverse", false, "LISTEN inside the node (pods reach it at "+layout.NodeAddress+"), TARGET on this machine")
	add("kubectl [ARGUMENT...]", "Run kubectl on the cluster", cobra.ArbitraryArgs, kubectl).DisableFlagParsing = true

	inside := add(host.NodeCommand, "", cobra.NoArgs, func(_ *cobra.Command, cluster layout.Cluster, _ []string) error {
		log.SetFlags(log.Ldate | log.Lmicroseconds | log.LUTC)
		return node.Run(cluster)
	})
	inside.Hidden = true
	return root
}

func (t *tool) up(cmd *cobra.Command, cluster layout.Cluster, _ []string) error {
	if err := host.Up(cmd.Context(), cluster, t.report); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "cluster %s is up; export KUBECONFIG=%s\n", cluster.Name, cluster.Kubeconfig())
	return nil
}

func (t *tool) down(cmd *cobra.Command, cluster layout.Cluster, _ []string) error {
	unlock, err := host.Lock(cluster)
	if err != nil {
		return err
	}
	defer unlock()
	if err := t.report.Do("the cluster to end", func() error { return host.Down(cluster) }); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "cluster %s is down\n", cluster.Name)
	return nil
}

func (t *tool) status(cmd *cobra.Command, cluster layout.Cluster, _ []string) error {
	out := cmd.OutOrStdout()
	pid, err := host.NodePID(cluster)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "cluster %s runs (process %d)\nkubeconfig %s\n", cluster.Name, pid, cluster.Kubeconfig())
	components, err := host.Components(cluster)
	if err != nil {
		return err
	}
	var total int64
	for _, component := range components {
		total += component.Memory
		fmt.Fprintf(out, "%8d  %6.1f MB  %s\n", component.PID, float64(component.Memory)/1e6, component.Name)
	}
	fmt.Fprintf(out, "%8s  %6.1f MB\n", "all", float64(total)/1e6)
	return nil
}

func (t *tool) kubeconfig(cmd *cobra.Command, cluster layout.Cluster, _ []string) error {
	if _, err := os.Stat(cluster.Kubeconfig()); err != nil {
		return host.ErrNotRunning
	}
	fmt.Fprintln(cmd.OutOrStdout(), cluster.Kubeconfig())
	return nil
}

func (t *tool) gpu(cmd *cobra.Command, cluster layout.Cluster, args []string) error {
	count, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil {
		return usageError{fmt.Errorf("%q is no number of GPUs; give 0 or more", args[0])}
	}
	return host.SetGPUs(cmd.Context(), cluster, count, t.report)
}

func logs(cmd *cobra.Command, cluster layout.Cluster, args []string) error {
	f, err := host.OpenLog(cluster, args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(cmd.OutOrStdout(), f)
	return err
}

func execute(_ *cobra.Command, cluster layout.Cluster, args []string) error {
	command, err := host.Enter(cluster, args...)
	if err != nil {
		return err
	}
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	return command.Run()
}

// kubectl becomes kubectl, with the cluster's kubeconfig.
func kubectl(_ *cobra.Command, cluster layout.Cluster, args []string) error {
	if _, err := os.Stat(cluster.Kubeconfig()); err != nil {
		return host.ErrNotRunning
	}
	if err := os.Setenv("KUBECONFIG", cluster.Kubeconfig()); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", append([]string{"kubectl"}, args...), os.Environ())
}
