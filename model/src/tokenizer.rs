//! Text to token ids and back.

mod stream;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use tokenizers::{Encoding, PostProcessor, TruncationDirection};

use crate::ModelFiles;
pub use stream::StreamDecoder;

/// `model_max_length` of tokenizers without a limit is a huge number (1e30); above this it means none.
const NO_LIMIT: f64 = 1e9;

/// Why text cannot be tokenized.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file is not there.
    #[error(
        "{path} is not there; add the model's tokenizer.json (in Python: AutoTokenizer.from_pretrained(model).save_pretrained(directory))"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file is there and no good.
    #[error("failed to read {path}: {message}; download it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The limit leaves no room for text.
    #[error(
        "a limit of {limit} tokens leaves no room beside the {special} special tokens; raise it above {special}"
    )]
    Limit {
        /// Tokens allowed.
        limit: usize,
        /// Special tokens that each text gets.
        special: usize,
    },
    /// The tokenizer failed on an input.
    #[error("failed to {action}: {message}")]
    Run {
        /// What it was doing.
        action: &'static str,
        /// What it said.
        message: String,
    },
}

/// A model's tokenizer with its special tokens.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: BTreeSet<u32>,
    eos_token: Option<u32>,
    pad: Option<u32>,
    max_length: Option<usize>,
    chat_template: Option<String>,
}

/// The documents beside `tokenizer.json` that say what special tokens mean.
#[derive(Debug, Default)]
struct Documents {
    tokenizer_config: Json,
    generation_config: Json,
    config: Json,
    chat_template: Option<String>,
}

/// Tokens with where they came from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each token the bytes of the text it stands for, as start and end; empty for special tokens added.
    pub spans: Vec<(usize, usize)>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `directory`, and what `tokenizer_config.json`, `generation_config.json`, `config.json`
    /// and `chat_template.jinja` say, where they are there.
    pub fn open(directory: &Path) -> Result<Self, TokenizerError> {
        let path = directory.join("tokenizer.json");
        let bytes = read(&path)?.ok_or_else(|| TokenizerError::Missing { path: path.clone() })?;
        let json = |name: &str| -> Result<Json, TokenizerError> {
            let path = directory.join(name);
            let Some(bytes) = read(&path)? else {
                return Ok(Json::Null);
            };
            serde_json::from_slice(&bytes).map_err(|error| damaged(&path, &error))
        };
        let template = directory.join("chat_template.jinja");
        let chat_template = read(&template)?
            .map(|bytes| String::from_utf8(bytes).map_err(|error| damaged(&template, &error)))
            .transpose()?;
        let documents = Documents {
            tokenizer_config: json("tokenizer_config.json")?,
            generation_config: json("generation_config.json")?,
            config: json("config.json")?,
            chat_template,
        };
        Self::assemble(&path, &bytes, documents)
    }

    /// The tokenizer of a model in a directory or a GGUF file.
    pub fn of(files: &ModelFiles) -> Result<Self, TokenizerError> {
        let document = |name: &str| {
            files.document(name).map_err(|error| TokenizerError::Damaged {
                path: files.path().join(name),
                message: error.to_string(),
            })
        };
        let json = |name: &str| -> Result<Json, TokenizerError> {
            let Some(text) = document(name)? else {
                return Ok(Json::Null);
            };
            serde_json::from_str(&text).map_err(|error| damaged(&files.path().join(name), &error))
        };
        let path = files.path().join("tokenizer.json");
        let text =
            document("tokenizer.json")?.ok_or_else(|| TokenizerError::Missing { path: path.clone() })?;
        let documents = Documents {
            tokenizer_config: json("tokenizer_config.json")?,
            generation_config: json("generation_config.json")?,
            config: files.config().clone(),
            chat_template: document("chat_template.jinja")?,
        };
        Self::assemble(&path, text.as_bytes(), documents)
    }

    fn assemble(path: &Path, bytes: &[u8], documents: Documents) -> Result<Self, TokenizerError> {
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| damaged(path, error.as_ref()))?;
        // Files carry the truncation and padding of whoever saved them; lengths are the caller's business.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| damaged(path, error.as_ref()))?;
        let id = |name: &str| inner.token_to_id(special_text(&documents.tokenizer_config[name])?);
        let ids = |name: &str| {
            let mut found = numbers(&documents.generation_config[name]);
            found.extend(numbers(&documents.config[name]));
            found
        };
        let bos = id("bos_token").or_else(|| ids("bos_token_id").first().copied());
        let pad = id("pad_token").or_else(|| ids("pad_token_id").first().copied());
        let eos: BTreeSet<u32> = ids("eos_token_id").into_iter().chain(id("eos_token")).collect();
        let eos_token = id("eos_token").or_else(|| eos.first().copied());
        let max_length = documents.tokenizer_config["model_max_length"]
            .as_f64()
            .filter(|&length| (1.0..NO_LIMIT).contains(&length))
            .map(|length| length as usize);
        let chat_template = documents
            .chat_template
            .or_else(|| template(&documents.tokenizer_config["chat_template"]));
        Ok(Self {
            inner,
            bos,
            eos,
            eos_token,
            pad,
            max_length,
            chat_template,
        })
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text, which [`Self::eos`] has among others.
    pub fn eos_token(&self) -> Option<u32> {
        self.eos_token
    }

    /// The tokens that end an answer.
    pub fn eos(&self) -> &BTreeSet<u32> {
        &self.eos
    }

    /// The token that fills short rows of a batch.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Most tokens the tokenizer's author meant a text to have.
    pub fn max_length(&self) -> Option<usize> {
        self.max_length
    }

    /// The Jinja template that turns a conversation into text, see [`crate::chat`].
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Tokens in the vocabulary, special ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token's text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The text of a token's id, as in the vocabulary (byte-level tokens are not decoded).
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Token ids of `text`. `add_special` adds what the model expects around a text: `[CLS]` and `[SEP]`, a beginning
    /// of text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self
            .inner
            .encode_fast(text, add_special)
            .map_err(|error| run("tokenize", &error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of two texts that belong together, separated as the model expects.
    pub fn encode_pair(
        &self,
        first: &str,
        second: &str,
        add_special: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self
            .inner
            .encode_fast((first, second), add_special)
            .map_err(|error| run("tokenize", &error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of `text`, cut at the end to at most `limit` tokens; special tokens are kept. The second value
    /// says whether it was cut.
    pub fn encode_within(
        &self,
        text: &str,
        add_special: bool,
        limit: usize,
    ) -> Result<(Vec<u32>, bool), TokenizerError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| run("tokenize", &error))?;
        self.finish(encoding, add_special, limit)
    }

    /// [`Self::encode_within`] for many texts, on all cores.
    pub fn encode_batch(
        &self,
        texts: &[&str],
        add_special: bool,
        limit: usize,
    ) -> Result<Vec<(Vec<u32>, bool)>, TokenizerError> {
        self.inner
            .encode_batch_fast(texts.to_vec(), false)
            .map_err(|error| run("tokenize", &error))?
            .into_iter()
            .map(|encoding| self.finish(encoding, add_special, limit))
            .collect()
    }

    fn finish(
        &self,
        mut encoding: Encoding,
        add_special: bool,
        limit: usize,
    ) -> Result<(Vec<u32>, bool), TokenizerError> {
        let special = match self.inner.get_post_processor() {
            Some(processor) if add_special => processor.added_tokens(false),
            _ => 0,
        };
        let room = limit
            .checked_sub(special)
            .filter(|&room| room > 0)
            .ok_or(TokenizerError::Limit { limit, special })?;
        let cut = encoding.len() > room;
        encoding.truncate(room, 0, TruncationDirection::Right);
        let encoding = self
            .inner
            .post_process(encoding, None, add_special)
            .map_err(|error| run("add special tokens", &error))?;
        Ok((encoding.get_ids().to_vec(), cut))
    }

    /// Tokens of `text` with the bytes each stands for.
    pub fn encode_spans(&self, text: &str, add_special: bool) -> Result<Tokens, TokenizerError> {
        let encoding = self
            .inner
            .encode(text, add_special)
            .map_err(|error| run("tokenize", &error))?;
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            spans: encoding.get_offsets().to_vec(),
        })
    }

    /// Text of `ids`. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|error| run("decode", &error))
    }
}

/// The file's bytes, or none where there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(damaged(path, &error)),
    }
}

fn damaged(path: &Path, error: &(impl std::fmt::Display + ?Sized)) -> TokenizerError {
    TokenizerError::Damaged {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

fn run(action: &'static str, error: &tokenizers::Error) -> TokenizerError {
    TokenizerError::Run {
        action,
        message: error.to_string(),
    }
}

/// A special token is written as its text or as an object that holds it.
fn special_text(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

fn numbers(value: &Json) -> Vec<u32> {
    let one = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Json::Array(values) => values.iter().filter_map(one).collect(),
        value => one(value).into_iter().collect(),
    }
}

/// A template is a text, or several with names of which `default` is for plain conversations.
fn template(value: &Json) -> Option<String> {
    match value {
        Json::String(template) => Some(template.clone()),
        Json::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
