//! Step of a lineage: reads the objects of a namespace. Needs a client.

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, core::DeserializeGuard};
use serde::de::DeserializeOwned;

use super::{Format, Kind, Lineage, World, text, tree};

/// Why there is no lineage to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster, or one that did not answer.
    #[error(
        "failed to find the cluster; set KUBECONFIG, or choose a context with kubectl config use-context"
    )]
    Cluster(#[source] kube::Error),
    /// Not readable.
    #[error("failed to read {what} in namespace {namespace}; check that you may get and list them")]
    Read {
        /// The plural.
        what: String,
        /// Where.
        namespace: String,
        /// What the apiserver said.
        #[source]
        source: Box<kube::Error>,
    },
    /// Not there.
    #[error("{kind} {name} is not in namespace {namespace}; correct the name, or name its namespace with -n")]
    NotFound {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// A pod of somebody else.
    #[error("Pod {0} is none of Slipway's: it has no slipway.dev label")]
    Foreign(String),
}

/// Reads what `asked` begins with and prints where it comes from.
pub async fn print(asked: &Lineage) -> Result<(), Error> {
    let client = Client::try_default().await.map_err(Error::Cluster)?;
    let namespace = asked
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let start = &asked.start;
    let not_found = || Error::NotFound {
        kind: start.kind.as_str(),
        name: start.name.clone(),
        namespace: namespace.clone(),
    };
    let pod = if start.kind == Kind::Pod {
        let api = Api::<Pod>::namespaced(client.clone(), &namespace);
        let found = api.get_opt(&start.name).await;
        let found = found.map_err(|error| unreadable("pods", &namespace, error))?;
        Some(found.ok_or_else(not_found)?)
    } else {
        None
    };
    let world = World {
        deployments: all(&client, &namespace).await?,
        jobs: all(&client, &namespace).await?,
        runs: all(&client, &namespace).await?,
    };
    let found = tree(start, pod.as_ref(), &world);
    let root = found.ok_or_else(|| match &pod {
        Some(pod) => Error::Foreign(pod.name_any()),
        None => not_found(),
    })?;
    match asked.output {
        Format::Tree => print!("{}", text(&root)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&root).expect("plain data")),
    }
    Ok(())
}

/// All objects of a kind; those of another version of the schema are passed over.
async fn all<K>(client: &Client, namespace: &str) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api = Api::<DeserializeGuard<K>>::namespaced(client.clone(), namespace);
    let listed = api.list(&ListParams::default()).await;
    let listed = listed.map_err(|error| unreadable(&K::plural(&()), namespace, error))?;
    Ok(listed
        .items
        .into_iter()
        .filter_map(|object| object.0.ok())
        .collect())
}

fn unreadable(what: &str, namespace: &str, source: kube::Error) -> Error {
    Error::Read {
        what: what.to_owned(),
        namespace: namespace.to_owned(),
        source: Box::new(source),
    }
}
