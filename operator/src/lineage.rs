//! Lineage: from what runs back to what it was made of, and by what it was judged.
//!
//! `slipway-operator lineage pod/NAME` reads with the caller's own kubeconfig, changes nothing, and prints a tree:
//! pod, revision, model at its commit, the FineTuneJob that made it, the base and the dataset at their commits, and
//! the EvalRuns that measured it. Everything shown stands in a status or a label.

mod read;
mod show;
mod tree;

use std::{collections::BTreeMap, str::FromStr};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::crd::{EvalRun, FineTuneJob, ModelDeployment};

pub use read::{Error, print};
pub use show::text;
pub use tree::tree;

/// What to begin with, and how to show what is found.
#[derive(Args, Debug)]
pub struct Lineage {
    /// What to begin with: pod/NAME, modeldeployment/NAME (mdep), finetunejob/NAME (ftj) or evalrun/NAME (evr).
    pub start: Start,
    /// Its namespace. Default: the one of the kubeconfig's context.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// How to show it.
    #[arg(long, short, default_value = "tree")]
    pub output: Format,
}

/// How to show a lineage.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// A tree for people; commits are cut to twelve digits.
    Tree,
    /// The same in full, for programs.
    Json,
}

/// A kind that a lineage may begin with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A pod of Slipway's.
    Pod,
    /// A ModelDeployment.
    ModelDeployment,
    /// A FineTuneJob.
    FineTuneJob,
    /// An EvalRun.
    EvalRun,
}

impl Kind {
    /// As the API calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::ModelDeployment => "ModelDeployment",
            Self::FineTuneJob => "FineTuneJob",
            Self::EvalRun => "EvalRun",
        }
    }
}

/// The object to begin with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Start {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl FromStr for Start {
    type Err = String;

    /// `kind/name`, the kind as kubectl takes it: singular, plural, short, with or without the group.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} names nothing to begin with; write it like pod/NAME, modeldeployment/NAME, finetunejob/NAME or evalrun/NAME"
            )
        };
        let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
        let kind = kind.to_ascii_lowercase();
        let kind = match kind
            .split_once(".slipway.dev")
            .map_or(kind.as_str(), |(kind, _)| kind)
        {
            "pod" | "pods" | "po" => Kind::Pod,
            "modeldeployment" | "modeldeployments" | "mdep" => Kind::ModelDeployment,
            "finetunejob" | "finetunejobs" | "ftj" => Kind::FineTuneJob,
            "evalrun" | "evalruns" | "evr" => Kind::EvalRun,
            _ => return Err(wrong()),
        };
        if name.is_empty() || name.contains('/') {
            return Err(wrong());
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
        })
    }
}

/// The objects of one namespace.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// What serves.
    pub deployments: Vec<ModelDeployment>,
    /// What trains.
    pub jobs: Vec<FineTuneJob>,
    /// What measures.
    pub runs: Vec<EvalRun>,
}

/// Something that a model comes from or goes to.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// What it is to the node above it; empty for the first one.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub relation: &'static str,
    /// `Pod`, `Revision`, `Model`, `Dataset`, or a kind of Slipway's.
    pub kind: &'static str,
    /// Name of an object, or repository or claim.
    pub name: String,
    /// The commit, 40 hexadecimal digits, of what is on a Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What else is known, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<&'static str, String>,
    /// What it comes from, and what measured it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Node>,
}

#[cfg(test)]
mod tests;
