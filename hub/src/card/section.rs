//! Sections of a card that a run owns, between two comments that a page does not show. Pure.

use super::{Card, line_break};

impl Card {
    /// Replaces the section `name` by `content` or, where there is none, adds it behind the prose. Every other byte
    /// stays as it is; the section takes over the card's line endings.
    pub fn set_section(&mut self, name: &str, content: &str) {
        let (begin, end) = (
            format!("<!-- slipway: {name}, begin -->"),
            format!("<!-- slipway: {name}, end -->"),
        );
        let newline = line_break(&self.text);
        let content = content.trim_end_matches('\n');
        let section = format!("{begin}\n{content}\n{end}").replace('\n', newline);
        let body = self.body();
        let body = if let Some((from, to)) = place(body, &begin, &end) {
            format!("{}{section}{}", &body[..from], &body[to..])
        } else {
            let blank = format!("{newline}{newline}");
            let gap = if body.is_empty() || body.ends_with(&blank) {
                ""
            } else if body.ends_with('\n') {
                newline
            } else {
                &blank
            };
            format!("{body}{gap}{section}{newline}")
        };
        self.set_body(&body);
    }
}

/// From where to where the section reaches, its comments included. A comment that lost its other half is prose.
fn place(body: &str, begin: &str, end: &str) -> Option<(usize, usize)> {
    let mut after = 0;
    while let Some(at) = body[after..].find(end).map(|at| after + at) {
        if let Some(from) = body[after..at].rfind(begin) {
            return Some((after + from, at + end.len()));
        }
        after = at + end.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, content: &str) -> String {
        let mut card = Card::parse(text).unwrap();
        card.set_section("training", content);
        card.to_string()
    }

    #[test]
    fn a_section_is_added_behind_the_prose_and_then_replaced() {
        let once = set("# Mine\n", "one\n");
        assert_eq!(
            once,
            "# Mine\n\n<!-- slipway: training, begin -->\none\n<!-- slipway: training, end -->\n"
        );
        assert_eq!(set(&once, "one"), once);
        assert_eq!(
            set(&format!("{once}\nMore."), "two"),
            format!("{once}\nMore.").replace("one", "two")
        );
    }

    #[test]
    fn blank_lines_at_the_end_stay() {
        for text in [
            "",
            "# T",
            "# T\n",
            "# T\n\n\n\n",
            "# T\r\n\r\n\r\n",
            "---\na: 1\n---\n",
        ] {
            let card = set(text, "x");
            assert!(card.starts_with(text), "{text:?}: {card:?}");
            assert_eq!(set(&card, "x"), card);
        }
    }

    #[test]
    fn a_comment_that_lost_its_other_half_is_prose() {
        let (begin, end) = (
            "<!-- slipway: training, begin -->",
            "<!-- slipway: training, end -->",
        );
        for text in [
            format!("{begin}\nkept\n"),
            format!("{end}\nkept\n"),
            format!("{end}\nkept\n{begin}\n"),
        ] {
            let once = set(&text, "one");
            assert!(once.starts_with(&text), "{once}");
            let twice = set(&once, "two");
            assert_eq!(twice, once.replace("one", "two"));
        }
    }
}
