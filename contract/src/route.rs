//! What the router splits by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `slipway-router --routes FILE`. The file is watched: a new table takes effect without a restart.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTable {
    /// The arms. Weights need not add up to 100: they are shares of their sum.
    pub variants: Vec<RouteVariant>,
    /// Keeps a client on one arm. Default: each request is drawn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

/// One arm.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
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
