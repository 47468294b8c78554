//! How a ModelDeployment is reached through a Gateway. Pure: no client.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::schema::{OBJECT_NAME, rules};

/// Gateways (`gateway.networking.k8s.io/v1`) whose requests an HTTPRoute named after the ModelDeployment splits.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRoute {
    /// The Gateways that take requests. They must allow routes of this namespace.
    #[schemars(length(min = 1, max = 8))]
    pub parent_refs: Vec<GatewayRef>,
    /// Hosts, for instance `chat.example.com` or `*.example.com`. Default: all of the Gateway's listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = HOST)))]
    pub hostnames: Vec<String>,
}

const HOST: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A Gateway, or one of its listeners.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// The Gateway's name.
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub name: String,
    /// Its namespace. Default: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 63))]
    pub namespace: Option<String>,
    /// The listener. Default: each that allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub section_name: Option<String>,
}

/// What an HTTPRoute cannot carry is refused, with what to do instead.
pub(super) fn traffic_rules(schema: &mut Schema) {
    rules(
        schema,
        &[(
            "!has(self.gateway) || !has(self.sticky)",
            "remove sticky or gateway: an HTTPRoute has no standard way to keep a client on one arm; to have both, leave \
             gateway out and let an HTTPRoute of your own send everything to the Service of this name",
        )],
    );
}

/// The same for what belongs to other parts of the spec.
pub(super) fn spec_rules(schema: &mut Schema) {
    rules(
        schema,
        &[
            (
                "!has(self.traffic) || !has(self.traffic.gateway) || !has(self.strategy) || \
                 !has(self.strategy.canary) || self.strategy.canary.steps.all(s, !has(s.mirror))",
                "remove mirror steps or traffic.gateway: the router copies requests, and those through an HTTPRoute pass by \
                 it; the other steps work with it",
            ),
            (
                "!has(self.traffic) || !has(self.traffic.gateway) || !has(self.strategy) || \
                 !has(self.strategy.canary) || self.strategy.canary.steps.all(s, !has(s.analysis) || \
                 s.analysis.metrics.all(m, !has(m.name) || m.name != 'feedbackScore'))",
                "remove the analysis of feedbackScore or traffic.gateway: scores are posted for answers of the router, \
                 and servers know errors and times only",
            ),
            (
                "!has(self.traffic) || !has(self.traffic.gateway) || !has(self.experiment)",
                "remove experiment or traffic.gateway: requests through an HTTPRoute pass by the router, which counts them",
            ),
            (
                "!has(self.traffic) || !has(self.traffic.gateway) || (!has(self.traffic.mirror) && \
                 self.variants.all(v, !has(v.scaling)))",
                "remove traffic.mirror and scaling, or traffic.gateway: the router copies, counts and holds requests, and \
                 those through an HTTPRoute pass by it; set replicas instead",
            ),
            (
                "!has(self.traffic) || !has(self.traffic.gateway) || self.variants.size() <= 7",
                "use at most 7 variants with traffic.gateway: an HTTPRoute has no room for the rules of more",
            ),
        ],
    );
}
