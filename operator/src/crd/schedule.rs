//! When an EvalRun measures again, and what it remembers of each run. Pure: no client.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use slipway_contract::{CardCommit, MetricResult, Verdict};

use super::{common::ResolvedSource, schema::rules};

/// The most runs that a history may keep: a status has to fit into one object.
pub const MAX_HISTORY: u32 = 100;

/// When to measure again. Names and meaning are a CronJob's, with concurrencyPolicy Forbid: a run that is due while
/// one is under way starts after it, and of several that were missed only the latest is made up for.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Minute, hour, day of the month, month and day of the week, for instance `0 3 * * *`; or `@hourly`, `@daily`,
    /// `@weekly`, `@monthly`, `@yearly`. Where both days are given, either one is enough.
    #[schemars(length(min = 1, max = 128), transform = cron_form)]
    pub cron: String,
    /// The time zone that `cron` means, by its IANA name. A time that a change of clocks leaves out runs right after
    /// the change; one that it repeats runs once, and `*` runs in every minute that passes.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+/-]*$"))]
    pub time_zone: String,
    /// How many finished runs `status.history` keeps. Their Jobs go when they leave it.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = MAX_HISTORY))]
    pub history_limit: u32,
    /// Starts no run by itself; one that is under way goes on, and `slipway.dev/run-now` starts one all the same.
    #[serde(default)]
    pub suspend: bool,
    /// Seconds after its time within which a run must have started; then it is left out, or recorded as failed if it
    /// was waiting for something. Default: until the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub starting_deadline_seconds: Option<i64>,
}

fn utc() -> String {
    "Etc/UTC".into()
}

fn twenty() -> u32 {
    20
}

/// The form of five fields with their ranges; what no calendar has (`0 0 31 2 *`) shows in the status.
pub fn cron_pattern() -> String {
    let field = |unit: &str| {
        let part = format!("(({unit})|([*]|({unit})-({unit}))(/[1-9][0-9]?)?)");
        format!("{part}(,{part})*")
    };
    let months = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec";
    let fields = [
        field("[0-5]?[0-9]"),
        field("[01]?[0-9]|2[0-3]"),
        field("0?[1-9]|[12][0-9]|3[01]"),
        field(&format!("0?[1-9]|1[0-2]|{months}")),
        field("[0-7]|sun|mon|tue|wed|thu|fri|sat"),
    ];
    format!(
        "(?i)^(@(hourly|daily|weekly|monthly|yearly|annually)|{})$",
        fields.join(" +")
    )
}

fn cron_form(schema: &mut Schema) {
    rules(
        schema,
        &[(
            &format!("self.matches(r'{}')", cron_pattern()),
            "give five fields (minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7 with 0 and 7 Sunday) of *, \
             numbers, ranges, lists and steps, for instance '0 3 * * *', or one of @hourly, @daily, @weekly, @monthly, \
             @yearly",
        )],
    );
}

/// What started a run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Trigger {
    /// Its time came.
    #[default]
    Schedule,
    /// A person asked with `slipway.dev/run-now`.
    Request,
    /// A person asked with `slipway.dev/run-now=reference`: its figures become what later runs are held against.
    Reference,
}

/// A run that is under way.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveRun {
    /// When it was due, or asked for.
    pub scheduled_time: Time,
    /// What started it.
    #[serde(default)]
    pub trigger: Trigger,
    /// Its Job.
    pub job: String,
    /// Who answers at its start, where a deployment is measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answering: Vec<Answering>,
}

/// A revision that answers for a variant of the deployment that is measured.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answering {
    /// The variant.
    pub variant: String,
    /// Its revision.
    pub revision: String,
    /// The model of that revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ResolvedSource>,
}

/// A run that has ended.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// When it was due, or asked for.
    pub scheduled_time: Time,
    /// What started it.
    #[serde(default)]
    pub trigger: Trigger,
    /// Its Job, for `kubectl logs`.
    pub job: String,
    /// When it ended.
    pub completed_at: Time,
    /// What the figures said against the bounds; none for a run that could not measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Every metric with its interval and the number of examples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<MetricResult>,
    /// Why it could not measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RunFailure>,
    /// The model that was measured; none for a deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ResolvedSource>,
    /// The dataset that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<ResolvedSource>,
    /// Who answered at its start, where a deployment was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answering: Vec<Answering>,
    /// The commit or pull request on the model card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<CardCommit>,
}

/// Why a run could not measure.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RunFailure {
    /// One word.
    pub reason: String,
    /// Cause and fix in one sentence.
    pub message: String,
}
