//! Low-rank adapters beside the weights of a network.

mod peft;

use candle_core::{DType, Device, Tensor, Var};
use slipway_contract::Lora;

use crate::ModelError;
use crate::head::Classifier;
use crate::linear::Linear;
use crate::param::{Param, uniform};

pub(crate) use peft::{AdapterFiles, PeftConfig, TaskType};

/// An adapter of a whole network.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub name: String,
    /// By the index of the linear layer.
    loras: Vec<Option<LowRank>>,
    /// Probability of dropping an input, while training.
    pub dropout: f64,
    /// A head of its own.
    pub head: Option<Classifier>,
    /// Names of that head's classes.
    pub labels: Option<Vec<String>>,
    /// As attached; None when it was loaded to serve.
    pub settings: Option<Lora>,
}

/// W + scale·B·A.
#[derive(Debug)]
pub(crate) struct LowRank {
    /// [rank, inputs].
    pub a: Param,
    /// [outputs, rank].
    pub b: Param,
    pub scale: f64,
}

/// alpha / rank, or alpha / √rank.
pub(crate) fn scale(alpha: f64, rank: usize, rank_stabilised: bool) -> f64 {
    let rank = rank as f64;
    alpha / if rank_stabilised { rank.sqrt() } else { rank }
}

impl Adapter {
    /// The update of the linear layer with this index.
    pub fn lora(&self, site: usize) -> Option<&LowRank> {
        self.loras.get(site)?.as_ref()
    }

    /// A new LoRA to train: A uniform as PEFT draws it (Kaiming, a = √5: ±1/√inputs), B zero, both F32 whatever the weights
    /// are, for the moments of AdamW need the precision.
    ///
    /// `linears` are those that may get an adapter; `targets` the defaults of the architecture.
    pub fn attach(
        lora: &Lora,
        linears: &[&Linear],
        targets: &[&str],
        seed: u64,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let chosen = choose(lora, linears, targets)?;
        let rank = lora.rank as usize;
        if rank == 0 {
            return Err(ModelError::InvalidSetting(
                "the LoRA rank is 0; set it to 1 or more".into(),
            ));
        }
        if !(0.0..1.0).contains(&lora.dropout) {
            return Err(ModelError::InvalidSetting(format!(
                "the LoRA dropout is {}; set it to at least 0 and below 1",
                lora.dropout
            )));
        }
        let sites = linears.iter().map(|linear| linear.site + 1).max().unwrap_or(0);
        let mut loras: Vec<Option<LowRank>> = (0..sites).map(|_| None).collect();
        for linear in chosen {
            let (outputs, inputs) = linear.dims();
            let a = uniform(
                seed,
                linear.site as u64 + 1,
                (rank, inputs),
                1.0 / (inputs as f64).sqrt(),
            )?;
            let b = Tensor::zeros((outputs, rank), DType::F32, device)?;
            let param = |part: &str, tensor: &Tensor| -> Result<Param, ModelError> {
                Ok(Param {
                    name: format!("base_model.model.{}.lora_{part}.weight", linear.name()),
                    tensor: Var::from_tensor(tensor)?.as_tensor().clone(),
                })
            };
            loras[linear.site] = Some(LowRank {
                a: param("A", &a.to_device(device)?)?,
                b: param("B", &b)?,
                scale: scale(lora.alpha, rank, lora.rs_lora),
            });
        }
        Ok(Self {
            name: String::new(),
            loras,
            dropout: lora.dropout,
            head: None,
            labels: None,
            settings: Some(lora.clone()),
        })
    }

    /// A and B of every layer, in order.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        self.loras.iter().flatten().flat_map(|lora| [&lora.a, &lora.b])
    }
}

/// The last parts of the linear layers' names, each once.
fn short_names(linears: &[&Linear]) -> Vec<String> {
    let mut names: Vec<String> = linears
        .iter()
        .map(|linear| linear.name().rsplit('.').next().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Whether PEFT would take `target` for the module `name`: the name itself, or its end from a dot on.
fn matches(name: &str, target: &str) -> bool {
    name == target || name.strip_suffix(target).is_some_and(|stem| stem.ends_with('.'))
}

/// Targets as they are written into `adapter_config.json`.
fn targets(lora: &Lora, linears: &[&Linear], defaults: &[&str]) -> Vec<String> {
    match lora.target_modules.as_slice() {
        [] => defaults.iter().map(|target| (*target).to_owned()).collect(),
        [all] if all == "all-linear" => short_names(linears),
        named => named.to_vec(),
    }
}

fn choose<'a>(lora: &Lora, linears: &[&'a Linear], defaults: &[&str]) -> Result<Vec<&'a Linear>, ModelError> {
    let targets = targets(lora, linears, defaults);
    for target in &targets {
        if !linears.iter().any(|linear| matches(linear.name(), target)) {
            return Err(ModelError::UnknownTarget {
                target: target.clone(),
                known: short_names(linears),
            });
        }
    }
    Ok(linears
        .iter()
        .copied()
        .filter(|linear| targets.iter().any(|target| matches(linear.name(), target)))
        .collect())
}
