//! What every controller has at hand. Needs a client.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde::Serialize;
use serde_json::json;
use slipway_hub::Token;

use crate::{
    apply::{self, Child},
    backoff::Backoff,
    conditions::{self, Summary},
    crd::{HubSettings, Kind},
    error::Error,
    model_deployment::scale::watch::Watched,
    names,
    settings::Settings,
    sources,
    telemetry::Metrics,
};

/// Bytes of an event's text: an apiserver refuses more.
const LONGEST_NOTE: usize = 1024;

/// What every controller has at hand.
pub struct Context {
    /// The apiserver.
    pub client: Client,
    /// How this operator was set up.
    pub settings: Settings,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// Waits of objects that failed.
    pub backoff: Backoff,
    /// HTTP client of the trainers' `/progress`.
    pub http: reqwest::Client,
    /// The ModelDeployments with variants that scale.
    pub scaled: Arc<Watched>,
    recorder: Recorder,
    hubs: Mutex<HashMap<String, slipway_hub::Client>>,
}

impl Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// A context for `client`; `instance` names this process in events.
    pub fn new(
        client: Client,
        settings: Settings,
        metrics: Arc<Metrics>,
        instance: Option<String>,
    ) -> Result<Self, reqwest::Error> {
        let reporter = Reporter {
            controller: "slipway-operator".into(),
            instance,
        };
        Ok(Self {
            recorder: Recorder::new(client.clone(), reporter),
            http: reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(1))
                .timeout(Duration::from_secs(3))
                .no_proxy()
                // Pods are asked over plain HTTP; looking for certificates would fail in an image that has none.
                .tls_certs_only([])
                .build()?,
            client,
            settings,
            metrics,
            backoff: Backoff::default(),
            scaled: Arc::default(),
            hubs: Mutex::default(),
        })
    }

    /// Objects of the namespaces looked at.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.settings.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Objects of one namespace.
    pub fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The Hub's address for an object.
    pub fn hub_endpoint<'a>(&'a self, hub: &'a HubSettings) -> &'a str {
        hub.endpoint.as_deref().unwrap_or(&self.settings.hub_endpoint)
    }

    /// A client of an object's Hub. Anonymous ones are kept, since their connections can be used again; one with
    /// a token lives as long as its use.
    pub fn hub(
        &self,
        hub: &HubSettings,
        token: Option<Token>,
    ) -> Result<slipway_hub::Client, slipway_hub::Error> {
        let endpoint = self.hub_endpoint(hub);
        if token.is_some() {
            return slipway_hub::Client::new(endpoint, token);
        }
        let mut hubs = self
            .hubs
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = hubs.get(endpoint) {
            return Ok(client.clone());
        }
        let client = slipway_hub::Client::new(endpoint, None)?;
        hubs.insert(endpoint.to_owned(), client.clone());
        Ok(client)
    }

    /// `object` as the apiserver has it now, since a watch may lag behind our own writes. `None` if it is gone or
    /// another of its name stands there.
    pub async fn live<K: Child>(&self, object: &K) -> Result<Option<K>, Error> {
        let api = self.namespaced::<K>(&object.namespace().unwrap_or_default());
        let live = api
            .get_opt(&object.name_any())
            .await
            .map_err(sources::Error::Api)?;
        Ok(live.filter(|live| live.uid() == object.uid()))
    }

    /// Writes `status` unless the object says it already, then records one event if the transition from
    /// what was told before to `summary` is one.
    pub async fn report<K>(&self, object: &K, status: &K::Status, summary: &Summary) -> Result<(), Error>
    where
        K: Child + Kind,
        K::Status: Serialize + PartialEq,
    {
        if object.status() == Some(status) {
            return Ok(());
        }
        self.tell(object, status).await?;
        if let Some(summary) = conditions::transition(object.conditions(), summary) {
            self.metrics.transitioned(K::NAME, &summary.reason);
            tracing::info!(reason = %summary.reason, message = %summary.message, "transition");
            self.record(object, summary).await;
        }
        Ok(())
    }

    /// Writes `status`, without an event.
    pub async fn tell<K>(&self, object: &K, status: &K::Status) -> Result<(), Error>
    where
        K: Child + Kind,
        K::Status: Serialize,
    {
        apply::apply_status(&self.client, K::MANAGER, object, status)
            .await
            .map_err(Error::Write)?;
        self.metrics.status_written(K::NAME);
        Ok(())
    }

    /// Removes an annotation by which a person asked for something that was carried out, so that it can be set again.
    pub async fn forget<K: Child + Kind>(&self, object: &K, annotation: &str) -> Result<(), Error> {
        let patch = json!({ "metadata": { "uid": object.meta().uid, "annotations": { annotation: null } } });
        let params = PatchParams {
            field_manager: Some(K::MANAGER.into()),
            ..PatchParams::default()
        };
        self.namespaced::<K>(&object.namespace().unwrap_or_default())
            .patch(&object.name_any(), &params, &Patch::Merge(&patch))
            .await
            .map(drop)
            .map_err(Error::Write)
    }

    /// Records an event. One that cannot be written is logged only: the status holds the same words.
    pub async fn record<K: Child>(&self, object: &K, summary: &Summary) {
        let event = event(summary);
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(%error, object = %object.name_any(), "failed to record an event");
        }
    }
}

/// The event of a transition. A recorder takes events of one reason and action for one that repeats, and keeps the text of
/// the first: each text has an action of its own, so that the shares of a rollout, for instance, are all told.
fn event(summary: &Summary) -> Event {
    let note = &summary.message[..summary.message.floor_char_boundary(LONGEST_NOTE)];
    Event {
        type_: if summary.is_warning() {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: summary.reason.clone(),
        action: format!("Reconcile-{}", names::digest(&note)),
        note: Some(note.to_owned()),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_reason_are_one_only_where_their_texts_are() {
        let told = |share: &str| event(&Summary::reconciling("TrafficShifted", share));
        let (ten, again, fifty) = (told("10%"), told("10%"), told("50%"));
        assert_eq!(ten.action, again.action);
        assert_ne!(ten.action, fifty.action);
        assert_eq!((&ten.reason, ten.note.as_deref()), (&fifty.reason, Some("10%")));
    }

    #[test]
    fn a_long_text_is_cut_to_what_an_apiserver_takes() {
        let long = event(&Summary::stalled("RolledBack", format!("a{}", "é".repeat(2000))));
        assert!(long.action.len() <= 128);
        assert_eq!(
            long.note.unwrap().len(),
            1023,
            "a character is whole or not there"
        );
    }
}
