//! A model with a head: what trainer and server run.

mod adapters;
mod generate;
mod save;
mod training;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::adapter::Adapter;
use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::head::{Classifier, Pooling};
use crate::linear::Linear;
use crate::param::{Loader, Param};
use crate::pass::{DropoutSeed, Group, Pass, Selection};
use crate::registry::{DecoderConfig, EncoderConfig};
use crate::{Architecture, Batch, ModelError, ModelFiles, ops};

/// What comes after the backbone.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// Scores of the next token (decoders).
    CausalLm,
    /// Scores of the classes, named in order of their ids.
    SequenceClassification {
        /// Names of the classes.
        labels: Vec<String>,
    },
    /// One number a sequence, by a classification head with one output.
    Regression,
    /// One vector a sequence.
    Embedding,
}

/// What the network is loaded for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Answers only.
    Serve,
    /// Gradients can be computed.
    Train,
}

/// How to load a network.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where it runs.
    pub device: Device,
    /// Number type of weights and computation.
    pub dtype: DType,
    /// What for.
    pub mode: Mode,
    /// Draws a missing head's first weights (Train only).
    pub seed: u64,
    /// The base may lack the head of a classifier, since an adapter added later brings it (Serve only; in Train a
    /// missing head is drawn by the seed).
    pub head_from_adapter: bool,
}

/// Names an adapter of a [`Network`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AdapterId(u64);

/// Which adapter each row of a batch goes through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// One entry a row; None: all rows go through the attached LoRA in training, else through the base alone.
    pub adapters: Option<Vec<Option<AdapterId>>>,
}

/// A sum of losses and of how many terms.
#[derive(Clone, Debug)]
pub struct LossSum {
    /// Scalar, F32; carries gradients while training.
    pub sum: Tensor,
    /// Terms in the sum.
    pub count: usize,
}

/// A model with a head.
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    // config.json as it was read.
    config: Value,
    head: Head,
    backbone: Backbone,
    // Scores of the next token; None where the embedding matrix is used, and for other heads.
    output: Option<Param>,
    classifier: Option<Classifier>,
    pooling: Pooling,
    device: Device,
    dtype: DType,
    mode: Mode,
    // Prefix of the backbone's tensors.
    prefix: &'static str,
    // Modules whose weights were drawn because the files had none.
    drawn: Vec<String>,
    // While training.
    dropout: Option<DropoutSeed>,
    attached: Option<Adapter>,
    unfrozen: bool,
    adapters: BTreeMap<AdapterId, Adapter>,
    next_adapter: u64,
}

#[derive(Debug)]
enum Backbone {
    Decoder(Decoder),
    Encoder(Encoder),
}

impl Network {
    /// Builds the network from files. A missing classification head is drawn by the seed in Train, and an error in
    /// Serve (see [`LoadOptions::head_from_adapter`]).
    pub fn load(files: &ModelFiles, head: Head, options: LoadOptions) -> Result<Self, ModelError> {
        let architecture = files.architecture()?;
        let LoadOptions {
            device,
            dtype,
            mode,
            seed,
            head_from_adapter,
        } = options;
        if head == Head::CausalLm && !architecture.is_decoder() {
            return Err(ModelError::WrongTask {
                architecture: architecture.name(),
                task: "CausalLM",
                fitting: vec!["Llama", "Mistral", "Qwen2"],
            });
        }
        let mut loader = Loader {
            source: files.weights(),
            architecture,
            prefix: match head {
                // As AutoModel writes it.
                Head::Embedding => "",
                _ => architecture.backbone_prefix(),
            },
            device: &device,
            dtype,
            init: (mode == Mode::Train).then(|| ChaCha8Rng::seed_from_u64(seed)),
            drawn: Vec::new(),
            linears: 0,
        };
        let backbone = Backbone::load(&mut loader, files.config())?;
        let output = match &backbone {
            Backbone::Decoder(decoder) if head == Head::CausalLm => {
                let shape = [decoder.config.vocab_size, decoder.config.hidden_size];
                (!decoder.config.tie_word_embeddings)
                    .then(|| loader.param("lm_head.weight", &shape))
                    .transpose()?
            }
            _ => None,
        };
        let outputs = match &head {
            Head::SequenceClassification { labels } if labels.len() < 2 => {
                return Err(ModelError::InvalidSetting(format!(
                    "a classifier needs two classes or more, and {} are named; name them in id2label of config.json",
                    labels.len()
                )));
            }
            Head::SequenceClassification { labels } => Some(labels.len()),
            Head::Regression => Some(1),
            Head::CausalLm | Head::Embedding => None,
        };
        let classifier = match outputs {
            Some(outputs) => {
                let partial = head_from_adapter && mode == Mode::Serve;
                let (hidden, dropout) = (backbone.hidden_size(), backbone.classifier_dropout());
                Some(Classifier::load(&mut loader, hidden, outputs, dropout, partial)?)
            }
            None => None,
        };
        let (prefix, drawn) = (loader.prefix, loader.drawn);
        Ok(Self {
            architecture,
            config: files.config().clone(),
            pooling: match head {
                Head::Embedding => Pooling::of(files)?,
                _ => Pooling::default(),
            },
            head,
            backbone,
            output,
            classifier,
            device,
            dtype,
            mode,
            prefix,
            drawn,
            dropout: None,
            attached: None,
            unfrozen: false,
            adapters: BTreeMap::new(),
            next_adapter: 0,
        })
    }

    /// Which architecture it is.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// What comes after the backbone.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Names of the classes: the adapter's where it has a head of its own, else the base's. None without a
    /// classifier.
    pub fn labels(&self, adapter: Option<AdapterId>) -> Option<&[String]> {
        let own = adapter
            .and_then(|id| self.adapters.get(&id))
            .and_then(|adapter| adapter.labels.as_deref());
        match &self.head {
            Head::SequenceClassification { labels } => Some(own.unwrap_or(labels)),
            _ => None,
        }
    }

    /// The longest sequence it can attend to, in tokens.
    pub fn max_sequence_length(&self) -> usize {
        match &self.backbone {
            Backbone::Decoder(decoder) => decoder.config.max_position_embeddings,
            Backbone::Encoder(encoder) => encoder.config.max_sequence_length(),
        }
    }

    /// Size of the vocabulary (rows of the embedding).
    pub fn vocab_size(&self) -> usize {
        match &self.backbone {
            Backbone::Decoder(decoder) => decoder.config.vocab_size,
            Backbone::Encoder(encoder) => encoder.config.vocab_size,
        }
    }

    /// Width of hidden states and embeddings.
    pub fn hidden_size(&self) -> usize {
        self.backbone.hidden_size()
    }

    /// How many weights the network has, adapters not counted.
    pub fn parameters(&self) -> usize {
        let mut count = 0;
        self.visit(&mut |param| count += param.tensor.elem_count());
        count
    }

    /// Last hidden states, after the final norm: [B, T, H].
    pub fn hidden(&self, batch: &Batch, rows: &Rows) -> Result<Tensor, ModelError> {
        let selection = self.select(rows, batch.rows(), batch.columns())?;
        self.run(batch, &self.pass(selection))
    }

    fn run(&self, batch: &Batch, pass: &Pass) -> Result<Tensor, ModelError> {
        self.check_length(batch.longest())?;
        if batch.ids().is_empty() {
            return Err(ModelError::InvalidSetting(
                "the batch has no tokens; give each sequence one at least".into(),
            ));
        }
        match &self.backbone {
            Backbone::Decoder(decoder) => decoder.forward(batch, pass),
            Backbone::Encoder(encoder) => encoder.forward(batch, pass),
        }
    }

    fn check_length(&self, length: usize) -> Result<(), ModelError> {
        let limit = self.max_sequence_length();
        if length > limit {
            return Err(ModelError::SequenceTooLong { length, limit });
        }
        Ok(())
    }

    /// Scores of the next token: [.., H] to [.., V].
    pub fn lm_logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let weight = self.lm_weight(&self.pass(Selection::Base))?;
        Ok(ops::linear(hidden, &weight, None)?)
    }

    fn lm_weight(&self, pass: &Pass) -> Result<Tensor, ModelError> {
        match (&self.head, &self.backbone) {
            (Head::CausalLm, Backbone::Decoder(decoder)) => {
                Ok(self.output.as_ref().unwrap_or(&decoder.embedding).get(pass))
            }
            _ => Err(ModelError::MissingHead {
                head: "language-model head",
            }),
        }
    }

    /// Scores of the classes: [B, L]. All rows' adapters must have the same number of classes.
    pub fn classify(&self, batch: &Batch, rows: &Rows) -> Result<Tensor, ModelError> {
        let base = self.classifier.as_ref().ok_or(ModelError::MissingHead {
            head: "classification head",
        })?;
        let hidden = self.hidden(batch, rows)?;
        let pooled = base.pool(&hidden, batch)?;
        let Some(adapters) = &rows.adapters else {
            let selection = self.attached.as_ref().map_or(Selection::Base, Selection::All);
            return base.forward(&pooled, &self.pass(selection));
        };
        let mut scores = Vec::new();
        let mut places = vec![0u32; batch.rows()];
        let mut done = 0;
        for (id, members) in groups(adapters) {
            let adapter = id.map(|id| self.loaded(id)).transpose()?;
            let classifier = adapter.and_then(|adapter| adapter.head.as_ref()).unwrap_or(base);
            let selection = adapter.map_or(Selection::Base, Selection::All);
            for row in &members {
                places[*row as usize] = done;
                done += 1;
            }
            let index = Tensor::from_vec(members.clone(), members.len(), &self.device)?;
            scores.push(classifier.forward(&pooled.index_select(&index, 0)?, &self.pass(selection))?);
        }
        let classes: Vec<_> = scores.iter().map(|scores| scores.dims()[1]).collect();
        if classes.iter().any(|count| *count != classes[0]) {
            return Err(ModelError::InvalidSetting(
                "rows of one batch go through adapters with different numbers of classes; run them apart"
                    .into(),
            ));
        }
        let places = Tensor::from_vec(places, batch.rows(), &self.device)?;
        Ok(Tensor::cat(&scores, 0)?.index_select(&places, 0)?)
    }

    /// One vector a row, [B, H] in F32: pooled as `1_Pooling/config.json` says (else the mean over tokens) and of unit
    /// length unless `modules.json` leaves normalisation out.
    pub fn embed(&self, batch: &Batch, rows: &Rows) -> Result<Tensor, ModelError> {
        self.pooling.apply(&self.hidden(batch, rows)?, batch)
    }

    fn pass<'a>(&self, selection: Selection<'a>) -> Pass<'a> {
        Pass {
            dropout: self.dropout,
            gradients: self.dropout.is_some(),
            selection,
        }
    }

    fn select(&self, rows: &Rows, count: usize, columns: usize) -> Result<Selection<'_>, ModelError> {
        let Some(adapters) = &rows.adapters else {
            return Ok(self.attached.as_ref().map_or(Selection::Base, Selection::All));
        };
        if adapters.len() != count {
            return Err(ModelError::InvalidSetting(format!(
                "{} adapters are given for {count} rows; give one a row",
                adapters.len()
            )));
        }
        let mut chosen = Vec::new();
        for (id, members) in groups(adapters) {
            let Some(id) = id else { continue };
            let adapter = self.loaded(id)?;
            if members.len() == count {
                return Ok(Selection::All(adapter));
            }
            let columns = columns as u32;
            let tokens: Vec<u32> = members
                .iter()
                .flat_map(|row| row * columns..(row + 1) * columns)
                .collect();
            let length = tokens.len();
            chosen.push(Group {
                adapter,
                tokens: Tensor::from_vec(tokens, length, &self.device)?,
            });
        }
        Ok(if chosen.is_empty() {
            Selection::Base
        } else {
            Selection::Groups(chosen)
        })
    }

    /// Linear layers that may get an adapter: all but the parts of a head that train whole.
    fn linears(&self) -> Vec<&Linear> {
        let mut linears: Vec<&Linear> = match &self.backbone {
            Backbone::Decoder(decoder) => decoder.linears().collect(),
            Backbone::Encoder(encoder) => encoder.linears().collect(),
        };
        let whole = self.whole_modules();
        let head = self.classifier.iter().flat_map(Classifier::linears);
        linears.extend(head.filter(|linear| !is_whole(linear.name(), &whole)));
        linears
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let backbone: Box<dyn Iterator<Item = &mut Linear>> = match &mut self.backbone {
            Backbone::Decoder(decoder) => Box::new(decoder.linears_mut()),
            Backbone::Encoder(encoder) => Box::new(encoder.linears_mut()),
        };
        backbone.chain(self.classifier.iter_mut().flat_map(Classifier::linears_mut))
    }

    /// Modules of the head that train whole beside an adapter.
    fn whole_modules(&self) -> Vec<&'static str> {
        self.classifier
            .as_ref()
            .map(|classifier| classifier.modules_to_save(&self.drawn))
            .unwrap_or_default()
    }

    /// Visits every weight in an order that does not change.
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Param)) {
        match &self.backbone {
            Backbone::Decoder(decoder) => decoder.visit(visit),
            Backbone::Encoder(encoder) => encoder.visit(visit),
        }
        self.output.iter().for_each(&mut *visit);
        for linear in self.classifier.iter().flat_map(Classifier::linears) {
            linear.visit(visit);
        }
    }
}

/// Whether the linear layer `name` is, or is inside, one of `modules`.
fn is_whole(name: &str, modules: &[&str]) -> bool {
    name.split('.').any(|part| modules.contains(&part))
}

/// Rows by adapter, in order of their first appearance.
fn groups(adapters: &[Option<AdapterId>]) -> Vec<(Option<AdapterId>, Vec<u32>)> {
    let mut groups: Vec<(Option<AdapterId>, Vec<u32>)> = Vec::new();
    for (row, id) in adapters.iter().enumerate() {
        match groups.iter_mut().find(|(other, _)| other == id) {
            Some((_, rows)) => rows.push(row as u32),
            None => groups.push((*id, vec![row as u32])),
        }
    }
    groups
}

impl Backbone {
    fn load(loader: &mut Loader, config: &Value) -> Result<Self, ModelError> {
        if loader.architecture.is_decoder() {
            Decoder::load(loader, DecoderConfig::parse(config)?).map(Self::Decoder)
        } else {
            Encoder::load(loader, EncoderConfig::parse(config)?).map(Self::Encoder)
        }
    }

    fn hidden_size(&self) -> usize {
        match self {
            Self::Decoder(decoder) => decoder.config.hidden_size,
            Self::Encoder(encoder) => encoder.config.hidden_size,
        }
    }

    fn classifier_dropout(&self) -> f64 {
        match self {
            Self::Decoder(_) => 0.0,
            Self::Encoder(encoder) => encoder.config.classifier_dropout(),
        }
    }
}
