//! The step that writes: children by forced server-side apply, status, and nothing that is already so. Needs a
//! client.

use std::fmt::Debug;

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The apiserver refused or did not answer.
    #[error("failed to {action} {kind} {name}")]
    Api {
        /// `read`, `apply`, `create`, `patch`, `delete`.
        action: &'static str,
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
        /// What the apiserver said.
        source: Box<kube::Error>,
    },
    /// An object of the child's name belongs to somebody else.
    #[error(
        "{kind} {name} exists already and belongs to {owner}; delete or rename it, or choose another metadata.name"
    )]
    Foreign {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
        /// Whom it belongs to.
        owner: String,
    },
}

impl ApplyError {
    /// Whether the apiserver does not know the kind `K`. An object that is not there is no error of reading or
    /// applying; 404 for these means that nothing answers at the kind's path.
    pub fn unknown_kind<K: Child>(&self) -> bool {
        let Self::Api {
            action, kind, source, ..
        } = self
        else {
            return false;
        };
        let missing = matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404);
        missing && ["read", "apply"].contains(action) && *kind == K::kind(&())
    }

    /// What the apiserver answered when it refused the content (HTTP 422 or 403), which trying again cannot mend.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Foreign { .. } => Some(self.to_string()),
            Self::Api {
                kind, name, source, ..
            } => match source.as_ref() {
                kube::Error::Api(status) if matches!(status.code, 403 | 422) => {
                    Some(format!("{kind} {name} was refused: {}", status.message))
                }
                _ => None,
            },
        }
    }
}

/// Kinds that can be a child.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
}
impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
{
}

/// Writes the children of one object.
#[derive(Clone)]
pub struct Applier<'a> {
    client: &'a Client,
    namespace: &'a str,
    manager: &'a str,
    owner: OwnerReference,
}

impl Debug for Applier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier")
            .field("namespace", &self.namespace)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl<'a> Applier<'a> {
    /// Writes as `manager` on behalf of `owner`, whose children carry it as their controller.
    pub fn new(client: &'a Client, namespace: &'a str, manager: &'a str, owner: OwnerReference) -> Self {
        Self {
            client,
            namespace,
            manager,
            owner,
        }
    }

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// The child of this name, if it is there and ours.
    pub async fn get<K: Child>(&self, name: &str) -> Result<Option<K>, ApplyError> {
        let live = self
            .api::<K>()
            .get_opt(name)
            .await
            .map_err(failed::<K>("read", name))?;
        live.map(|child| self.ours(child)).transpose()
    }

    fn ours<K: Child>(&self, child: K) -> Result<K, ApplyError> {
        let controller = child
            .owner_references()
            .iter()
            .find(|owner| owner.controller == Some(true));
        if controller.is_some_and(|found| found.uid == self.owner.uid) {
            return Ok(child);
        }
        Err(ApplyError::Foreign {
            kind: K::kind(&()).into_owned(),
            name: child.name_any(),
            owner: controller.map_or_else(
                || "no other object".into(),
                |found| format!("{} {}", found.kind, found.name),
            ),
        })
    }

    /// Brings the child into being or back into shape. Nothing is written when the live child has everything
    /// that `desired` says already, so that a settled object costs no writes.
    pub async fn ensure<K: Child>(&self, desired: &K) -> Result<K, ApplyError> {
        let name = desired.name_any();
        let manifest = manifest(desired, &self.owner);
        let live = self.get::<K>(&name).await?;
        if let Some(live) = live.filter(|live| contains(&plain(live), &manifest)) {
            return Ok(live);
        }
        self.api::<K>()
            .patch(
                &name,
                &PatchParams::apply(self.manager).force(),
                &Patch::Apply(&manifest),
            )
            .await
            .map_err(failed::<K>("apply", &name))
    }

    /// Creates the child unless it is there; what is there is returned as it is. For kinds whose content must
    /// not be applied again (a Job's template cannot change).
    pub async fn create_once<K: Child>(&self, desired: &K) -> Result<K, ApplyError> {
        let name = desired.name_any();
        if let Some(live) = self.get::<K>(&name).await? {
            return Ok(live);
        }
        let mut child: K = desired.clone();
        child.meta_mut().owner_references = Some(vec![self.owner.clone()]);
        let params = PostParams {
            field_manager: Some(self.manager.into()),
            ..PostParams::default()
        };
        match self.api::<K>().create(&params, &child).await {
            // Somebody was faster: most likely this operator, before it was restarted.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let live = self
                    .api::<K>()
                    .get(&name)
                    .await
                    .map_err(failed::<K>("read", &name))?;
                self.ours(live)
            }
            result => result.map_err(failed::<K>("create", &name)),
        }
    }

    /// Merges `change` into a child, when it says something new.
    pub async fn adjust<K: Child>(&self, live: K, change: &Value) -> Result<K, ApplyError> {
        if contains(&plain(&live), change) {
            return Ok(live);
        }
        let name = live.name_any();
        let params = PatchParams {
            field_manager: Some(self.manager.into()),
            ..PatchParams::default()
        };
        self.api::<K>()
            .patch(&name, &params, &Patch::Merge(change))
            .await
            .map_err(failed::<K>("patch", &name))
    }

    /// Deletes a child and, in the background, what belongs to it. One that is gone already is fine.
    pub async fn delete<K: Child>(&self, name: &str) -> Result<(), ApplyError> {
        match self.api::<K>().delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => result.map(drop).map_err(failed::<K>("delete", name)),
        }
    }
}

fn failed<K: Child>(action: &'static str, name: &str) -> impl FnOnce(kube::Error) -> ApplyError + use<K> {
    let name = name.to_owned();
    move |source| ApplyError::Api {
        action,
        kind: K::kind(&()).into_owned(),
        name,
        source: Box::new(source),
    }
}

fn plain<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("an object is plain data")
}

/// What is applied: `desired` with its kind and its owner.
fn manifest<K: Child>(desired: &K, owner: &OwnerReference) -> Value {
    let mut value = plain(desired);
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(K::kind(&()));
    value["metadata"]["ownerReferences"] = json!([owner]);
    value
}

/// Whether `live` says everything that `desired` says; what it says beyond that (defaults, other managers) does
/// not matter. Null in `desired` means absent. Lists must have as many items, since a shorter one of ours can be
/// a removal.
pub fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            desired.iter().all(|(key, wanted)| match live.get(key) {
                Some(found) => contains(found, wanted),
                None => wanted.is_null() || empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live
                    .iter()
                    .zip(desired)
                    .all(|(live, desired)| contains(live, desired))
        }
        (live, desired) => live == desired,
    }
}

/// The apiserver drops empty maps and lists.
fn empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Writes the status of `object` by server-side apply. The uid keeps it from landing on a namesake that was
/// created since.
pub async fn apply_status<K, S>(
    client: &Client,
    manager: &str,
    object: &K,
    status: &S,
) -> Result<(), kube::Error>
where
    K: Child,
    S: Serialize,
{
    let api: Api<K> = Api::namespaced(
        client.clone(),
        object.meta().namespace.as_deref().unwrap_or_default(),
    );
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.meta().name, "uid": object.meta().uid },
        "status": status,
    });
    let params = PatchParams::apply(manager).force();
    api.patch_status(&object.name_any(), &params, &Patch::Apply(&patch))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_apiserver_are_no_reason_to_write() {
        let live = json!({"spec": {"a": 1, "defaulted": true, "list": [{"x": 1, "y": 2}]}, "status": {}});
        assert!(contains(
            &live,
            &json!({"spec": {"a": 1, "list": [{"x": 1}], "none": null, "empty": {}}})
        ));
    }

    #[test]
    fn a_difference_is() {
        let live = json!({"spec": {"a": 1, "list": [1, 2]}});
        for desired in [
            json!({"spec": {"a": 2}}),
            json!({"spec": {"b": 1}}),
            json!({"spec": {"list": [1]}}),
            json!({"spec": {"list": [1, 3]}}),
        ] {
            assert!(!contains(&live, &desired), "{desired}");
        }
    }
}
