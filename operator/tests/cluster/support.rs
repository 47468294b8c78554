//! A namespace of its own on the cluster of KUBECONFIG, with the CRDs of this checkout.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResourceExt, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
    runtime::{conditions, wait::await_condition},
};
use serde_json::json;
use slipway_operator::{
    context::Context,
    controllers,
    crd::{self, EvalRun, FineTuneJob, ModelDeployment},
    settings::Settings,
    telemetry::Metrics,
};
use tokio::{sync::watch, task::JoinHandle};

/// A namespace of its own.
pub struct Cluster {
    /// The namespace.
    pub namespace: String,
    client: Client,
    /// The metrics of the operator that runs here.
    pub metrics: Arc<Metrics>,
}

impl Cluster {
    /// A new namespace, or `None` (said aloud) where no cluster is given and none is required.
    pub async fn connect(purpose: &str) -> Option<Self> {
        if std::env::var_os("KUBECONFIG").is_none() {
            assert!(
                std::env::var_os("SLIPWAY_REQUIRE_CLUSTER").is_none(),
                "SLIPWAY_REQUIRE_CLUSTER is set, but KUBECONFIG names no cluster"
            );
            eprintln!("SKIPPED: set KUBECONFIG to a cluster (make cluster) to run this test");
            return None;
        }
        let client = Client::try_default()
            .await
            .expect("KUBECONFIG should name a cluster that answers");
        let crds = Api::<CustomResourceDefinition>::all(client.clone());
        for crd in crd::all() {
            let params = PatchParams::apply("slipway-tests").force();
            let name = crd.name_any();
            crds.patch(&name, &params, &Patch::Apply(&crd)).await.unwrap();
            let established = await_condition(crds.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(Duration::from_secs(30), established)
                .await
                .unwrap()
                .unwrap();
        }
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {
            "generateName": format!("test-{purpose}-"),
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }}))
        .unwrap();
        let made = Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        Some(Self {
            namespace: made.name_any(),
            client,
            metrics: Arc::default(),
        })
    }

    /// Objects of one of the kinds, as plain data.
    pub fn dynamic(&self, kind: &str) -> Api<DynamicObject> {
        let resource = match kind {
            "FineTuneJob" => FineTuneJob::api_resource(),
            "EvalRun" => EvalRun::api_resource(),
            "ModelDeployment" => ModelDeployment::api_resource(),
            other => panic!("{other} is none of the kinds"),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Runs the controllers on this namespace until the guard is stopped.
    pub fn operator(&self, hub_endpoint: &str) -> Operator {
        let settings = Settings {
            hub_endpoint: hub_endpoint.into(),
            trainer_image: "slipway.test/never-there:1".into(),
            server_image: "slipway.test/never-there:1".into(),
            image_pull_policy: "Never".into(),
            namespace: Some(self.namespace.clone()),
        };
        let client = self.client.clone();
        let context = Context::new(client, settings, self.metrics.clone(), Some("test".into())).unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let shutdown = async move { drop(stopped.wait_for(|on| *on).await) };
        let shutdown = futures::FutureExt::shared(shutdown);
        let task = tokio::spawn(controllers::run(Arc::new(context), shutdown));
        Operator { stop, task }
    }

    /// Removes the namespace and everything in it.
    pub async fn end(self) {
        let all = Api::<Namespace>::all(self.client.clone());
        all.delete(&self.namespace, &DeleteParams::background())
            .await
            .unwrap();
    }
}

/// Controllers that run inside the test.
#[derive(Debug)]
pub struct Operator {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Operator {
    /// Ends as on SIGTERM: what is under way is finished.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_secs(30), self.task).await;
        ended.expect("the operator should end within 30 s").unwrap();
    }

    /// Ends as on SIGKILL.
    pub fn kill(self) {
        self.task.abort();
    }
}

/// Waits until `object` fulfils `holds`, and says what it was when it does not within a minute.
pub async fn eventually<K>(api: &Api<K>, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K
where
    K: kube::Resource
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let condition = |found: Option<&K>| found.is_some_and(&holds);
    let waiting = await_condition(api.clone(), name, condition);
    if let Ok(found) = tokio::time::timeout(Duration::from_mins(1), waiting).await {
        return found
            .unwrap()
            .expect("the condition holds for an object that is there");
    }
    let last = api.get_opt(name).await.unwrap();
    panic!(
        "waited a minute for: {what}; {name} is {}",
        serde_json::to_string_pretty(&last).unwrap()
    );
}

/// Waits until nothing has written `name` for `still`, and says what wrote when that does not come: a controller in a
/// hot loop never comes to rest.
pub async fn at_rest<K>(api: &Api<K>, name: &str, still: Duration) -> K
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let mut before = api.get(name).await.unwrap();
    for _ in 0..5 {
        tokio::time::sleep(still).await;
        let now = api.get(name).await.unwrap();
        if now.resource_version() == before.resource_version() {
            return now;
        }
        before = now;
    }
    panic!(
        "{name} is still being written: {}",
        serde_json::to_string_pretty(&before).unwrap()
    );
}
