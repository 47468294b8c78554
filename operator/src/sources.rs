//! Shared part of the step `inputs`: what a model or dataset source stands for. Needs a client.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::{Api, Client};
use slipway_contract::{FailureReason, HubRef};
use slipway_hub::license::{self, License};
use slipway_hub::{RepoId, RepoType, Token};

use crate::{
    conditions::{self, Summary, kind},
    context::Context,
    crd::{
        ClaimRef, DatasetRef, FineTuneJob, HubSettings, KeyRef, ModelSource, ResolvedSource, TokenSecretRef,
    },
    names,
};

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The apiserver did not answer, or refused.
    #[error("failed to read what the object refers to")]
    Api(#[from] kube::Error),
}

/// Something an object refers to is not there, or not yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    /// Whether it may come by itself (a job that runs, a Hub that is down); else a person must act.
    pub waits: bool,
    /// One word.
    pub reason: &'static str,
    /// One sentence: what is missing, and what to do.
    pub message: String,
}

impl Missing {
    /// A person must act.
    pub fn needs_action(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            waits: false,
            reason,
            message: message.into(),
        }
    }

    /// It comes by itself.
    pub fn comes(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            waits: true,
            reason,
            message: message.into(),
        }
    }

    /// The same as an object's summary.
    pub fn summary(&self) -> Summary {
        if self.waits {
            Summary::reconciling(self.reason, &*self.message)
        } else {
            Summary::stalled(self.reason, &*self.message)
        }
    }
}

/// Either what was asked for, or what is missing; the outer error is one of the apiserver.
pub type Found<T> = Result<Result<T, Missing>, Error>;

/// Looks up what sources stand for.
#[derive(Clone, Debug)]
pub struct Resolver {
    context: Arc<Context>,
}

impl Resolver {
    /// A resolver that asks with `context`'s clients.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn client(&self) -> &Client {
        &self.context.client
    }

    /// What a model source stands for now: a commit, or a path on a claim.
    pub async fn model(
        &self,
        namespace: &str,
        source: &ModelSource,
        hub: &HubSettings,
    ) -> Found<ResolvedSource> {
        match source {
            ModelSource::Hub(reference) => self.commit(namespace, RepoType::Model, reference, hub).await,
            ModelSource::FineTuneJob(job) => self.fine_tune_job(namespace, &job.name).await,
            ModelSource::Claim(claim) => self.claim(namespace, claim).await,
        }
    }

    /// What a dataset source stands for now.
    pub async fn dataset(
        &self,
        namespace: &str,
        dataset: &DatasetRef,
        hub: &HubSettings,
    ) -> Found<ResolvedSource> {
        if let Some(reference) = &dataset.hub {
            return self.commit(namespace, RepoType::Dataset, reference, hub).await;
        }
        if let Some(claim) = &dataset.claim {
            return self.claim(namespace, claim).await;
        }
        if let Some(key) = &dataset.config_map {
            return self.config_map(namespace, key).await;
        }
        Ok(Ok(ResolvedSource::default()))
    }

    /// Whether the Secret with the token is there. The token itself stays here.
    pub async fn token(&self, namespace: &str, reference: Option<&TokenSecretRef>) -> Found<Option<Token>> {
        let Some(TokenSecretRef { name, key }) = reference else {
            return Ok(Ok(None));
        };
        let Some(secret) = Api::<Secret>::namespaced(self.client().clone(), namespace)
            .get_opt(name)
            .await?
        else {
            return Ok(Err(Missing::needs_action(
                "SecretNotFound",
                format!(
                    "Secret {name} is not in namespace {namespace}; create it with the Hub token under key {key}"
                ),
            )));
        };
        let data = secret.data.unwrap_or_default();
        let Some(value) = data.get(key) else {
            let keys: Vec<&str> = data.keys().map(String::as_str).collect();
            return Ok(Err(Missing::needs_action(
                "SecretKeyNotFound",
                format!(
                    "Secret {name} has no key {key} (it has: {}); add it, or name another in hub.tokenSecretRef.key",
                    listed(&keys)
                ),
            )));
        };
        Ok(match std::str::from_utf8(&value.0).ok().and_then(Token::new) {
            Some(token) => Ok(Some(token)),
            None => Err(Missing::needs_action(
                "SecretKeyEmpty",
                format!("key {key} of Secret {name} is empty or no text; put the Hub token there"),
            )),
        })
    }

    async fn commit(
        &self,
        namespace: &str,
        kind: RepoType,
        reference: &HubRef,
        hub: &HubSettings,
    ) -> Found<ResolvedSource> {
        let token = match self.token(namespace, hub.token_secret_ref.as_ref()).await? {
            Ok(token) => token,
            Err(missing) => return Ok(Err(missing)),
        };
        let asked = async {
            let repo = RepoId::new(kind, &reference.repo)?;
            self.context
                .hub(hub, token)?
                .resolve(&repo, &reference.revision)
                .await
        };
        Ok(match asked.await {
            Ok(info) => Ok(ResolvedSource {
                repo: Some(reference.repo.clone()),
                commit: Some(info.commit),
                ..ResolvedSource::default()
            }),
            Err(error) => Err(unanswered(kind, &error)),
        })
    }

    /// Whether whole weights that derive from `model` may be published: its licence permits it, or `accepted`
    /// names that. What is not on a Hub is for the trainer to ask.
    pub async fn may_publish(
        &self,
        namespace: &str,
        model: &ResolvedSource,
        hub: &HubSettings,
        accepted: Option<&str>,
    ) -> Found<()> {
        let (Some(repo), Some(commit)) = (&model.repo, &model.commit) else {
            return Ok(Ok(()));
        };
        let token = match self.token(namespace, hub.token_secret_ref.as_ref()).await? {
            Ok(token) => token,
            Err(missing) => return Ok(Err(missing)),
        };
        let asked = async {
            let repo = RepoId::model(repo)?;
            self.context.hub(hub, token)?.resolve(&repo, commit).await
        };
        Ok(match asked.await {
            Ok(info) => {
                let license = License::of(|key| info.card_data.get(key).cloned());
                license::may_publish(repo, &license, info.gated, accepted)
                    .map_err(|message| not_accepted(&message))
            }
            Err(error) => Err(unanswered(RepoType::Model, &error)),
        })
    }

    /// What a FineTuneJob left behind: the commit it published, else the output folder on its claim.
    async fn fine_tune_job(&self, namespace: &str, name: &str) -> Found<ResolvedSource> {
        let found = Api::<FineTuneJob>::namespaced(self.client().clone(), namespace)
            .get_opt(name)
            .await?;
        let Some(job) = found else {
            return Ok(Err(Missing::needs_action(
                "FineTuneJobNotFound",
                format!("FineTuneJob {name} is not in namespace {namespace}; create it, or correct the name"),
            )));
        };
        Ok(result_of(name, &job))
    }

    async fn claim(&self, namespace: &str, claim: &ClaimRef) -> Found<ResolvedSource> {
        let ClaimRef { name, path } = claim;
        let found = Api::<PersistentVolumeClaim>::namespaced(self.client().clone(), namespace)
            .get_opt(name)
            .await?;
        Ok(match found {
            Some(_) => Ok(ResolvedSource {
                claim: Some(name.clone()),
                path: (!path.is_empty()).then(|| path.clone()),
                ..ResolvedSource::default()
            }),
            None => Err(Missing::needs_action(
                "ClaimNotFound",
                format!(
                    "PersistentVolumeClaim {name} is not in namespace {namespace}; create it, or correct the name"
                ),
            )),
        })
    }

    async fn config_map(&self, namespace: &str, reference: &KeyRef) -> Found<ResolvedSource> {
        let KeyRef { name, key } = reference;
        let found = Api::<ConfigMap>::namespaced(self.client().clone(), namespace)
            .get_opt(name)
            .await?;
        let Some(map) = found else {
            return Ok(Err(Missing::needs_action(
                "ConfigMapNotFound",
                format!("ConfigMap {name} is not in namespace {namespace}; create it, or correct the name"),
            )));
        };
        let text = map.data.unwrap_or_default();
        let binary = map.binary_data.unwrap_or_default();
        if text.contains_key(key) || binary.contains_key(key) {
            return Ok(Ok(ResolvedSource::default()));
        }
        let keys: Vec<&str> = text.keys().chain(binary.keys()).map(String::as_str).collect();
        Ok(Err(Missing::needs_action(
            "ConfigMapKeyNotFound",
            format!(
                "ConfigMap {name} has no key {key} (it has: {}); add it, or correct the key",
                listed(&keys)
            ),
        )))
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

/// What a FineTuneJob offers to others. Pure.
pub fn result_of(name: &str, job: &FineTuneJob) -> Result<ResolvedSource, Missing> {
    let status = job.status.clone().unwrap_or_default();
    if conditions::is_true(&status.conditions, kind::FAILED) {
        let why = conditions::message(&status.conditions, kind::FAILED).unwrap_or_default();
        return Err(Missing::needs_action(
            "FineTuneJobFailed",
            format!(
                "FineTuneJob {name} failed: {why}; mend it, create it anew, and name the one that succeeds"
            ),
        ));
    }
    if !conditions::is_true(&status.conditions, kind::COMPLETE) {
        let progress = status
            .summary
            .map(|summary| format!(" ({summary})"))
            .unwrap_or_default();
        return Err(Missing::comes(
            "WaitingForFineTuneJob",
            format!("waits for FineTuneJob {name} to complete{progress}"),
        ));
    }
    if let Some(output) = status.output {
        return Ok(ResolvedSource {
            repo: Some(output.repo),
            commit: Some(output.commit),
            ..ResolvedSource::default()
        });
    }
    Ok(ResolvedSource {
        claim: Some(status.claim.unwrap_or_else(|| names::checkpoint_claim(name))),
        path: Some(names::OUTPUT_PATH.into()),
        ..ResolvedSource::default()
    })
}

/// The output of a job cannot change, so what is accepted is said in a new one. Pure.
fn not_accepted(message: &str) -> Missing {
    let message = format!("{message}; output cannot change, so delete this FineTuneJob and create it anew");
    Missing::needs_action("LicenseNotAccepted", message)
}

/// What it means that the Hub did not say what was asked. Pure.
fn unanswered(kind: RepoType, error: &slipway_hub::Error) -> Missing {
    let failure = error.failure(kind);
    let reason = match failure.reason {
        FailureReason::ModelNotFound => "ModelNotFound",
        FailureReason::DatasetNotFound => "DatasetNotFound",
        FailureReason::AccessDenied => "AccessDenied",
        FailureReason::HubUnavailable => "HubUnavailable",
        _ => "HubRequestFailed",
    };
    Missing {
        waits: failure.reason.retryable(),
        reason,
        message: failure.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &str) -> FineTuneJob {
        serde_saphyr::from_str(&format!(
            "metadata: {{name: j, namespace: n}}\n\
             spec: {{model: {{hub: {{repo: a/b}}}}, dataset: {{url: 'http://h/d.csv'}}}}\n\
             status: {status}"
        ))
        .unwrap()
    }

    fn condition(kind: &str, message: &str) -> String {
        format!(
            "{{type: {kind}, status: 'True', reason: R, message: '{message}', lastTransitionTime: '2026-01-01T00:00:00Z'}}"
        )
    }

    #[test]
    fn a_job_under_way_is_waited_for_with_its_progress() {
        let missing = result_of("j", &job("{conditions: [], summary: 45%}")).unwrap_err();
        assert!(missing.waits);
        assert_eq!(missing.message, "waits for FineTuneJob j to complete (45%)");
    }

    #[test]
    fn a_failed_job_needs_a_person_and_its_sentence_is_passed_on() {
        let status = format!("{{conditions: [{}]}}", condition("Failed", "row 7 is malformed"));
        let missing = result_of("j", &job(&status)).unwrap_err();
        assert!(
            !missing.waits && missing.message.contains("row 7 is malformed"),
            "{missing:?}"
        );
    }

    #[test]
    fn a_complete_job_is_its_commit_or_else_its_claim() {
        let done = condition("Complete", "done");
        let published = format!("{{conditions: [{done}], output: {{repo: a/b, commit: c0ffee, url: u}}}}");
        assert_eq!(
            result_of("j", &job(&published)).unwrap().commit.as_deref(),
            Some("c0ffee")
        );
        let kept = result_of("j", &job(&format!("{{conditions: [{done}]}}"))).unwrap();
        assert_eq!(
            (kept.claim.as_deref(), kept.path.as_deref()),
            (Some("j-checkpoints"), Some("output"))
        );
    }

    #[test]
    fn a_licence_that_is_not_accepted_stalls_until_a_person_names_it() {
        let license = |id: &str| License {
            ids: vec![id.into()],
            ..License::default()
        };
        let asked = |license: &License, gated, accepted| {
            license::may_publish("a/base", license, gated, accepted).map_err(|message| not_accepted(&message))
        };
        for (id, gated, words) in [
            ("cc-by-nd-4.0", false, "forbids passing on changed copies"),
            ("apache-2.0", true, "is gated"),
        ] {
            let missing = asked(&license(id), gated, None).unwrap_err();
            assert_eq!(
                missing.summary(),
                Summary::stalled("LicenseNotAccepted", &*missing.message)
            );
            for part in [
                words,
                &format!("set output.acceptLicense: {id}"),
                "delete this FineTuneJob and create it anew",
            ] {
                assert!(missing.message.contains(part), "{part}: {}", missing.message);
            }
            let other = asked(&license(id), gated, Some("mit")).unwrap_err();
            assert!(
                other.message.contains("(output.acceptLicense is mit)"),
                "{other:?}"
            );
            assert_eq!(asked(&license(id), gated, Some(id)), Ok(()));
        }
        assert_eq!(asked(&license("apache-2.0"), false, None), Ok(()));
    }

    #[test]
    fn a_repository_that_is_not_there_needs_a_person_and_a_silent_hub_does_not() {
        let absent = slipway_hub::Error::NotFound {
            repo: RepoId::model("a/b").unwrap(),
            endpoint: "http://hub".into(),
            anonymous: true,
        };
        let missing = unanswered(RepoType::Model, &absent);
        assert_eq!((missing.waits, missing.reason), (false, "ModelNotFound"));
        let silent = slipway_hub::Error::Unavailable {
            endpoint: "http://hub".into(),
            action: "look up".into(),
            attempts: 5,
            message: "refused".into(),
        };
        assert!(unanswered(RepoType::Model, &silent).waits);
    }
}
