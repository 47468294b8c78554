//! What is used of the Gateway API's HTTPRoute (`gateway.networking.k8s.io/v1`), so far as it is used. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    CustomResource,
    core::{ApiResource, GroupVersionKind},
};
use serde::{Deserialize, Serialize};

/// Where requests of which Gateways go.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    plural = "httproutes",
    namespaced,
    schema = "disabled",
    status = "HttpRouteStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// The Gateways.
    pub parent_refs: Vec<ParentRef>,
    /// Hosts; none means all of the listener's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// The first that matches decides; a match of more headers comes before one of fewer.
    pub rules: Vec<Rule>,
}

/// A Gateway, or one of its listeners.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    /// The Gateway's name.
    pub name: String,
    /// Its namespace. Default: the route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The listener. Default: all that allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// Requests, and the Services among which they are split.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Any of them; every request where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// The Services.
    pub backend_refs: Vec<BackendRef>,
    /// How long answers may take. Default: as the Gateway sees fit, for Envoy 15 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

/// Bounds on the time of an answer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Timeouts {
    /// Until its last byte; `0s` is none.
    pub request: String,
}

/// A form of request.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Match {
    /// Headers, all of them.
    pub headers: Vec<HeaderMatch>,
}

/// A header and its exact value.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct HeaderMatch {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A Service and its weight among those of its rule.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct BackendRef {
    /// The Service, in the route's namespace.
    pub name: String,
    /// Its port.
    pub port: i32,
    /// At most 1,000,000; 0 for none.
    pub weight: u32,
}

/// What each Gateway's controller says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct HttpRouteStatus {
    /// One for each Gateway that was asked, and each controller that answered.
    pub parents: Vec<RouteParent>,
}

/// What one controller says of one Gateway.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteParent {
    /// The Gateway.
    pub parent_ref: ParentRef,
    /// The controller.
    pub controller_name: String,
    /// Accepted and ResolvedRefs, among others.
    pub conditions: Vec<Condition>,
}

/// The kind Gateway, of which only being there matters here.
pub fn gateway() -> ApiResource {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
    ApiResource::from_gvk_with_plural(&kind, "gateways")
}
