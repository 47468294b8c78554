//! Parts of every pod: least privilege, scratch space, mounted sources, labels. Pure: no client.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, EmptyDirVolumeSource, EnvVar, EnvVarSource, KeyToPath,
        ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, SeccompProfile,
        SecretVolumeSource, SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;
use slipway_contract::{DatasetSource, HubAccess, HubRef, ModelSource};

use crate::crd::{HubSettings, KeyRef, ResolvedSource};

/// The user and group that pods run as: `nonroot` of distroless images.
pub const USER: i64 = 65532;
/// Where downloads are kept while a pod lives (`SLIPWAY_CACHE_DIR`).
pub const CACHE: &str = "/slipway/cache";
/// Where the configuration is mounted.
pub const CONFIG: &str = "/slipway/config";
/// Key of the ConfigMap, and name of the file.
pub const CONFIG_FILE: &str = "config.yaml";
/// Where the Hub token is mounted.
pub const TOKEN: &str = "/slipway/token";
/// Folder above mounted sources.
pub const SOURCES: &str = "/slipway/sources";

/// A pod without containers that passes Pod Security `restricted`, with no token of a service account.
pub fn restricted() -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // A volume with many checkpoints would otherwise be walked at each start.
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// The same for its containers: nothing but what a process without privileges may do, on a read-only root.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

/// Labels of every child: what it is part of and who made it. `label` is the kind's own label.
pub fn labels(component: &str, instance: &str, label: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "slipway"),
        ("app.kubernetes.io/instance", instance),
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/managed-by", "slipway-operator"),
        (label, instance),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Metadata of a child of `owner`, in its namespace and owned by it.
pub fn child<K: Resource<DynamicType = ()>>(owner: &K, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: owner.meta().namespace.clone(),
        owner_references: owner_reference(owner).map(|reference| vec![reference]),
        ..ObjectMeta::default()
    }
}

/// The reference by which a child goes with its owner; `None` before the owner was stored.
pub fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    owner.controller_owner_ref(&())
}

/// An environment variable.
pub fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    }
}

/// An environment variable that holds a field of the pod, for instance `metadata.name`.
pub fn field_variable(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: path.into(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// `/tmp` and [`CACHE`], which the read-only root lacks. Both go with the pod.
pub fn scratch() -> (Vec<Volume>, Vec<VolumeMount>) {
    let volume = |name: &str| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    (
        vec![volume("tmp"), volume("cache")],
        vec![mount("tmp", "/tmp", false), mount("cache", CACHE, false)],
    )
}

/// A PersistentVolumeClaim, mounted read-only at `path`.
pub fn claim(role: &str, claim: &str, path: &str) -> (Volume, VolumeMount) {
    (claim_volume(role, claim, true), mount(role, path, true))
}

/// A PersistentVolumeClaim, mounted at `path` to be written to.
pub fn writable_claim(role: &str, claim: &str, path: &str) -> (Volume, VolumeMount) {
    (claim_volume(role, claim, false), mount(role, path, false))
}

fn claim_volume(role: &str, claim: &str, read_only: bool) -> Volume {
    Volume {
        name: role.into(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.into(),
            read_only: read_only.then_some(true),
        }),
        ..Volume::default()
    }
}

/// One key of a ConfigMap as the file of that name in `folder`.
pub fn config_file(role: &str, config_map: &str, key: &str, folder: &str) -> (Volume, VolumeMount) {
    let volume = Volume {
        name: role.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.into(),
            items: Some(vec![KeyToPath {
                key: key.into(),
                path: key.into(),
                mode: None,
            }]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    (volume, mount(role, folder, true))
}

/// Volumes and mounts that a pod collects.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    /// For the pod.
    pub volumes: Vec<Volume>,
    /// For its container.
    pub mounts: Vec<VolumeMount>,
}

impl Mounts {
    /// [`scratch`] space.
    pub fn new() -> Self {
        let (volumes, mounts) = scratch();
        Self { volumes, mounts }
    }

    /// Adds one.
    pub fn add(&mut self, (volume, mount): (Volume, VolumeMount)) {
        self.volumes.push(volume);
        self.mounts.push(mount);
    }

    /// How the pod reaches the Hub; the token's Secret is mounted as a file, so that it is in no environment.
    pub fn hub_access(&mut self, hub: &HubSettings, endpoint: &str) -> HubAccess {
        let token_file = hub.token_secret_ref.as_ref().map(|secret| {
            let volume = Volume {
                name: "token".into(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(secret.name.clone()),
                    // Group-readable: fsGroup gives the file to the pod's group, its owner stays root.
                    default_mode: Some(0o440),
                    items: Some(vec![KeyToPath {
                        key: secret.key.clone(),
                        path: "token".into(),
                        mode: None,
                    }]),
                    optional: None,
                }),
                ..Volume::default()
            };
            self.add((volume, mount("token", TOKEN, true)));
            format!("{TOKEN}/token").into()
        });
        HubAccess {
            endpoint: Some(endpoint.to_owned()),
            token_file,
        }
    }

    /// A resolved model as the pod sees it; a claim is mounted for it.
    pub fn model(&mut self, role: &str, source: &ResolvedSource) -> ModelSource {
        match self.source(role, source) {
            Where::Hub(hub) => ModelSource::Hub(hub),
            Where::Path(path) => ModelSource::Path(path.into()),
        }
    }

    /// A resolved dataset as the pod sees it; a claim or ConfigMap is mounted for it.
    pub fn dataset(
        &mut self,
        source: &ResolvedSource,
        config_map: Option<&KeyRef>,
        url: Option<&str>,
    ) -> DatasetSource {
        if let Some(url) = url {
            return DatasetSource::Url(url.to_owned());
        }
        if let Some(KeyRef { name, key }) = config_map {
            let folder = format!("{SOURCES}/dataset");
            self.add(config_file("dataset", name, key, &folder));
            return DatasetSource::Path(format!("{folder}/{key}").into());
        }
        match self.source("dataset", source) {
            Where::Hub(hub) => DatasetSource::Hub(hub),
            Where::Path(path) => DatasetSource::Path(path.into()),
        }
    }

    fn source(&mut self, role: &str, source: &ResolvedSource) -> Where {
        if let Some(repo) = &source.repo {
            return Where::Hub(HubRef {
                repo: repo.clone(),
                revision: source.commit.clone().unwrap_or_else(|| "main".into()),
            });
        }
        let root = format!("{SOURCES}/{role}");
        self.add(claim(role, source.claim.as_deref().unwrap_or_default(), &root));
        Where::Path(match source.path.as_deref().unwrap_or_default() {
            "" => root,
            path => format!("{root}/{path}"),
        })
    }
}

enum Where {
    Hub(HubRef),
    Path(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_mounted_read_only_and_its_path_is_inside() {
        let mut mounts = Mounts::new();
        let source = ResolvedSource {
            claim: Some("weights".into()),
            path: Some("a/b".into()),
            ..ResolvedSource::default()
        };
        assert_eq!(
            mounts.model("model", &source),
            ModelSource::Path("/slipway/sources/model/a/b".into())
        );
        let mount = mounts.mounts.last().unwrap();
        assert_eq!(
            (mount.mount_path.as_str(), mount.read_only),
            ("/slipway/sources/model", Some(true))
        );
    }

    #[test]
    fn the_token_is_a_file_and_never_a_variable() {
        let mut mounts = Mounts::new();
        let hub: HubSettings =
            serde_json::from_value(serde_json::json!({"tokenSecretRef": {"name": "s"}})).unwrap();
        let access = mounts.hub_access(&hub, "http://hub");
        assert_eq!(
            access.token_file.as_deref(),
            Some(std::path::Path::new("/slipway/token/token"))
        );
        let secret = mounts.volumes.last().unwrap().secret.as_ref().unwrap();
        assert_eq!(secret.items.as_ref().unwrap()[0].key, "token");
    }
}
