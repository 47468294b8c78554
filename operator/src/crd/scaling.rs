//! How many pods a variant has, by how many requests it has. Pure: no client.

use std::time::Duration as Span;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Duration;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::schema::{duration, rules};

/// Pods by the requests that are under way or wait for a pod, as the routers count them.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = scaling_rules)]
pub struct Scaling {
    /// Fewest pods. At 0 the variant has none once no request came for `scaleDownDelay`; the next one is held until
    /// a pod answers.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: i32,
    /// Most pods.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Requests at a time that one pod is there for. With more, there is another pod.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 100_000))]
    pub target_requests: u32,
    /// A pod goes once it was not needed for so long. Default 5m.
    #[serde(default = "five_minutes")]
    #[schemars(transform = duration)]
    pub scale_down_delay: Duration,
    /// Without any pod, a request is held for so long at most; then it is answered with 503 and Retry-After.
    /// Default 2m.
    #[serde(default = "two_minutes")]
    #[schemars(transform = duration)]
    pub hold_timeout: Duration,
}

fn one() -> i32 {
    1
}

fn eight() -> u32 {
    8
}

fn five_minutes() -> Duration {
    Span::from_mins(5).into()
}

fn two_minutes() -> Duration {
    Span::from_mins(2).into()
}

fn scaling_rules(schema: &mut Schema) {
    rules(
        schema,
        &[
            (
                "(has(self.minReplicas) ? self.minReplicas : 1) <= (has(self.maxReplicas) ? self.maxReplicas : 1)",
                "set maxReplicas to minReplicas or more",
            ),
            (
                "!has(self.holdTimeout) || (duration(self.holdTimeout) >= duration('1s') && \
                 duration(self.holdTimeout) <= duration('1h'))",
                "set holdTimeout to a time from 1s to 1h",
            ),
        ],
    );
}

/// How many pods a variant is to have, and since when fewer would do.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingStatus {
    /// Pods that it is to have.
    pub desired_replicas: i32,
    /// Since when fewer pods would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_since: Option<Time>,
    /// The most that were needed since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_peak: Option<i32>,
}
