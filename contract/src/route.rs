//! What the router splits by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `slipway-router --routes FILE`. The file is watched: a new table takes effect without a restart.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTable {
    /// The arms. Weights need not add up to 100: they are shares of their sum.
    pub variants: Vec<RouteVariant>,
    /// Keeps a client on one arm, and there on one revision. Default: each request is drawn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Chosen by whoever writes the table; `/stats` says which table is in force.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The counters of `/stats` start from zero whenever this changes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub window: String,
    /// What is being found out about the arms. While it is here, what the split routes is counted for `/stats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<RouteExperiment>,
    /// One arm gets a copy of what the others answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<RouteMirror>,
    /// Takes what clients say of each revision's answers, for `/stats`. While it is here, an answer's id is for that, and
    /// not for an experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<RouteFeedback>,
}

/// Clients post scores to `/v1/feedback`, which count for the revision that answered.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RouteFeedback {
    /// 64 hexadecimal digits that no client knows: every router that has them takes the ids that any of them gave out,
    /// and a client cannot invent one.
    pub key: String,
}

/// Copies of requests for an arm, whose answers to them nobody gets.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteMirror {
    /// The arm: its own revision gets them, not its canary.
    pub variant: String,
    /// Share of the other arms' requests, 0–100.
    pub percent: u32,
}

/// A comparison of the arms by a score of each request that the split sends to one of them. The arms are compared
/// while each has a weight above 0 and a ready server; of fewer than two, nothing is counted.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteExperiment {
    /// Its counts start from zero whenever this, the metric, or the arms' names or order change.
    pub id: String,
    /// What a request scores.
    pub metric: ExperimentMetric,
    /// 64 hexadecimal digits that no client knows, for `feedbackScore`: every router that has them takes the ids
    /// that any of them gave out, and a client cannot invent one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
}

/// What a request scores; more is better. Exactly one.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::union)]
pub enum ExperimentMetric {
    /// What its client posts to `/v1/feedback`: a number from 0 to 1.
    FeedbackScore(FeedbackScore),
    /// 1 where the last byte of its answer came in time; 0 where it did not, or the answer was an error.
    LatencyWithin(Within),
    /// 1 where the first byte of its answer's body came in time; 0 where it did not, or the answer was an error.
    FirstByteWithin(Within),
    /// 1 where its answer was whole and had a status below 500, else 0.
    Success(Success),
}

/// Feedback has no settings of its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackScore {}

/// Success has no settings of its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Success {}

/// A bound on a duration.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// From the head of the request, above 0.
    pub seconds: f64,
}

/// One arm.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteVariant {
    /// Its name: in metrics, and what `x-slipway-variant` asks for.
    pub name: String,
    /// Its share of traffic; 0 takes only requests that ask for it by name.
    pub weight: u32,
    /// `http://host:port`. Every address that `host` resolves to is a server of this arm, probed by itself.
    pub url: String,
    /// Which revision answers, for metrics and the response header `x-slipway-revision`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// A revision that is being rolled in beside `revision`, inside this arm's share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<RouteCanary>,
    /// Requests wait here while no server of the arm is ready, as one that is scaled to zero has none. Default: they
    /// go to the other arms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// How requests wait for the first server of their arm.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// The longest that one waits, above 0. After that it is answered with 503.
    pub seconds: u32,
    /// The most that wait in one router at a time, above 0. More are answered with 503 at once.
    pub limit: u32,
}

/// A revision on trial inside an arm.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteCanary {
    /// `http://host:port`, as the arm's own.
    pub url: String,
    /// Its name in metrics and `x-slipway-revision`; not that of the arm's other revision.
    pub revision: String,
    /// Share of the arm's requests that it answers, 0–100; above 0 all of them while the arm has no other ready
    /// server. At 0, where it may not have been evaluated yet, it takes only requests that ask for it by
    /// `x-slipway-revision`.
    pub percent: u32,
    /// Share of the arm's other requests that are sent to it as well, answers discarded, 0–100.
    #[serde(default)]
    pub mirror_percent: u32,
}

/// What identifies a client: exactly one.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::union)]
pub enum Sticky {
    /// The value of this request header. Requests without it are drawn anew.
    Header(String),
    /// The value of this cookie, which the router sets when a client has none.
    Cookie(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_the_optional_fields_is_written_as_it_is_read() {
        let text = r#"{"variants":[{"name":"a","weight":1,"url":"http://h:1"}]}"#;
        let table: RouteTable = serde_json::from_str(text).unwrap();
        assert_eq!((table.version.as_str(), table.window.as_str()), ("", ""));
        assert_eq!((&table.variants[0].canary, &table.experiment), (&None, &None));
        assert_eq!(table.variants[0].hold, None);
        assert_eq!(serde_json::to_string(&table).unwrap(), text);
    }

    #[test]
    fn an_experiment_has_exactly_one_metric() {
        for (metric, read) in [
            (
                r#"{"feedbackScore":{}}"#,
                ExperimentMetric::FeedbackScore(FeedbackScore {}),
            ),
            (r#"{"success":{}}"#, ExperimentMetric::Success(Success {})),
            (
                r#"{"latencyWithin":{"seconds":0.5}}"#,
                ExperimentMetric::LatencyWithin(Within { seconds: 0.5 }),
            ),
            (
                r#"{"firstByteWithin":{"seconds":2.0}}"#,
                ExperimentMetric::FirstByteWithin(Within { seconds: 2.0 }),
            ),
        ] {
            let text = format!(r#"{{"id":"e1","metric":{metric}}}"#);
            let experiment: RouteExperiment = serde_json::from_str(&text).unwrap();
            assert_eq!((experiment.metric, experiment.key.as_str()), (read, ""));
            assert_eq!(serde_json::to_string(&experiment).unwrap(), text);
        }
        for wrong in [
            r#"{"id":"e1","metric":{}}"#,
            r#"{"id":"e1","metric":{"success":{},"feedbackScore":{}}}"#,
            r#"{"id":"e1","metric":{"latencyWithin":{}}}"#,
            r#"{"metric":{"success":{}}}"#,
        ] {
            assert!(serde_json::from_str::<RouteExperiment>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_canary_is_read_in_full_and_nothing_beside_it() {
        let text = r#"{"url":"http://h:1","revision":"r2","percent":10}"#;
        let canary: RouteCanary = serde_json::from_str(text).unwrap();
        assert_eq!((canary.percent, canary.mirror_percent), (10, 0));
        for wrong in [
            r#"{"revision":"r2","percent":10}"#,
            r#"{"url":"http://h:1","percent":10}"#,
            r#"{"url":"http://h:1","revision":"r2"}"#,
            r#"{"url":"http://h:1","revision":"r2","percent":10,"mirror":5}"#,
        ] {
            assert!(serde_json::from_str::<RouteCanary>(wrong).is_err(), "{wrong}");
        }
    }
}
