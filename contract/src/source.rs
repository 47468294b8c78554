//! Where models come from, as an image sees it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A repository on a Hub at a revision.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubRef {
    /// `owner/name`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"))]
    pub repo: String,
    /// Branch, tag or commit. The operator resolves a branch to a commit once and hands the commit on.
    #[serde(default = "main_branch")]
    #[schemars(length(min = 1, max = 255))]
    pub revision: String,
}

fn main_branch() -> String {
    "main".into()
}

/// Where an image finds a model. A model whose files include `adapter_config.json` is an adapter: its base is
/// the model named there.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::union)]
pub enum ModelSource {
    /// A repository on the Hub.
    Hub(HubRef),
    /// A local directory (`config.json`, safetensors, `tokenizer.json`) or a `.gguf` file.
    Path(PathBuf),
}

/// A named adapter on top of a base model.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdapterSource {
    /// The name clients put into `model`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Where its PEFT files are.
    pub model: ModelSource,
}

/// How to reach the Hub. The token itself never stands in a configuration.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubAccess {
    /// Base URL. Default: the variable `HF_ENDPOINT`, else `https://huggingface.co`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// File that holds the token (a mounted Secret). Default: the variable `HF_TOKEN`, else anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}
