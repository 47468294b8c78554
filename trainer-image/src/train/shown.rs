//! An example as a language model is shown it, before its text is tokens. Pure.

use slipway_model::chat::Message;

use crate::data::{Example, Rejected};

/// An example as a language model is shown it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    /// Texts one after another, and then the token that ends a text, which is learned.
    Pieces(Vec<Piece>),
    /// Messages in the model's chat template; the answers are learned.
    Conversation(Vec<Message>),
}

/// A text that becomes tokens by itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub text: String,
    /// Whether it gets the tokens that the model expects around a text.
    pub special: bool,
    /// Whether it is learned.
    pub learned: bool,
}

impl Shown {
    /// `chats` tells whether the model has a chat template. Without one an answer follows its prompt after a line break.
    pub(crate) fn of(example: Example, chats: bool) -> Result<Self, Rejected> {
        let piece = |text, special, learned| Piece {
            text,
            special,
            learned,
        };
        Ok(match example {
            Example::Labelled { text, .. } | Example::Text(text) => {
                Self::Pieces(vec![piece(text, true, true)])
            }
            Example::Conversation(turns) => {
                let messages: Result<_, _> = turns.into_iter().map(serde_json::from_value).collect();
                Self::Conversation(messages.map_err(|error| Rejected::Row(error.to_string()))?)
            }
            Example::Completion { prompt, completion } if chats => Self::Conversation(vec![
                Message::new("user", prompt),
                Message::new("assistant", completion),
            ]),
            Example::Completion { prompt, completion } => Self::Pieces(vec![
                piece(format!("{prompt}\n"), true, false),
                piece(completion, false, true),
            ]),
        })
    }
}
