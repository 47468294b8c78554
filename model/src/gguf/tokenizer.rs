//! `tokenizer.json` and `tokenizer_config.json` from GGUF metadata.
//!
//! GGUF names a pre-tokenizer by its model family only; what each family does stands in llama.cpp's `llama-vocab.cpp`
//! and, in our terms, in the families' own `tokenizer.json`.

use serde_json::{Map, Value as Json, json};

use super::header::Value;
use super::{Gguf, spm};
use crate::ModelError;

/// Split by Llama 3 and Qwen 2; they differ in how many digits go together.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

/// What a family of byte-pair tokenizers does before merging.
struct Family {
    pre_tokenizer: Json,
    normalizer: Json,
    /// A word that is a token is taken whole, whatever the merges say.
    ignore_merges: bool,
    /// The beginning-of-text token is put first unless the file says otherwise.
    add_bos: bool,
}

fn split(pattern: &str) -> Json {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

fn byte_level(use_regex: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

fn sequence(steps: &[Json]) -> Json {
    json!({"type": "Sequence", "pretokenizers": steps})
}

fn family(name: &str) -> Option<Family> {
    let plain = |pre_tokenizer| Family {
        pre_tokenizer,
        normalizer: Json::Null,
        ignore_merges: false,
        add_bos: false,
    };
    Some(match name {
        // Every digit by itself.
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            plain(sequence(&[
                json!({"type": "Digits", "individual_digits": true}),
                byte_level(true),
            ]))
        }
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" => plain(byte_level(true)),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" => Family {
            ignore_merges: true,
            add_bos: true,
            ..plain(sequence(&[split(LLAMA3), byte_level(false)]))
        },
        "qwen2" | "deepseek-r1-qwen" => Family {
            normalizer: json!({"type": "NFC"}),
            ..plain(sequence(&[split(QWEN2), byte_level(false)]))
        },
        "default" => plain(sequence(&[
            split(r"[\p{P}\$\+<=>\^~\|]+"),
            split(GPT2),
            split(r"\p{N}+"),
            split("[0-9][0-9][0-9]"),
            byte_level(false),
        ])),
        _ => return None,
    })
}

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

impl Gguf {
    /// The content of `tokenizer.json`, in the format of the `tokenizers` library.
    pub fn tokenizer_json(&self) -> Result<Json, ModelError> {
        let tokens = self.tokens()?;
        let model = self.text("tokenizer.ggml.model")?;
        let unknown = self.token_text("unknown", &tokens)?;
        let (add_bos, parts) = match model {
            "gpt2" => {
                let name = self.find_text("tokenizer.ggml.pre").unwrap_or("default");
                let family = family(name).ok_or_else(|| {
                    Self::unsupported(
                        format!("the pre-tokenizer {name}"),
                        "smollm, starcoder, gpt-2, llama-bpe, qwen2 and their kin",
                    )
                })?;
                (family.add_bos, self.byte_pairs(&tokens, family)?)
            }
            "llama" => (true, self.sentence_pieces(&tokens, unknown)?),
            other => {
                return Err(Self::unsupported(
                    format!("the tokenizer {other}"),
                    "gpt2 and llama",
                ));
            }
        };
        let add_bos = self.find_bool("tokenizer.ggml.add_bos_token").unwrap_or(add_bos);
        let add_eos = self.find_bool("tokenizer.ggml.add_eos_token").unwrap_or(false);
        let post_processor = self.post_processor(&tokens, add_bos, add_eos)?;
        let Parts {
            model,
            normalizer,
            pre_tokenizer,
            decoder,
        } = parts;
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(&tokens),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": post_processor.unwrap_or_else(|| match model["byte_fallback"] {
                Json::Bool(true) => Json::Null,
                _ => byte_level(true),
            }),
            "decoder": decoder,
            "model": model,
        }))
    }

    /// The content of `tokenizer_config.json`.
    pub fn tokenizer_config(&self) -> Result<Json, ModelError> {
        let tokens = self.tokens()?;
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".into(), json!(false));
        config.insert("model_max_length".into(), json!(self.count("context_length")?));
        for (name, key) in [
            ("bos", "bos"),
            ("eos", "eos"),
            ("unk", "unknown"),
            ("pad", "padding"),
        ] {
            if let Some(token) = self.token_text(key, &tokens)? {
                config.insert(format!("{name}_token"), json!(token));
            }
        }
        if let Some(template) = self.chat_template() {
            config.insert("chat_template".into(), json!(template));
        }
        Ok(Json::Object(config))
    }

    /// The Jinja template that turns a conversation into text.
    pub fn chat_template(&self) -> Option<&str> {
        self.find_text("tokenizer.chat_template")
    }

    fn list(&self, key: &str) -> Result<&[Value], ModelError> {
        match self.get(key) {
            Some(Value::List(values)) => Ok(values),
            _ => Err(self.missing(key, "a list")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<&str>, ModelError> {
        self.list(key)?
            .iter()
            .map(|value| match value {
                Value::Text(text) => Ok(text.as_str()),
                _ => Err(self.missing(key, "a list of texts")),
            })
            .collect()
    }

    fn tokens(&self) -> Result<Vec<&str>, ModelError> {
        let tokens = self.texts("tokenizer.ggml.tokens")?;
        let mut seen = std::collections::HashSet::with_capacity(tokens.len());
        match tokens.iter().find(|token| !seen.insert(**token)) {
            Some(twice) => Err(self.damaged(format!("its vocabulary has the token {twice:?} twice"))),
            None => Ok(tokens),
        }
    }

    /// The text of the special token whose number is in `tokenizer.ggml.{key}_token_id`.
    fn token_text<'a>(&self, key: &str, tokens: &[&'a str]) -> Result<Option<&'a str>, ModelError> {
        let Some(id) = self.find_unsigned(&format!("tokenizer.ggml.{key}_token_id")) else {
            return Ok(None);
        };
        match tokens.get(id as usize) {
            Some(token) => Ok(Some(token)),
            None => Err(self.damaged(format!(
                "its {key} token is number {id}, but the vocabulary has {} tokens",
                tokens.len()
            ))),
        }
    }

    fn added_tokens(&self, tokens: &[&str]) -> Vec<Json> {
        let Ok(kinds) = self.list("tokenizer.ggml.token_type") else {
            return Vec::new();
        };
        let kind = |value: &Value| match value {
            Value::Signed(kind) => *kind,
            Value::Unsigned(kind) => *kind as i64,
            _ => 0,
        };
        tokens
            .iter()
            .zip(kinds)
            .enumerate()
            .filter(|(_, (_, value))| matches!(kind(value), CONTROL | USER_DEFINED))
            .map(|(id, (token, value))| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": kind(value) == CONTROL,
                })
            })
            .collect()
    }

    fn byte_pairs(&self, tokens: &[&str], family: Family) -> Result<Parts, ModelError> {
        let merges = self
            .texts("tokenizer.ggml.merges")?
            .into_iter()
            .enumerate()
            .map(|(index, merge)| {
                // A byte-level token never holds a space itself.
                merge
                    .split_once(' ')
                    .filter(|(left, right)| !left.is_empty() && !right.is_empty())
                    .ok_or_else(|| self.damaged(format!("its merge {index}, {merge:?}, is not two tokens")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Parts {
            model: json!({
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": family.ignore_merges, "vocab": vocabulary(tokens), "merges": merges,
            }),
            normalizer: family.normalizer,
            pre_tokenizer: family.pre_tokenizer,
            decoder: byte_level(true),
        })
    }

    fn sentence_pieces(&self, tokens: &[&str], unknown: Option<&str>) -> Result<Parts, ModelError> {
        let key = "tokenizer.ggml.scores";
        let scores = self
            .list(key)?
            .iter()
            .map(|value| match value {
                Value::Float(score) => Ok(*score),
                _ => Err(self.missing(key, "a list of numbers")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if scores.len() != tokens.len() {
            return Err(self.damaged(format!(
                "it has {} tokens but {} scores",
                tokens.len(),
                scores.len()
            )));
        }
        let prefix = self.find_bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
        let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": spm::SPACE});
        let normalizer = if prefix {
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": spm::SPACE}, spaces]})
        } else {
            spaces
        };
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": spm::SPACE}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        Ok(Parts {
            model: json!({
                "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                "vocab": vocabulary(tokens), "merges": spm::merges(tokens, &scores),
            }),
            normalizer,
            pre_tokenizer: Json::Null,
            decoder: json!({"type": "Sequence", "decoders": decoders}),
        })
    }

    fn post_processor(&self, tokens: &[&str], bos: bool, eos: bool) -> Result<Option<Json>, ModelError> {
        if !bos && !eos {
            return Ok(None);
        }
        let special = |key: &str| -> Result<&str, ModelError> {
            let key_id = format!("tokenizer.ggml.{key}_token_id");
            self.token_text(key, tokens)?
                .ok_or_else(|| self.missing(&key_id, "a number"))
        };
        let before = bos.then(|| special("bos")).transpose()?;
        let after = eos.then(|| special("eos")).transpose()?;
        let side = |sequence: &str, number: u32| {
            let token = |id| json!({"SpecialToken": {"id": id, "type_id": number}});
            let text = json!({"Sequence": {"id": sequence, "type_id": number}});
            before
                .map(token)
                .into_iter()
                .chain([text])
                .chain(after.map(token))
                .collect::<Vec<_>>()
        };
        let mut specials = Map::new();
        for token in before.into_iter().chain(after) {
            let id = tokens.iter().position(|other| *other == token);
            specials.insert(
                token.to_owned(),
                json!({"id": token, "ids": [id], "tokens": [token]}),
            );
        }
        let single = side("A", 0);
        let pair: Vec<Json> = side("A", 0).into_iter().chain(side("B", 1)).collect();
        Ok(Some(json!({
            "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials,
        })))
    }
}

/// The parts of a tokenizer that its model decides.
struct Parts {
    model: Json,
    normalizer: Json,
    pre_tokenizer: Json,
    decoder: Json,
}

fn vocabulary(tokens: &[&str]) -> Json {
    tokens
        .iter()
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), json!(id)))
        .collect::<Map<_, _>>()
        .into()
}
