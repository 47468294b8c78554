//! The training set: examples as tokens, divided into rows and put into batches.

use sha2::{Digest, Sha256};
use slipway_contract::{Dataset, Failure, FailureReason, Objective, Task, TrainConfig, Validation};
use slipway_model::Batch;
use slipway_model::chat::{self, ChatError, ChatTemplate, Message};
use slipway_model::tokenizer::{Tokenizer, TokenizerError};

use super::packing::pack;
use super::plan::permutation;
use super::shown::{Piece, Shown};
use super::tensors::hex;
use crate::data::{DataError, Example, LabelSet, LabelValue, Layout, Reading, Rejected, Split, read};

/// What the loss ignores, as in transformers.
const IGNORED: i64 = -100;
/// Drawn for the validation split; far from any epoch's number, so that the two draws are independent.
const VALIDATION_STREAM: u64 = u64::MAX;

/// One example as tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sequence {
    ids: Vec<u32>,
    /// For each token whether it is learned (causal LM); empty for classification.
    learned: Vec<bool>,
    /// The class (classification).
    class: u32,
}

/// Examples of one split as tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Corpus {
    task: Task,
    sequences: Vec<Sequence>,
    /// Sequences of each row: one, or several when packed.
    rows: Vec<Vec<usize>>,
}

/// Training and validation.
#[derive(Debug)]
pub(super) struct Corpora {
    pub training: Corpus,
    pub validation: Option<Corpus>,
    /// Names of the classes; empty unless the task is classification.
    pub labels: Vec<String>,
    /// What reading left out or cut, one sentence each.
    pub notes: Vec<String>,
}

/// What goes through the network at once.
#[derive(Debug)]
pub(super) struct MicroBatch {
    pub batch: Batch,
    pub targets: Targets,
    /// Tokens that are not padding.
    pub tokens: u64,
}

/// What the network is to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Targets {
    /// The class of each row.
    Classes(Vec<u32>),
    /// B·T ids in the layout of the batch; −100 is not learned.
    Tokens(Vec<i64>),
}

impl Corpus {
    /// Rows, the unit that batches are made of.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Examples.
    pub fn examples(&self) -> usize {
        self.sequences.len()
    }

    /// A digest of every token and target: two corpora with the same digest train alike.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for sequence in &self.sequences {
            hash.update((sequence.ids.len() as u64).to_le_bytes());
            sequence.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            sequence
                .learned
                .iter()
                .for_each(|&learned| hash.update([u8::from(learned)]));
            hash.update(sequence.class.to_le_bytes());
        }
        hex(&hash.finalize())
    }

    /// The batch of the given rows.
    pub fn batch(&self, rows: &[usize]) -> MicroBatch {
        let sequences = |row: &usize| self.rows[*row].iter().map(|&index| &self.sequences[index]);
        let ids: Vec<Vec<Vec<u32>>> = rows
            .iter()
            .map(|row| sequences(row).map(|sequence| sequence.ids.clone()).collect())
            .collect();
        let batch = Batch::packed(&ids);
        let targets = if self.task == Task::SequenceClassification {
            Targets::Classes(
                rows.iter()
                    .flat_map(sequences)
                    .map(|sequence| sequence.class)
                    .collect(),
            )
        } else {
            let mut labels = Vec::with_capacity(batch.rows() * batch.columns());
            for (number, row) in rows.iter().enumerate() {
                for sequence in sequences(row) {
                    let pairs = sequence.ids.iter().zip(&sequence.learned);
                    labels.extend(pairs.map(|(&id, &learned)| if learned { i64::from(id) } else { IGNORED }));
                }
                labels.resize((number + 1) * batch.columns(), IGNORED);
            }
            Targets::Tokens(labels)
        };
        MicroBatch {
            tokens: batch.tokens() as u64,
            batch,
            targets,
        }
    }
}

/// Reads and tokenizes what `config` names.
pub(super) fn load(config: &TrainConfig, layout: &Layout, tokenizer: &Tokenizer) -> Result<Corpora, Failure> {
    let Objective::Sft(sft) = &config.objective;
    let encoder = Encoder {
        tokenizer,
        template: match tokenizer.chat_template() {
            Some(_) if config.task == Task::CausalLM => {
                Some(ChatTemplate::of(tokenizer).map_err(chat_failure)?)
            }
            _ => None,
        },
        task: config.task,
        limit: config.hyperparameters.max_sequence_length as usize,
        train_on_prompt: sft.train_on_prompt,
    };
    let mut notes = Vec::new();
    let split = layout.split(config.dataset.split.as_deref().unwrap_or("train"))?;
    let mut training = encoder.read(layout, &split, &config.dataset, &mut notes)?;
    let mut validation = match &config.dataset.validation {
        Some(Validation::Split(name)) => {
            Some(encoder.read(layout, &layout.other_split(name)?, &config.dataset, &mut notes)?)
        }
        Some(Validation::Fraction(_)) => None,
        None => match layout.other_split("validation") {
            Ok(other) if other != split => Some(encoder.read(layout, &other, &config.dataset, &mut notes)?),
            _ => None,
        },
    };
    let mut labels = Vec::new();
    if config.task == Task::SequenceClassification {
        let set = match training.declared.take() {
            Some(set) => set,
            None => LabelSet::found(&training.labels, &split.name)?,
        };
        training.classify(&set)?;
        if let Some(first) = training.sequences.first().map(|sequence| sequence.class)
            && training.sequences.iter().all(|sequence| sequence.class == first)
        {
            return Err(DataError::OneClass {
                split: split.name,
                label: set.names()[first as usize].clone(),
            }
            .into());
        }
        if let Some(validation) = &mut validation {
            validation.classify(&set)?;
        }
        labels = set.names().to_vec();
    }
    let pack_to = (sft.packing && config.task == Task::CausalLM).then_some(encoder.limit);
    let (training, validation) = match (&config.dataset.validation, validation) {
        (Some(Validation::Fraction(fraction)), _) => {
            let (training, held_out) = hold_out(
                training.sequences,
                *fraction,
                config.hyperparameters.seed,
                &split.name,
            )?;
            (training, Some(held_out))
        }
        (_, validation) => (training.sequences, validation.map(|encoded| encoded.sequences)),
    };
    Ok(Corpora {
        training: corpus(config.task, training, pack_to),
        // Rows of validation hold one example each: its losses are then those of examples served alone.
        validation: validation.map(|sequences| corpus(config.task, sequences, None)),
        labels,
        notes,
    })
}

fn corpus(task: Task, sequences: Vec<Sequence>, pack_to: Option<usize>) -> Corpus {
    let rows = match pack_to {
        Some(limit) => pack(
            &sequences
                .iter()
                .map(|sequence| sequence.ids.len())
                .collect::<Vec<_>>(),
            limit,
        ),
        None => (0..sequences.len()).map(|index| vec![index]).collect(),
    };
    Corpus {
        task,
        sequences,
        rows,
    }
}

/// Draws `fraction` of the examples, at least one, for validation.
fn hold_out(
    sequences: Vec<Sequence>,
    fraction: f64,
    seed: u64,
    split: &str,
) -> Result<(Vec<Sequence>, Vec<Sequence>), Failure> {
    let count = ((sequences.len() as f64 * fraction) as usize).max(1);
    if count >= sequences.len() {
        return Err(DataError::Empty {
            split: split.to_owned(),
            detail: " beside the one held out for validation".into(),
        }
        .into());
    }
    let mut held = vec![false; sequences.len()];
    for index in permutation(sequences.len(), seed, VALIDATION_STREAM)
        .into_iter()
        .take(count)
    {
        held[index] = true;
    }
    let mut held = held.into_iter();
    Ok(sequences.into_iter().partition(|_| held.next() != Some(true)))
}

/// Examples of a split as tokens, before classes are numbered.
struct Encoded {
    split: String,
    sequences: Vec<Sequence>,
    labels: Vec<LabelValue>,
    declared: Option<LabelSet>,
}

impl Encoded {
    fn classify(&mut self, set: &LabelSet) -> Result<(), DataError> {
        for (sequence, label) in self.sequences.iter_mut().zip(&self.labels) {
            sequence.class = set.id(label, &self.split)?;
        }
        Ok(())
    }
}

/// Turns examples into tokens.
#[derive(Debug)]
pub(crate) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<ChatTemplate>,
    task: Task,
    limit: usize,
    train_on_prompt: bool,
}

impl<'a> Encoder<'a> {
    /// Texts are cut to `limit` tokens; `train_on_prompt` marks prompts as learned too.
    pub(crate) fn new(
        tokenizer: &'a Tokenizer,
        task: Task,
        limit: usize,
        train_on_prompt: bool,
    ) -> Result<Self, Failure> {
        Ok(Self {
            tokenizer,
            template: match tokenizer.chat_template() {
                Some(_) if task == Task::CausalLM => Some(ChatTemplate::of(tokenizer).map_err(chat_failure)?),
                _ => None,
            },
            task,
            limit,
            train_on_prompt,
        })
    }

    /// Token ids of an example, and for each whether it is learned (causal LM).
    pub(crate) fn tokens(&self, example: Example) -> Result<(Vec<u32>, Vec<bool>), Rejected> {
        let (sequence, ..) = self.encode(example)?;
        Ok((sequence.ids, sequence.learned))
    }

    fn read(
        &self,
        layout: &Layout,
        split: &Split,
        dataset: &Dataset,
        notes: &mut Vec<String>,
    ) -> Result<Encoded, Failure> {
        let mut sequences = Vec::new();
        let mut labels = Vec::new();
        let (mut cut, mut empty) = (0u64, 0u64);
        let reading: Reading = read(layout, split, dataset, self.task, &mut |example| {
            let (mut sequence, label, shortened) = self.encode(example)?;
            let shortened = shortened || sequence.ids.len() > self.limit;
            cut += u64::from(shortened);
            sequence.ids.truncate(self.limit);
            sequence.learned.truncate(self.limit);
            // A sequence's first token is predicted from nothing, so it is never learned.
            if self.task == Task::CausalLM && !sequence.learned.iter().skip(1).any(|&learned| learned) {
                empty += 1;
                return Ok(());
            }
            sequences.push(sequence);
            labels.extend(label);
            Ok(())
        })?;
        let name = &split.name;
        if reading.skipped > 0 {
            notes.push(format!(
                "{} malformed rows of split `{name}` were skipped",
                reading.skipped
            ));
        }
        if cut > 0 {
            notes.push(format!(
                "{cut} examples of split `{name}` were cut to {} tokens",
                self.limit
            ));
        }
        if empty > 0 {
            notes.push(format!(
                "{empty} examples of split `{name}` were left out: no token to learn within {} tokens",
                self.limit
            ));
        }
        if sequences.is_empty() {
            return Err(DataError::Empty {
                split: name.clone(),
                detail: format!(" with a token to learn within maxSequenceLength ({})", self.limit),
            }
            .into());
        }
        Ok(Encoded {
            split: name.clone(),
            sequences,
            labels,
            declared: reading.declared,
        })
    }

    /// Tokens, label, and whether the text was cut already.
    fn encode(&self, example: Example) -> Result<(Sequence, Option<LabelValue>, bool), Rejected> {
        let sequence = |ids: Vec<u32>, learned: Vec<bool>| Sequence {
            ids,
            learned,
            class: 0,
        };
        match example {
            Example::Labelled { text, label } => {
                let (ids, cut) = self
                    .tokenizer
                    .encode_within(&text, true, self.limit)
                    .map_err(|error| token_rejected(&error))?;
                Ok((sequence(ids, Vec::new()), Some(label), cut))
            }
            other => {
                let (ids, learned) = match Shown::of(other, self.template.is_some())? {
                    Shown::Pieces(pieces) => self.pieces(&pieces)?,
                    Shown::Conversation(messages) => self.conversation(&messages)?,
                };
                Ok((sequence(ids, learned), None, false))
            }
        }
    }

    fn conversation(&self, messages: &[Message]) -> Result<(Vec<u32>, Vec<bool>), Rejected> {
        let template = self
            .template
            .as_ref()
            .ok_or(ChatError::NoTemplate)
            .map_err(chat_rejected)?;
        if self.train_on_prompt {
            let text = template.render(messages, None, false).map_err(chat_rejected)?;
            let ids = self
                .tokenizer
                .encode(&text, false)
                .map_err(|error| token_rejected(&error))?;
            let learned = vec![true; ids.len()];
            return Ok((ids, learned));
        }
        let masked = chat::encode_conversation(template, self.tokenizer, messages).map_err(chat_rejected)?;
        Ok((masked.ids, masked.learned))
    }

    fn pieces(&self, pieces: &[Piece]) -> Result<(Vec<u32>, Vec<bool>), Rejected> {
        let (mut ids, mut learned) = (Vec::new(), Vec::new());
        for piece in pieces {
            let encoded = self.tokenizer.encode(&piece.text, piece.special);
            ids.extend(encoded.map_err(|error| token_rejected(&error))?);
            learned.resize(ids.len(), self.train_on_prompt || piece.learned);
        }
        self.end(&mut ids);
        learned.resize(ids.len(), true);
        Ok((ids, learned))
    }

    /// Adds the token that ends a text, so that the model learns to stop.
    fn end(&self, ids: &mut Vec<u32>) {
        if let Some(&eos) = self.tokenizer.eos().first()
            && ids.last() != Some(&eos)
        {
            ids.push(eos);
        }
    }
}

fn token_rejected(error: &TokenizerError) -> Rejected {
    Rejected::Fatal(tokenizer_failure(error))
}

/// What a tokenizer's error means for the run.
pub(crate) fn tokenizer_failure(error: &TokenizerError) -> Failure {
    let reason = match error {
        TokenizerError::Limit { .. } => FailureReason::InvalidConfig,
        TokenizerError::Missing { .. } | TokenizerError::Damaged { .. } => FailureReason::InvalidModel,
        TokenizerError::Run { .. } => FailureReason::Internal,
    };
    Failure::new(reason, error.to_string())
}

/// What a chat template's error means for a row.
pub(crate) fn chat_rejected(error: ChatError) -> Rejected {
    match error {
        // What the template says about one conversation is about that row.
        ChatError::Refused { .. } | ChatError::Render { .. } | ChatError::NoAnswer => {
            Rejected::Row(error.to_string())
        }
        other => Rejected::Fatal(chat_failure(other)),
    }
}

fn chat_failure(error: ChatError) -> Failure {
    match error {
        ChatError::Tokenizer(error) => tokenizer_failure(&error),
        other => Failure::new(FailureReason::InvalidModel, other.to_string()),
    }
}
