package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/e2e/cluster/internal/layout"
)

// GPUFile in the state directory holds how many GPUs the node is to offer.
const GPUFile = "gpus"

// keepGPUs makes the node offer as many GPUs as GPUFile says, for ever. Nothing stands behind them: they make pods
// that ask for GPUs schedulable or Pending. A kubelet that registers anew drops them, hence the loop.
func keepGPUs(ctx context.Context, client kubernetes.Interface, cluster layout.Cluster) {
	for ; ; time.Sleep(time.Second) {
		content, err := os.ReadFile(cluster.Path(GPUFile))
		if err != nil {
			continue
		}
		wanted, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
		if err != nil {
			log.Printf("reading %s: %v", GPUFile, err)
			continue
		}
		if err := offerGPUs(ctx, client, cluster.Name, wanted); err != nil {
			log.Print(err)
		}
	}
}

func offerGPUs(ctx context.Context, client kubernetes.Interface, node string, wanted int64) error {
	current, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the node: %w", err)
	}
	patch, err := gpuPatch(current.Status, wanted)
	if err != nil || patch == nil {
		return err
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("offering GPUs: %w", err)
	}
	log.Printf("the node offers %d %s", wanted, layout.GPUResource)
	return nil
}

// gpuPatch is the merge patch that brings a node's status to the wanted number of GPUs, or nil when it is there.
// Zero removes the resource.
func gpuPatch(status corev1.NodeStatus, wanted int64) ([]byte, error) {
	capacity, allocatable := status.Capacity[layout.GPUResource], status.Allocatable[layout.GPUResource]
	_, offered := status.Capacity[layout.GPUResource]
	if capacity.Value() == wanted && allocatable.Value() == wanted && offered == (wanted > 0) {
		return nil, nil
	}
	var value any
	if wanted > 0 {
		value = resource.NewQuantity(wanted, resource.DecimalSI).String()
	}
	resources := map[string]any{layout.GPUResource: value}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"capacity": resources, "allocatable": resources}})
	if err != nil {
		return nil, fmt.Errorf("encoding the node's patch: %w", err)
	}
	return patch, nil
}
