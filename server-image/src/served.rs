//! A loaded model as handlers see it: its names, its tokenizer, its limits, and the way to its engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipway_contract::Task;
use slipway_model::AdapterId;
use slipway_model::chat::ChatTemplate;
use slipway_model::tokenizer::Tokenizer;
use tokio::sync::{mpsc, oneshot};

use crate::engine::{Engine, encoding, generation};
use crate::error::ApiError;
use crate::openai::Input;

/// A name that clients may put into `model`.
#[derive(Clone, Debug)]
pub struct Name {
    /// The name.
    pub name: Arc<str>,
    /// The adapter behind it; none for the base alone.
    pub adapter: Option<AdapterId>,
    /// The name or repository of the base, for an adapter.
    pub parent: Option<String>,
    /// Where the weights come from: `owner/name@commit`, or a path.
    pub root: String,
    /// Names of the classes, for a classifier.
    pub labels: Arc<[String]>,
}

/// A loaded model.
#[derive(Debug)]
pub struct Served {
    /// What it does.
    pub task: Task,
    /// Its names, the configured one first.
    pub names: Vec<Name>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How conversations become text; the sentence says why there is none.
    pub chat: Result<ChatTemplate, String>,
    /// Tokens of prompt and answer together.
    pub max_tokens: usize,
    /// Tokens there are.
    pub vocabulary: usize,
    /// Numbers in an embedding.
    pub width: usize,
    /// Changes whenever another answer may come out for the same seed: weights or version.
    pub fingerprint: String,
    /// Seconds since 1970 when it was loaded.
    pub created: u64,
    /// The way to the compute thread.
    pub engine: Engine,
    /// Requests computed together.
    pub max_batch: usize,
}

impl Served {
    /// The base or adapter that a request names.
    pub fn name(&self, asked: &str) -> Result<&Name, ApiError> {
        self.names
            .iter()
            .find(|name| &*name.name == asked)
            .ok_or_else(|| {
                let there: Vec<&str> = self.names.iter().map(|name| &*name.name).collect();
                ApiError {
                    param: Some("model".into()),
                    ..ApiError::not_found(format!(
                        "the model {asked:?} is not served here; served are {}",
                        there.join(", ")
                    ))
                    .code("model_not_found")
                }
            })
    }

    /// The name a request gave, or the configured one.
    pub fn name_or_default(&self, asked: Option<&str>) -> Result<&Name, ApiError> {
        match asked {
            Some(asked) => self.name(asked),
            None => self
                .names
                .first()
                .ok_or_else(|| ApiError::internal("the server has no model")),
        }
    }

    /// Refuses requests for what another kind of model does.
    pub fn needs(&self, task: Task, endpoint: &str) -> Result<(), ApiError> {
        if self.task == task {
            return Ok(());
        }
        let (does, instead) = match self.task {
            Task::CausalLM => ("continues text", "/v1/chat/completions or /v1/completions"),
            Task::SequenceClassification => ("classifies text", "/predict"),
            Task::Embedding => ("embeds text", "/v1/embeddings"),
        };
        Err(ApiError::body(format!(
            "{endpoint} is not for this model, which {does} (task {:?}); use {instead}, or serve it with another --task",
            self.task
        ))
        .code("wrong_task"))
    }

    /// Token ids of an input, which must leave `room` tokens of the context free.
    pub fn tokens(&self, param: &str, input: &Input, room: usize) -> Result<Vec<u32>, ApiError> {
        let ids = match input {
            Input::Text(text) => self.encode(text, true)?,
            Input::Tokens(ids) => {
                if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocabulary) {
                    return Err(ApiError::invalid(
                        param,
                        format!(
                            "{param} has the token id {id}, but the vocabulary ends at {}",
                            self.vocabulary - 1
                        ),
                    ));
                }
                ids.clone()
            }
        };
        self.fits(param, ids.len(), room)?;
        Ok(ids)
    }

    /// Token ids of a text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, ApiError> {
        self.tokenizer
            .encode(text, add_special)
            .map_err(|error| ApiError::internal(error.to_string()))
    }

    /// Refuses what is empty or too long for the model.
    pub fn fits(&self, param: &str, tokens: usize, room: usize) -> Result<(), ApiError> {
        if tokens == 0 {
            return Err(ApiError::invalid(
                param,
                format!("{param} is empty: it has no tokens; send some text"),
            ));
        }
        let limit = self.max_tokens;
        if tokens.saturating_add(room) > limit {
            let wanted = if room == 0 {
                String::new()
            } else {
                format!(" and the answer asks for {room} more")
            };
            return Err(ApiError::invalid(
                param,
                format!("{param} has {tokens} tokens{wanted}, but the model takes {limit}; shorten it"),
            )
            .code("context_length_exceeded"));
        }
        Ok(())
    }

    /// Hands sequences to the compute thread.
    pub fn generate(&self, sequences: Vec<generation::Sequence>) -> Result<(), ApiError> {
        let Engine::Generation(queue) = &self.engine else {
            return Err(ApiError::internal("the engine does not generate"));
        };
        queue
            .push(generation::Request(sequences))
            .map_err(|_| self.busy())
    }

    /// Has texts embedded or classified: a vector of `width` numbers each.
    pub async fn compute(
        &self,
        name: &Name,
        texts: Vec<Vec<u32>>,
        width: usize,
        arrived: Instant,
    ) -> Result<Vec<Vec<f32>>, ApiError> {
        let Engine::Encoding(queue) = &self.engine else {
            return Err(ApiError::internal("the engine does not encode"));
        };
        let (reply, answer) = oneshot::channel();
        let (model, adapter) = (name.name.clone(), name.adapter);
        queue
            .push(encoding::Request {
                model,
                adapter,
                width,
                texts,
                reply,
                arrived,
            })
            .map_err(|_| self.busy())?;
        answer
            .await
            .unwrap_or_else(|_| Err(ApiError::internal("the compute thread ended")))
    }

    fn busy(&self) -> ApiError {
        let waiting = self.engine.waiting();
        // Without a model of how long requests take: one second for each batch that waits.
        let batches = waiting.div_ceil(self.max_batch.max(1)) as u64;
        ApiError::busy(waiting, batches.clamp(1, 60))
    }
}

/// Where a request's events arrive.
pub type Events = mpsc::UnboundedReceiver<(usize, generation::Event)>;

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
