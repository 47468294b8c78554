//! Conversations to text, by the Jinja template that comes with a model.
//!
//! A template is a program from a stranger. It runs without access to files or the network, with a limit on the
//! steps it may take and on the text it may make.

mod environment;
mod mask;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::tokenizer::{Tokenizer, TokenizerError};
pub use mask::{MaskedConversation, MaskedText, encode_conversation, mask_conversation};

/// Name under which the template is compiled; appears in its error messages.
const NAME: &str = "chat_template";

/// Why a conversation has no text.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model has no template.
    #[error(
        "the model has no chat template; add chat_template to its tokenizer_config.json, or use prompt and completion columns with a model that has one"
    )]
    NoTemplate,
    /// The template is not Jinja as we know it.
    #[error("the chat template does not parse: {message} (line {line})")]
    Syntax {
        /// What is wrong.
        message: String,
        /// Where, counted from 1.
        line: usize,
    },
    /// The template refused the conversation (`raise_exception`).
    #[error("the chat template refuses the conversation: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// The template failed.
    #[error("the chat template fails: {message} (line {line})")]
    Render {
        /// What is wrong.
        message: String,
        /// Where, counted from 1.
        line: usize,
    },
    /// The template loops or writes without end.
    #[error("the chat template was stopped: {message} (line {line}); use a template that ends")]
    Endless {
        /// Which limit was met.
        message: String,
        /// Where, counted from 1.
        line: usize,
    },
    /// The answers cannot be told from the rest.
    #[error(
        "the text of message {message} changes when later messages follow, so the answers to learn cannot be found; use a chat template that keeps earlier messages as they are, or set trainOnPrompt: true"
    )]
    NotIncremental {
        /// The message, counted from 1.
        message: usize,
    },
    /// There is nothing to learn.
    #[error("the conversation has no message with the role assistant, so there is nothing to learn; add one")]
    NoAnswer,
    /// Tokenizing the text failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// One message of a conversation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// A text, or a list of parts, or null beside tool calls.
    #[serde(default)]
    pub content: Json,
    /// Whatever else belongs to it: `name`, `tool_calls`, `tool_call_id`.
    #[serde(flatten)]
    pub rest: Map<String, Json>,
}

impl Message {
    /// A message with text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Json::String(content.into()),
            rest: Map::new(),
        }
    }
}

/// Tells the time to templates that ask for it (`strftime_now`).
pub type Clock = fn() -> jiff::civil::DateTime;

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles `source`. `bos` and `eos` are the texts of the tokens that begin a text and end an answer, empty where
    /// the model has none.
    pub fn new(
        source: impl Into<String>,
        bos: impl Into<String>,
        eos: impl Into<String>,
    ) -> Result<Self, ChatError> {
        Self::with_clock(source, bos, eos, || jiff::Zoned::now().datetime())
    }

    /// [`Self::new`] with another clock.
    pub fn with_clock(
        source: impl Into<String>,
        bos: impl Into<String>,
        eos: impl Into<String>,
        clock: Clock,
    ) -> Result<Self, ChatError> {
        let environment = environment::new(&source.into(), clock).map_err(|error| ChatError::Syntax {
            message: sentence(&error),
            line: error.line().unwrap_or(1),
        })?;
        Ok(Self {
            environment,
            bos: bos.into(),
            eos: eos.into(),
        })
    }

    /// The template of `tokenizer`.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, ChatError> {
        let source = tokenizer.chat_template().ok_or(ChatError::NoTemplate)?;
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).unwrap_or_default();
        Self::new(source, text(tokenizer.bos()), text(tokenizer.eos_token()))
    }

    /// The text of a conversation. `add_generation_prompt` ends it where the answer begins. `tools` are JSON schemas
    /// of functions the model may call.
    pub fn render(
        &self,
        messages: &[Message],
        tools: Option<&[Json]>,
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| failed(&error))?;
        template
            .render(context! {
                messages => Serde(messages),
                tools => tools.map(Serde),
                add_generation_prompt => add_generation_prompt,
                bos_token => self.bos.as_str(),
                eos_token => self.eos.as_str(),
            })
            .map_err(|error| failed(&error))
    }
}

fn failed(error: &minijinja::Error) -> ChatError {
    let line = error.line().unwrap_or(1);
    let message = sentence(error);
    match error.kind() {
        ErrorKind::OutOfFuel => ChatError::Endless {
            message: environment::TOO_MUCH.into(),
            line,
        },
        _ => match environment::refusal(error) {
            Some(message) => ChatError::Refused { message },
            None => ChatError::Render { message, line },
        },
    }
}

fn sentence(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests;
