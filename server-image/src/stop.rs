//! Stop strings: text is held back while it may still turn into one, so that no part of a stop string ever
//! reaches a client.

/// Passes text through up to the first stop string. What it lets through does not depend on how the text was
/// cut into pieces.
#[derive(Debug)]
pub struct StopFilter {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text led to.
#[derive(Debug, Eq, PartialEq)]
pub struct Passed {
    /// Text that is certain now.
    pub text: String,
    /// Whether a stop string ended the answer; nothing may be pushed any more.
    pub stopped: bool,
}

impl StopFilter {
    /// A filter for `stops`; empty strings never match.
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, piece: &str) -> Passed {
        self.held.push_str(piece);
        // The match that is complete first counts (of those, the one that begins first), as if the text had
        // come one character at a time.
        let first = self
            .stops
            .iter()
            .filter_map(|stop| {
                self.held
                    .find(stop.as_str())
                    .map(|start| (start + stop.len(), start))
            })
            .min();
        if let Some((_, start)) = first {
            self.held.truncate(start);
            return Passed {
                text: std::mem::take(&mut self.held),
                stopped: true,
            };
        }
        let certain = self.held.len() - self.possible();
        Passed {
            text: self.held.drain(..certain).collect(),
            stopped: false,
        }
    }

    /// What was held back, once the answer has ended.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that a stop string may begin with.
    fn possible(&self) -> usize {
        self.stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0)
    }
}

/// Length of the longest suffix of `text` that is a proper prefix of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest)
        .rev()
        .find(|&n| stop.is_char_boundary(n) && text.as_bytes().ends_with(&stop.as_bytes()[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut filter = StopFilter::new(stops.iter().map(ToString::to_string).collect());
        let mut out = Vec::new();
        for piece in pieces {
            let Passed { text, stopped } = filter.push(piece);
            out.push(text);
            if stopped {
                return (out, true);
            }
        }
        out.push(filter.finish());
        (out, false)
    }

    #[test]
    fn a_partial_stop_is_held_until_it_is_certain() {
        let (out, stopped) = run(&["###"], &["a#", "#", "b", "##", "#c"]);
        assert_eq!(out, ["a", "", "##b", "", ""]);
        assert!(stopped);
    }

    #[test]
    fn what_was_held_comes_out_at_the_end() {
        assert_eq!(
            run(&["\n\n"], &["one\n"]),
            (vec!["one".into(), "\n".into()], false)
        );
    }

    #[test]
    fn the_stop_that_completes_first_wins() {
        assert_eq!(run(&["abcd", "bc"], &["xabcd"]), (vec!["xa".into()], true));
    }

    #[test]
    fn characters_of_several_bytes_are_never_split() {
        let (out, stopped) = run(&["éa"], &["é", "é", "a"]);
        assert_eq!(out, ["", "é", ""]);
        assert!(stopped);
    }

    #[test]
    fn without_stops_nothing_is_held() {
        assert_eq!(
            run(&[""], &["a", "b"]),
            (vec!["a".into(), "b".into(), String::new()], false)
        );
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter_and_no_stop_leaks(
            text in "[abé]{0,24}",
            stops in proptest::collection::vec("[abé]{1,3}", 0..3),
            cuts in proptest::collection::vec(any::<bool>(), 24),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let mut pieces: Vec<String> = vec![String::new()];
            for (character, cut) in text.chars().zip(&cuts) {
                pieces.last_mut().unwrap().push(character);
                if *cut {
                    pieces.push(String::new());
                }
            }
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (whole, stopped) = run(&stops, &[&text]);
            let (parts, parts_stopped) = run(&stops, &pieces);
            let joined = parts.concat();
            prop_assert_eq!(&joined, &whole.concat());
            prop_assert_eq!(stopped, parts_stopped);
            prop_assert!(stops.iter().all(|stop| !joined.contains(stop)));
            prop_assert!(text.starts_with(&joined));
            prop_assert_eq!(stopped, joined.len() < text.len());
        }
    }
}
