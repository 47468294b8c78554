//! Tokens of a text and of what continues it, as lm-evaluation-harness tells them apart. Pure.

/// The token before a text that has nothing before it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Prefix {
    /// The token that begins a text, else the one that ends it; none where the model has neither.
    pub id: Option<u32>,
    /// Its text.
    pub text: Option<String>,
}

/// Gives the tokens of a text, with those that the model expects around it where its second argument is true.
pub(super) type Encode<'a> = dyn FnMut(&str, bool) -> Result<Vec<u32>, String> + 'a;

/// The tokens of `context` with `continuation`, and how many of them, at the end, are the continuation's. Both are encoded as
/// one text, since a tokenizer may join letters over the seam; white space at the end of the context belongs to the
/// continuation.
pub(super) fn encode_pair(
    context: &str,
    continuation: &str,
    prefix: &Prefix,
    encode: &mut Encode<'_>,
) -> Result<(Vec<u32>, usize), String> {
    let before = context.trim_end();
    let (ids, scored) = if before.is_empty() {
        let mut ids = encode(&format!("{context}{continuation}"), false)?;
        match prefix.id {
            Some(id) if ids.first() != Some(&id) => ids.insert(0, id),
            _ => {}
        }
        let scored = ids.len().saturating_sub(1);
        (ids, scored)
    } else {
        // A text that begins with the prefix itself does not get another.
        let begun = prefix
            .text
            .as_ref()
            .is_some_and(|text| !text.is_empty() && context.starts_with(text.as_str()));
        let ids = encode(&format!("{context}{continuation}"), !begun)?;
        let scored = ids.len().saturating_sub(encode(before, !begun)?.len());
        (ids, scored)
    };
    if scored == 0 || scored >= ids.len() {
        return Err(format!(
            "the answer {continuation:?} adds no token to its question"
        ));
    }
    Ok((ids, scored))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token a word, `^` before a text; `ab` is one token.
    #[expect(clippy::unnecessary_wraps, reason = "the shape of an encoder")]
    fn encode(text: &str, special: bool) -> Result<Vec<u32>, String> {
        let words = text.split(' ').filter(|word| !word.is_empty());
        let ids = words.map(|word| word.bytes().map(u32::from).sum());
        Ok(special.then_some(1).into_iter().chain(ids).collect())
    }

    fn pair(context: &str, continuation: &str) -> Result<(Vec<u32>, usize), String> {
        let prefix = Prefix {
            id: Some(1),
            text: Some("^".into()),
        };
        encode_pair(context, continuation, &prefix, &mut encode)
    }

    #[test]
    fn the_continuation_is_what_comes_after_the_context() {
        assert_eq!(pair("a b", " c d").unwrap(), (vec![1, 97, 98, 99, 100], 2));
        assert_eq!(pair("a b  ", "c").unwrap(), (vec![1, 97, 98, 99], 1));
        // A text that has its beginning is not given another.
        assert_eq!(pair("^ b", " c").unwrap(), (vec![94, 98, 99], 1));
    }

    #[test]
    fn without_context_the_beginning_of_text_stands_before() {
        assert_eq!(pair("", "c d").unwrap(), (vec![1, 99, 100], 2));
        let nothing = encode_pair("", "c d", &Prefix::default(), &mut encode).unwrap();
        assert_eq!(nothing, (vec![99, 100], 1));
    }

    #[test]
    fn an_answer_without_a_token_of_its_own_is_refused() {
        assert!(
            pair("a", "b").unwrap_err().contains("adds no token"),
            "one token with its context"
        );
        assert!(pair("a", "").is_err());
    }
}
