//! The configuration of a server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AdapterSource, HubAccess, ModelSource, Task};

/// `slipway-server --config FILE`; each field has a flag of its own too.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServeConfig {
    /// The name clients put into `model`.
    pub name: String,
    /// The base model, or an adapter whose base is the model it names.
    pub model: ModelSource,
    /// Adapters on top of it, each served under its own name.
    #[serde(default)]
    pub adapters: Vec<AdapterSource>,
    /// What it does. Default: told from the model's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Address to listen on.
    #[serde(default = "listen")]
    pub listen: String,
    /// Bounds on memory and waiting.
    #[serde(default)]
    pub limits: ServeLimits,
    /// How to reach the Hub.
    #[serde(default)]
    pub hub: HubAccess,
}

fn listen() -> String {
    "0.0.0.0:8080".into()
}

/// Bounds on memory and waiting.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServeLimits {
    /// Requests that may wait; one more is answered 429 with `Retry-After`.
    #[schemars(range(min = 1))]
    pub max_queue: u32,
    /// Requests computed together.
    #[schemars(range(min = 1))]
    pub max_batch: u32,
    /// Tokens of prompt and answer together. Default: what the model can attend to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Seconds that requests under way may take to finish after SIGTERM.
    pub drain_seconds: u32,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            max_queue: 256,
            max_batch: 16,
            max_tokens: None,
            drain_seconds: 60,
        }
    }
}
