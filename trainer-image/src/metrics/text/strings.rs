//! Strings as Python takes them apart, for the references are written in it. Pure.

/// `str.isspace` of one character: Unicode's white space and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// `str.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `str.rstrip()`.
pub(super) fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lie_between_any_white_space() {
        let found: Vec<&str> = words("\u{3000}a\u{1f}b\u{a0}\u{2028}c d\n").collect();
        assert_eq!(found, ["a", "b", "c", "d"]);
        // A zero-width space is none.
        assert_eq!(words("a\u{200b}b").count(), 1);
        assert_eq!(trim_end("a \u{1c}\n"), "a");
    }
}
