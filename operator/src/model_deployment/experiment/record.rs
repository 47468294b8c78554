//! Step: writes a winner into the model card. Needs a client; when to try is pure.

use std::{sync::Arc, time::Duration as Span};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use slipway_contract::{CardCommit, ModelCardRecord, experiment::Decision};
use slipway_hub::{
    Client, Error, Operation, Reader, RepoId,
    card::{Card, CardError},
};

use super::{Course, card::Facts, passed};
use crate::{
    backoff::ceiling,
    conditions::{Standing, Summary},
    context::Context,
    crd::{ExperimentStatus, ModelDeployment, RecordFailure},
    runner::chain,
    sources::Resolver,
};

/// What one try may take: other steps of the object wait for it.
const LIMIT: Span = Span::from_secs(20);
/// Waits double from 4 s to 5 min.
const SHORTEST: u32 = 2;
const CARD: &str = "README.md";

/// Whether there is something to write down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// No winner, or nowhere to tell, or it was told.
    Never,
    /// Not before so long.
    In(Span),
    /// Now.
    Now,
}

/// Whether the winner of `course` is to be written down.
pub fn due(object: &ModelDeployment, course: &Course, now: Timestamp) -> Due {
    let Some((status, record)) = wanted(object, course) else {
        return Due::Never;
    };
    match (&status.recorded, &status.record_failure) {
        (Some(done), _) if done.repo == record.repo => Due::Never,
        (_, Some(failure)) => {
            let wait = ceiling(failure.attempts.saturating_add(SHORTEST));
            match wait.saturating_sub(passed(failure.at.0, now)) {
                Span::ZERO => Due::Now,
                rest => Due::In(rest),
            }
        }
        (_, None) => Due::Now,
    }
}

fn wanted<'a>(
    object: &'a ModelDeployment,
    course: &'a Course,
) -> Option<(&'a ExperimentStatus, &'a ModelCardRecord)> {
    let record = object.spec.experiment.as_ref()?.record.as_ref()?;
    let status = course.status.as_ref()?;
    (status.verdict == Some(Decision::Winner)).then_some((status, &record.model_card))
}

/// Writes it down, once: what is there already makes no commit, so a try whose end nobody saw may be repeated. What
/// the status says then, and an event where that is news.
pub async fn record(
    context: &Arc<Context>,
    object: &ModelDeployment,
    course: &Course,
    now: Timestamp,
) -> Option<(ExperimentStatus, Option<Summary>)> {
    let (status, card) = wanted(object, course)?;
    let facts = Facts {
        object,
        spec: object.spec.experiment.as_ref()?,
        id: status.id.as_deref()?,
        answer: course.concluded.as_ref()?,
    };
    let tried = tokio::time::timeout(LIMIT, write(context, &facts, card)).await;
    let failed = format!(
        "the Hub took longer than {} s; it is tried again",
        LIMIT.as_secs()
    );
    Some(told(status, tried.unwrap_or(Err(failed)), now))
}

/// What the status says after a try. Pure.
pub fn told(
    status: &ExperimentStatus,
    tried: Result<CardCommit, String>,
    now: Timestamp,
) -> (ExperimentStatus, Option<Summary>) {
    let mut status = status.clone();
    match tried {
        Ok(commit) => {
            let message = format!("the winner stands in the card of {}: {}", commit.repo, commit.url);
            status.recorded = Some(commit);
            status.record_failure = None;
            let event = Summary::new(Standing::Ready, "ExperimentRecorded", message);
            (status, Some(event))
        }
        Err(message) => {
            let attempts = status
                .record_failure
                .as_ref()
                .map_or(0, |failure| failure.attempts);
            let event = (attempts == 0).then(|| Summary::stalled("RecordFailed", &*message));
            status.record_failure = Some(RecordFailure {
                message,
                attempts: attempts.saturating_add(1),
                at: Time(now),
            });
            (status, event)
        }
    }
}

async fn write(
    context: &Arc<Context>,
    facts: &Facts<'_>,
    record: &ModelCardRecord,
) -> Result<CardCommit, String> {
    let hub = &facts.object.spec.hub;
    let namespace = facts.object.namespace().unwrap_or_default();
    let token = Resolver::new(context.clone())
        .token(&namespace, hub.token_secret_ref.as_ref())
        .await
        .map_err(|error| chain(&error))?
        .map_err(|missing| missing.message)?;
    let client = context.hub(hub, token).map_err(|error| chain(&error))?;
    publish(&client, facts, record)
        .await
        .map_err(|error| chain(&error))
}

/// Commits a winner to the card, or opens a pull request.
pub async fn publish(
    client: &Client,
    facts: &Facts<'_>,
    record: &ModelCardRecord,
) -> Result<CardCommit, Error> {
    let repo = RepoId::model(&record.repo)?;
    let told = |commit, url| CardCommit {
        repo: record.repo.clone(),
        commit,
        url,
    };
    let change = |reader: Reader| async move {
        let old = reader.read(CARD).await?.unwrap_or_default();
        let card = String::from_utf8(old.to_vec()).map_err(|_| CardError::Invalid {
            message: "the file is not UTF-8".into(),
        })?;
        let mut card = Card::parse(&card)?;
        card.set_section(&facts.section_name(), &facts.section());
        Ok(vec![
            Operation::add(CARD, card.to_string()),
            Operation::add(facts.path(), facts.data()),
        ])
    };
    let summary = facts.summary();
    let done = if record.pull_request {
        let run = format!("experiment {}", facts.id);
        client.propose(&repo, "main", &summary, &run, change).await?
    } else {
        client.update(&repo, "main", &summary, false, change).await?
    };
    Ok(told(done.commit, done.pull_request_url.unwrap_or(done.url)))
}
