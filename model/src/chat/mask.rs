//! Which tokens of a conversation are the assistant's, for learning the answers and not the questions.

use std::ops::Range;

use super::{ChatError, ChatTemplate, Message};
use crate::tokenizer::Tokenizer;

/// A conversation as token ids, with the answers marked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MaskedConversation {
    /// Token ids of the whole conversation.
    pub ids: Vec<u32>,
    /// For each token, whether it belongs to an answer. The token that ends an answer does.
    pub learned: Vec<bool>,
}

/// A conversation as text, with the places of its answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MaskedText {
    /// The whole conversation; it holds its special tokens as text.
    pub text: String,
    /// Each answer in it, in bytes.
    pub answers: Vec<Range<usize>>,
}

/// Renders `messages` and finds the answers. An answer is what comes between the text that asks for it (the conversation
/// before it with the generation prompt) and the end of its message, so it holds exactly what the model has to write when it
/// is served. `ends` are the texts of the tokens that end an answer.
pub fn mask_conversation(
    template: &ChatTemplate,
    messages: &[Message],
    ends: &[String],
) -> Result<MaskedText, ChatError> {
    let text = template.render(messages, None, false)?;
    let answers = answers(template, messages, &text)?
        .into_iter()
        .map(|(start, end)| start..start + without_space_after_end(&text[start..end], ends))
        .collect();
    Ok(MaskedText { text, answers })
}

/// Renders and tokenizes `messages`, and marks the answers, see [`mask_conversation`].
pub fn encode_conversation(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[Message],
) -> Result<MaskedConversation, ChatError> {
    let ends: Vec<String> = tokenizer
        .eos()
        .iter()
        .filter_map(|&id| tokenizer.token(id))
        .collect();
    let MaskedText { text, answers } = mask_conversation(template, messages, &ends)?;
    // The template writes special tokens itself.
    let tokens = tokenizer.encode_spans(&text, false)?;
    let learned = tokens
        .spans
        .iter()
        .map(|&(from, to)| {
            answers
                .iter()
                .any(|answer| answer.start <= from && to <= answer.end && from < to)
        })
        .collect();
    Ok(MaskedConversation {
        ids: tokens.ids,
        learned,
    })
}

/// Start and end of each answer in `text`, in bytes.
fn answers(
    template: &ChatTemplate,
    messages: &[Message],
    text: &str,
) -> Result<Vec<(usize, usize)>, ChatError> {
    let mut found = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if message.role != "assistant" {
            continue;
        }
        let before = template.render(&messages[..index], None, true)?;
        let through = if index + 1 == messages.len() {
            text.to_owned()
        } else {
            template.render(&messages[..=index], None, false)?
        };
        if !through.starts_with(&before) || !text.starts_with(&through) {
            return Err(ChatError::NotIncremental { message: index + 1 });
        }
        found.push((before.len(), through.len()));
    }
    if found.is_empty() {
        return Err(ChatError::NoAnswer);
    }
    Ok(found)
}

/// The length of `answer` without the line break that templates write after the token that ends it: nobody generates
/// past that token.
fn without_space_after_end(answer: &str, ends: &[String]) -> usize {
    let trimmed = answer.trim_end();
    if ends.iter().any(|end| trimmed.ends_with(end.as_str())) {
        trimmed.len()
    } else {
        answer.len()
    }
}
