//! Types that several kinds share. Pure: no client.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use slipway_contract::{Columns, DataFormat, HubRef, Validation};

use super::schema::{OBJECT_NAME, rules};

/// Where a model comes from: exactly one. A model whose files include `adapter_config.json` is an adapter; its
/// base is the model named there.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = slipway_contract::union)]
pub enum ModelSource {
    /// A model repository on the Hub. A branch is resolved to a commit once, which the status records.
    Hub(HubRef),
    /// What a FineTuneJob of this namespace published or, where it published nothing, left on its claim. It is
    /// waited for.
    FineTuneJob(NamedRef),
    /// A directory (`config.json`, safetensors, `tokenizer.json`) or `.gguf` file on a PersistentVolumeClaim.
    Claim(ClaimRef),
}

/// An object of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct NamedRef {
    /// Its name.
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub name: String,
}

/// A path on a PersistentVolumeClaim of the same namespace, mounted read-only.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ClaimRef {
    /// The claim's name.
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub name: String,
    /// Path inside the volume, relative, without `..`. Default: the volume's root.
    #[serde(default)]
    #[schemars(length(max = 1024), transform = relative)]
    pub path: String,
}

pub(super) fn relative(schema: &mut Schema) {
    rules(
        schema,
        &[(
            "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
            "give a path relative to the volume's root, without '..'",
        )],
    );
}

/// A key of a ConfigMap of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeyRef {
    /// The ConfigMap's name.
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub name: String,
    /// The key; its ending (`.jsonl`, `.csv`) tells the format unless `format` does.
    #[schemars(regex(pattern = r"^[-._a-zA-Z0-9]+$"), length(min = 1, max = 253))]
    pub key: String,
}

/// Examples and what their columns mean: exactly one of hub, claim, configMap and url.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = one_source)]
pub struct DatasetRef {
    /// A dataset repository on the Hub. A branch is resolved to a commit once, which the status records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubRef>,
    /// A file, or a directory laid out as a dataset repository, on a PersistentVolumeClaim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimRef>,
    /// A key of a ConfigMap, for small data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
    /// A file over HTTP(S), fetched by the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https?://[^/@]+(/.*)?$"), length(max = 2048))]
    pub url: Option<String>,
    /// Which split to read. Default: `train` for training, `test` for evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub split: Option<String>,
    /// File format. Default: told from the file's ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<DataFormat>,
    /// Names of the columns; those left out are guessed from the usual names.
    #[serde(default)]
    pub columns: Columns,
    /// Held-out examples for evaluation while training. Default: the dataset's `validation` split, where it has
    /// one, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// Reads at most this many examples, from the first on. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_u64))]
    pub max_examples: Option<u64>,
    /// How many malformed rows may be skipped before the job fails. Default 0: the first one fails it, named by
    /// file and line.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub max_invalid_rows: u64,
}

fn one_source(schema: &mut Schema) {
    rules(
        schema,
        &[(
            "[has(self.hub), has(self.claim), has(self.configMap), has(self.url)].filter(x, x).size() == 1",
            "set exactly one of: hub, claim, configMap, url",
        )],
    );
}

/// How the object's pods reach the Hub.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HubSettings {
    /// Base URL. Default: the operator's `--hub-endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https?://[^/@]+(/.*)?$"), length(max = 2048))]
    pub endpoint: Option<String>,
    /// A Secret that holds the token; needed for private and gated repositories and for publishing. Default:
    /// anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<TokenSecretRef>,
}

/// A key of a Secret of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub struct TokenSecretRef {
    /// The Secret's name.
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub name: String,
    /// The key that holds the token.
    #[serde(default = "token_key")]
    #[schemars(regex(pattern = r"^[-._a-zA-Z0-9]+$"), length(min = 1, max = 253))]
    pub key: String,
}

fn token_key() -> String {
    "token".into()
}

/// What a container may use, in the words of a Pod.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Resources {
    /// The most it may use, for instance `memory: 8Gi` or `nvidia.com/gpu: 1`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// What the scheduler sets aside. Default: the limits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}

impl Resources {
    /// The same in Kubernetes' own type.
    pub fn to_api(&self) -> k8s_openapi::api::core::v1::ResourceRequirements {
        let map = |amounts: &BTreeMap<String, Quantity>| {
            (!amounts.is_empty()).then(|| {
                amounts
                    .iter()
                    .map(|(name, amount)| (name.clone(), amount.to_api()))
                    .collect()
            })
        };
        k8s_openapi::api::core::v1::ResourceRequirements {
            limits: map(&self.limits),
            requests: map(&self.requests),
            claims: None,
        }
    }

    /// How many GPUs a pod gets: the sum over every resource called `…/gpu`.
    pub fn gpus(&self) -> u64 {
        self.limits
            .iter()
            .filter(|(name, _)| name.ends_with("/gpu"))
            .filter_map(|(_, amount)| amount.0.parse::<u64>().ok())
            .sum()
    }
}

/// An amount of a resource, as Kubernetes writes it: `500m`, `2Gi`, `4`. A bare number is accepted too, which
/// k8s-openapi's own type refuses.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize)]
pub struct Quantity(pub String);

impl Quantity {
    /// The same in Kubernetes' own type.
    pub fn to_api(&self) -> ApiQuantity {
        ApiQuantity(self.0.clone())
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(i64),
            Text(String),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Whole(number) => number.to_string(),
            Written::Text(text) => text,
        }))
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        })
    }
}

/// What a source was resolved to; every pod, card and event of the object uses this.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedSource {
    /// `owner/name` on the Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The commit, 40 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The PersistentVolumeClaim that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Path inside the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}
