// Package provisioner makes volumes: folders of the node, offered as `local` volumes.
//
// A hostPath volume would do without a provisioner of our own, but the kubelet does not apply fsGroup to it, and a
// non-root pod could not write. Like a fresh disk of a cloud, a new volume belongs to root and has mode 0755.
package provisioner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Name is what storage classes call this provisioner.
const Name = "slipway.dev/local"

// MediumParameter of a storage class says what its volumes are made of: MediumMemory, or by default folders of the
// node's disk. Volumes of memory are limited to the size that their claims ask for; folders are not.
const (
	MediumParameter = "medium"
	MediumMemory    = "Memory"
)

type folders struct{ root string }

// Provision makes the folder of a claim.
func (f folders) Provision(_ context.Context, options controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	if options.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf("storage class %s binds at once; set volumeBindingMode to WaitForFirstConsumer", options.StorageClass.Name)
	}
	claim := options.PVC.Spec
	if claim.Selector != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("claim %s/%s has a selector, which %s does not support; remove it", options.PVC.Namespace, options.PVC.Name, Name)
	}
	if claim.VolumeMode != nil && *claim.VolumeMode != corev1.PersistentVolumeFilesystem {
		return nil, controller.ProvisioningFinished, fmt.Errorf("claim %s/%s asks for a %s volume; %s makes Filesystem volumes only", options.PVC.Namespace, options.PVC.Name, *claim.VolumeMode, Name)
	}
	path := filepath.Join(f.root, options.PVName)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("making the volume's folder: %w", err)
	}
	size := claim.Resources.Requests[corev1.ResourceStorage]
	switch medium := options.StorageClass.Parameters[MediumParameter]; medium {
	case "":
	case MediumMemory:
		if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=755,size=%d", size.Value())); err != nil {
			return nil, controller.ProvisioningFinished, fmt.Errorf("mounting the volume: %w", err)
		}
	default:
		return nil, controller.ProvisioningFinished, fmt.Errorf("storage class %s asks for medium %q; use %s, or leave it out", options.StorageClass.Name, medium, MediumMemory)
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: size},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{options.SelectedNodeName},
				}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes a volume's folder with everything in it.
func (f folders) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	path := filepath.Join(f.root, volume.Name)
	// EINVAL: nothing is mounted there, the volume is a folder.
	if err := unix.Unmount(path, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting the volume: %w", err)
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("removing the volume's folder: %w", err)
	}
	return nil
}

// Run provisions volumes under root until ctx ends.
func Run(ctx context.Context, kubeconfig, root string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the provisioner's kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making the provisioner's client: %w", err)
	}
	controller.NewProvisionController(ctx, client, Name, folders{root: root}, controller.LeaderElection(false)).Run(ctx)
	return nil
}
