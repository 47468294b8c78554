//! Sections of a card's prose that are a program's to write: between two comments, which a page does not show.

use super::{Card, line_break};

impl Card {
    /// Puts `text` into the section `name` of the prose: in place of what stands there, else at the end. True when
    /// that changed anything. All else stays byte for byte; lines end as the card's do.
    pub fn set_section(&mut self, name: &str, text: &str) -> bool {
        let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- slipway: {name}, {edge} -->"));
        let line_break = line_break(&self.to_string());
        let section = format!("{begin}\n{}\n{end}", text.trim_matches('\n')).replace('\n', line_break);
        let body = self.body();
        // The nearest two: a comment that a person left without its other belongs to nothing.
        let found = body.rfind(&end).and_then(|to| {
            let from = body[..to].rfind(&begin)?;
            Some((from, to + end.len()))
        });
        let changed = match found {
            Some((from, to)) => format!("{}{section}{}", &body[..from], &body[to..]),
            None if body.is_empty() => format!("{section}{line_break}"),
            None => {
                let gap = if body.ends_with('\n') {
                    line_break.to_owned()
                } else {
                    line_break.repeat(2)
                };
                format!("{body}{gap}{section}{line_break}")
            }
        };
        if changed == body {
            return false;
        }
        self.set_body(&changed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_replaced_in_place_and_left_alone_when_it_is_the_same() {
        let mut card = Card::parse("---\nlicense: mit\n---\n# Model\nWords.\n").unwrap();
        assert!(card.set_section("experiment a/b", "## One\n\nText.\n"));
        let first = "---\nlicense: mit\n---\n# Model\nWords.\n\n<!-- slipway: experiment a/b, begin -->\n## One\n\nText.\n\
                     <!-- slipway: experiment a/b, end -->\n";
        assert_eq!(card.to_string(), first);
        assert!(!card.set_section("experiment a/b", "## One\n\nText."));
        let mut written_around = Card::parse(&format!("{first}More words")).unwrap();
        assert!(written_around.set_section("experiment a/b", "## Two"));
        assert_eq!(
            written_around.to_string(),
            first.replace("## One\n\nText.", "## Two") + "More words"
        );
        assert!(written_around.set_section("experiment a/c", "## Three"));
        assert!(written_around.body().contains("## Two") && written_around.body().contains("## Three"));
    }

    #[test]
    fn lines_end_as_the_cards_do() {
        let mut card = Card::parse("# Model\r\nWords.\r\n").unwrap();
        assert!(card.set_section("x", "a\nb"));
        assert_eq!(
            card.to_string(),
            "# Model\r\nWords.\r\n\r\n<!-- slipway: x, begin -->\r\na\r\nb\r\n<!-- slipway: x, end -->\r\n"
        );
        assert!(!card.set_section("x", "a\nb"));
    }

    #[test]
    fn a_section_whose_end_a_person_removed_is_written_anew_behind_all() {
        let mut card = Card::parse("<!-- slipway: x, begin -->\nold, and words of a person").unwrap();
        assert!(card.set_section("x", "first"));
        assert!(card.set_section("x", "new"));
        assert!(
            card.body()
                .starts_with("<!-- slipway: x, begin -->\nold, and words of a person\n\n")
        );
        assert!(
            card.body()
                .ends_with("<!-- slipway: x, begin -->\nnew\n<!-- slipway: x, end -->\n")
        );
    }
}
