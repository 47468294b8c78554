//! Property tests: whatever people wrote survives every merge, byte for byte, outside what is merged.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Front matter with everything that readers of YAML disagree about.
fn rows() -> impl Strategy<Value = Vec<&'static str>> {
    let rows = vec![
        "license: mit   # ours",
        "language: no",
        "languages: [no, on, y]",
        "inference: off",
        "version: 1e3",
        "hex: 0x1F",
        "octal: 012",
        "sexagesimal: 12:30:45",
        "date: 2024-01-31",
        "time: 2001-12-14t21:59:43.10-05:00",
        "y: n",
        "nothing: ~",
        "binary: !!binary aGVsbG8=",
        "anchors: &a {x: 1}\nreference: *a\nmerged: {<<: *a, z: 2}",
        "anchored_list: &l\n- one\n- two\nagain: *l",
        "twice: 1\ntwice: 2",
        "# a remark between",
        "#tight",
        "",
        "   ",
        "trailing:   x   ",
        "tab_in_text: \"a\tb\"",
        "tab_behind: x\t",
        "apostrophe: 'it''s'",
        "escapes: \"\\u00e9\\n\\\"\"",
        "several_lines: \"a\n  b\"",
        "plain_lines: a\n  b\n  c",
        "literal: |+\n  kept\n\n\n",
        "folded: >-\n  a\n  b",
        "literal_indent: |2\n    two more",
        "\"quoted key\": 1",
        "'true': yes",
        "1: one",
        "null: key",
        "? complex\n: value",
        "emoji: 🦀 größe",
        "right_to_left: \"\u{202e}abc\"",
        "url: https://x/y#z",
        "dashes: \"---\"",
        "widget:\n- text: \"a: b\"\n  example: {x: [1, 2]}\n  # inside",
        "model-index:\n- name: other\n  results: []",
        "tags:\n    - a   # first\n    - 'b'",
        "datasets: [glue, # flow\n  squad]",
    ];
    let count = rows.len();
    proptest::sample::subsequence(rows, 0..=count).prop_shuffle()
}

fn prose() -> impl Strategy<Value = String> {
    let pieces = vec![
        "# Title",
        "",
        "---",
        "- - -",
        "***",
        "```yaml\n---\na: [1\n---\n```",
        "trailing spaces   ",
        "\ttab",
        "<!-- slipway: training, begin -->",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "größe 🦀 \u{feff} \u{2028}",
        "a\rb",
        "license: not-metadata",
    ];
    (
        proptest::collection::vec(proptest::sample::select(pieces), 0..12),
        any::<bool>(),
        prop_oneof![9 => Just(0usize), 1 => Just(100_000usize)],
    )
        .prop_map(|(pieces, ends, long)| {
            let mut text = pieces.join("\n");
            text.push_str(&"lorem ipsum dolor sit amet\n".repeat(long / 27));
            if ends {
                text.push('\n');
            }
            text
        })
}

/// A whole card: with or without front matter, byte order mark, blank lines before it, and CRLF.
fn card() -> impl Strategy<Value = String> {
    (
        proptest::option::weighted(0.9, rows()),
        prose(),
        any::<bool>(),
        prop_oneof![3 => Just(""), 1 => Just("\u{feff}"), 1 => Just("\n \n")],
    )
        .prop_map(|(rows, prose, crlf, before)| {
            let text = match rows {
                Some(rows) => format!("{before}---\n{}\n---\n{prose}", rows.join("\n")),
                None => format!("{before}{prose}"),
            };
            if crlf { text.replace('\n', "\r\n") } else { text }
        })
}

/// Whether `merged` is `text` with one piece put in.
fn is_inserted(text: &str, merged: &str) -> bool {
    let same = |(a, b): &(u8, u8)| a == b;
    let prefix = text.bytes().zip(merged.bytes()).take_while(same).count();
    let suffix = text
        .bytes()
        .rev()
        .zip(merged.bytes().rev())
        .take_while(same)
        .count();
    prefix + suffix >= text.len()
}

fn result() -> EvalResult {
    EvalResult {
        task_type: "text-classification".into(),
        dataset_type: "acme/tweets".into(),
        dataset_name: "no".into(),
        dataset_split: Some("test".into()),
        dataset_revision: Some("1e3".into()),
        metric_type: "accuracy".into(),
        metric_name: None,
        value: 0.875,
        source: None,
    }
}

type Edit = fn(&mut Card) -> Result<(), CardError>;

/// What runs do to cards; none of them is in the way of a person's own keys.
const EDITS: [(&str, Edit); 5] = [
    ("key", |card| card.set("base_model", &json!("acme/no")).map(drop)),
    ("tags", |card| card.extend("tags", &["slipway"]).map(drop)),
    ("datasets", |card| {
        card.extend("datasets", &["acme/tweets"]).map(drop)
    }),
    ("index", |card| card.merge_model_index("m", &[result()]).map(drop)),
    ("section", |card| {
        card.set_section("training", "What was done.\n\n---\n\nMore.");
        Ok(())
    }),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_outside_what_is_merged_survives_and_merging_twice_is_merging_once(text in card()) {
        // What is no YAML is refused whole.
        let Ok(mut card) = Card::from_bytes(text.as_bytes()) else { return Ok(()) };
        prop_assert_eq!(card.to_string(), &*text);
        for (name, edit) in EDITS {
            let (before, values) = (card.to_string(), values(&card));
            if edit(&mut card).is_err() {
                // Left alone, not half done.
                prop_assert_eq!(card.to_string(), before, "{}", name);
                continue;
            }
            let after = card.to_string();
            // An empty list or an empty index is filled: the one place where bytes are replaced.
            let filled = before.contains("results: []") && name == "index";
            prop_assert!(filled || is_inserted(&before, &after), "{name}:\n{before:?}\n{after:?}");
            for (key, value) in values {
                if !["base_model", "tags", "datasets", "model-index"].contains(&key.as_str()) {
                    prop_assert_eq!(card.get(&key), Some(value), "{} changed {}", name, key);
                }
            }
            let mut again = Card::from_bytes(after.as_bytes()).unwrap();
            edit(&mut again).unwrap();
            prop_assert_eq!(again.to_string(), after, "{} twice", name);
        }
    }
}

fn values(card: &Card) -> Vec<(String, Value)> {
    match card.document().unwrap().value() {
        Value::Object(map) => map.into_iter().collect(),
        _ => Vec::new(),
    }
}

#[test]
fn each_shape_alone_is_edited_or_left_whole() {
    // Not by chance only: every shape once, with what was refused named, so that a shape that stops being
    // editable is noticed.
    let mut refused = Vec::new();
    for row in all_rows() {
        let text = format!("---\n{row}\n---\n# T\n");
        let Ok(mut card) = Card::parse(&text) else {
            refused.push(row);
            continue;
        };
        for (name, edit) in EDITS {
            let before = card.to_string();
            if edit(&mut card).is_err() {
                assert_eq!(card.to_string(), before, "{name}");
                refused.push(row);
            }
        }
    }
    assert_eq!(refused, REFUSED, "other shapes are refused");
}

/// Shapes that the parser or the check after an edit turns down; a card with one stays as it is.
const REFUSED: &[&str] = &[];

#[test]
fn most_of_the_cards_made_up_here_are_edited_and_not_refused() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let edited = (0..100).filter(|_| {
        let text = card().new_tree(&mut runner).unwrap().current();
        Card::parse(&text).is_ok_and(|mut card| EDITS.iter().all(|(_, edit)| edit(&mut card).is_ok()))
    });
    let edited = edited.count();
    assert!(edited > 80, "{edited} of 100");
}

fn all_rows() -> Vec<&'static str> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut found: Vec<&'static str> = Vec::new();
    for _ in 0..50 {
        let rows = rows().new_tree(&mut runner).unwrap().current();
        found.extend(rows);
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn a_byte_order_mark_hides_no_front_matter() {
    let text = "\u{feff}---\nlicense: mit\n---\n# T\n";
    let mut card = Card::parse(text).unwrap();
    assert_eq!(card.get("license"), Some(json!("mit")));
    card.set("base_model", &json!("acme/x")).unwrap();
    assert_eq!(
        card.to_string(),
        "\u{feff}---\nlicense: mit\nbase_model: acme/x\n---\n# T\n"
    );
}

#[test]
fn a_card_in_another_encoding_is_refused_and_says_where() {
    let error = Card::from_bytes(b"# Mod\xe8le").unwrap_err().to_string();
    assert!(
        error.contains("byte 5") && error.contains("nothing was changed"),
        "{error}"
    );
}
