//! The OpenAI API's requests and responses as data: reading strictly, writing in the exact shapes of its clients.

mod chat;
mod completion;
mod fields;
mod input;
mod params;

pub use chat::{ChatRequest, logprobs as chat_logprobs};
pub use completion::{Columns, CompletionRequest};
pub use fields::{Fields, kind};
pub use input::Input;
pub use params::Params;

/// An id no other response has: prefix and 96 random bits.
pub fn unique_id(prefix: &str) -> String {
    format!(
        "{prefix}-{:016x}{:08x}",
        rand::random::<u64>(),
        rand::random::<u32>()
    )
}
