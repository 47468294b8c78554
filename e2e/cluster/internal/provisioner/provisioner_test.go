package provisioner

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func options() controller.ProvisionOptions {
	reclaim := corev1.PersistentVolumeReclaimDelete
	return controller.ProvisionOptions{
		StorageClass: &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "standard"}, ReclaimPolicy: &reclaim},
		PVName:       "pvc-1",
		PVC: &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "default"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		},
		SelectedNodeName: "node",
	}
}

func TestAVolumeIsALocalFolderBoundToItsNodeAndGoesWithEverythingInIt(t *testing.T) {
	f := folders{root: t.TempDir()}
	volume, _, err := f.Provision(context.Background(), options())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.root, "pvc-1")
	size := volume.Spec.Capacity[corev1.ResourceStorage]
	if volume.Spec.Local.Path != path || size.String() != "1Gi" {
		t.Errorf("the volume is %s of %s", volume.Spec.Local.Path, size.String())
	}
	if values := volume.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values; len(values) != 1 || values[0] != "node" {
		t.Errorf("it is bound to %v", values)
	}
	if err := os.WriteFile(filepath.Join(path, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to delete
		if err := f.Delete(context.Background(), volume); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the folder is left (%v)", err)
	}
}

func TestClaimsThatCannotBeMetAreExplained(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for want, change := range map[string]func(*controller.ProvisionOptions){
		"WaitForFirstConsumer": func(o *controller.ProvisionOptions) { o.SelectedNodeName = "" },
		"has a selector":       func(o *controller.ProvisionOptions) { o.PVC.Spec.Selector = &metav1.LabelSelector{} },
		"Filesystem volumes":   func(o *controller.ProvisionOptions) { o.PVC.Spec.VolumeMode = &block },
		`medium "Tape"`: func(o *controller.ProvisionOptions) {
			o.StorageClass.Parameters = map[string]string{MediumParameter: "Tape"}
		},
	} {
		o := options()
		change(&o)
		if _, _, err := (folders{root: t.TempDir()}).Provision(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, without %q", err, want)
		}
	}
}
