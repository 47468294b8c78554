//! What the operator keeps of an experiment, in a ConfigMap of its own. Pure: no client.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use serde::{Deserialize, Serialize};
use slipway_contract::experiment::{Ledger, Outcome};

use super::super::desired::{metadata, object_name};
use crate::crd::{ModelDeployment, ResolvedSource};

/// Its key in the ConfigMap: JSON, compressed.
const KEY: &str = "experiment.json.gz";
/// An apiserver takes 1,048,576 bytes.
const LARGEST: usize = 1_000_000;
/// What that may become when it is read: far more than an experiment does, and no more than there is memory for.
const LARGEST_READ: u64 = 64 << 20;

/// An experiment that began.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Its name, in the route table and in what routers count.
    pub id: String,
    /// Hash of what is compared: metric, rule, arms and their revisions. It is another experiment when that changes.
    pub subject: String,
    /// When it began.
    pub started: Timestamp,
    /// The key of its answers' ids, 64 hexadecimal digits. Empty where clients post no scores.
    pub key: String,
    /// What routers counted.
    pub ledger: Ledger,
    /// When this was last written.
    pub written: Timestamp,
    /// The first clear answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concluded: Option<Concluded>,
}

/// The first clear answer. It is kept, whatever is scored later.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Concluded {
    /// When it was found.
    pub at: Timestamp,
    /// Hash of what the spec asked to compare then; while it does, this is the answer.
    pub asked: String,
    /// `trafficPercent` of each variant then.
    pub shares: Vec<u32>,
    /// What each variant served then, where it is known.
    pub models: BTreeMap<String, ResolvedSource>,
    /// The answer.
    pub outcome: Outcome,
}

/// Name of the ConfigMap.
pub fn name(object: &ModelDeployment) -> String {
    format!("{}-experiment", object_name(object))
}

impl Kept {
    /// Reads it back. None where there is none, or something that this operator did not write.
    pub fn read(map: &ConfigMap) -> Option<Self> {
        let packed = &map.binary_data.as_ref()?.get(KEY)?.0;
        serde_json::from_reader(GzDecoder::new(packed.as_slice()).take(LARGEST_READ)).ok()
    }

    /// As a ConfigMap. Where it is too large for one, as of many arms with many users at many routers, the sums of
    /// routers that can be asked again are left out: then a router that ends takes its own with it.
    pub fn write(&self, object: &ModelDeployment) -> ConfigMap {
        let mut packed = pack(self);
        if packed.len() > LARGEST {
            packed = pack(&Self {
                ledger: self.ledger.without_live(),
                ..self.clone()
            });
        }
        ConfigMap {
            metadata: metadata(object, &name(object), "experiment", None),
            binary_data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(packed))])),
            ..ConfigMap::default()
        }
    }
}

fn pack(kept: &Kept) -> Vec<u8> {
    let text = serde_json::to_vec(kept).expect("sums are plain data");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(&text)
        .and_then(|()| encoder.finish())
        .expect("memory takes what is written to it")
}
