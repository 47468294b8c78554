//! Single tokens as text and bytes, for log-probabilities.

use slipway_model::tokenizer::Tokenizer;

/// A token as clients see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenText {
    /// Its text; where it is a part of a character, `bytes:\xf0\x9f` as OpenAI writes it.
    pub text: String,
    /// Its bytes; none where the vocabulary does not tell.
    pub bytes: Option<Vec<u8>>,
}

impl TokenText {
    /// Looks up a token.
    pub fn of(tokenizer: &Tokenizer, id: u32) -> Self {
        let text = tokenizer.decode(&[id], false).unwrap_or_default();
        if !text.contains(char::REPLACEMENT_CHARACTER) {
            return Self {
                bytes: Some(text.clone().into_bytes()),
                text,
            };
        }
        match tokenizer.token(id).and_then(|token| byte_level(&token)) {
            Some(bytes) => Self {
                text: escaped(&bytes),
                bytes: Some(bytes),
            },
            None => Self { text, bytes: None },
        }
    }
}

fn escaped(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::from("bytes:"), |mut text, byte| {
        write!(text, "\\x{byte:02x}").expect("a String takes any text");
        text
    })
}

/// Bytes of a vocabulary entry in GPT-2's alphabet, in which every byte is a printable character, or in
/// `SentencePiece`'s `<0xF0>`.
fn byte_level(token: &str) -> Option<Vec<u8>> {
    if let Some(hex) = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')) {
        return u8::from_str_radix(hex, 16).ok().map(|byte| vec![byte]);
    }
    token.chars().map(gpt2_byte).collect()
}

fn gpt2_byte(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        // The bytes that are not printable follow U+0100 in their own order: 0–32, 127–160, 173.
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 127) as u8),
        0x143 => Some(173),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2s_alphabet_covers_every_byte_once() {
        let mut bytes: Vec<u8> = (0..0x144)
            .filter_map(char::from_u32)
            .filter_map(gpt2_byte)
            .collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(gpt2_byte('Ġ'), Some(b' '));
        assert_eq!(gpt2_byte('Ċ'), Some(b'\n'));
    }

    #[test]
    fn parts_of_a_character_are_bytes() {
        assert_eq!(byte_level("ðŁ"), Some(vec![0xf0, 0x9f]));
        assert_eq!(escaped(&[0xf0, 0x9f]), "bytes:\\xf0\\x9f");
        assert_eq!(byte_level("<0xF0>"), Some(vec![0xf0]));
        assert_eq!(byte_level("日"), None);
    }
}
