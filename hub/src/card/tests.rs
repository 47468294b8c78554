use proptest::prelude::*;
use serde_json::json;

use super::*;

fn accuracy(value: f64) -> EvalResult {
    EvalResult {
        task_type: "text-classification".into(),
        dataset_type: "acme/finance-tweets".into(),
        dataset_name: "Finance tweets".into(),
        dataset_split: Some("test".into()),
        dataset_revision: None,
        metric_type: "accuracy".into(),
        metric_name: None,
        value,
        source: None,
    }
}

fn f1(value: f64) -> EvalResult {
    EvalResult {
        metric_type: "f1".into(),
        metric_name: Some("F1 (macro)".into()),
        ..accuracy(value)
    }
}

#[test]
fn prose_alone_gets_front_matter_in_front_of_it() {
    let mut card = Card::parse("# Mine\r\n\r\nHello.\r\n").unwrap();
    assert!(card.set("license", &json!("apache-2.0")).unwrap());
    assert_eq!(
        card.to_string(),
        "---\r\nlicense: apache-2.0\r\n---\r\n# Mine\r\n\r\nHello.\r\n"
    );
    assert_eq!(card.body(), "# Mine\r\n\r\nHello.\r\n");
}

#[test]
fn an_empty_text_and_an_empty_block_are_filled() {
    let mut card = Card::parse("").unwrap();
    card.set("library_name", &json!("peft")).unwrap();
    assert_eq!(card.to_string(), "---\nlibrary_name: peft\n---\n");
    let mut card = Card::parse("---\n---\ntext").unwrap();
    card.set("library_name", &json!("peft")).unwrap();
    assert_eq!(card.to_string(), "---\nlibrary_name: peft\n---\ntext");
}

#[test]
fn setting_a_key_touches_its_value_and_nothing_else() {
    let text = "---\n# ours\nlicense:   mit  # see LICENSE\ntags:\n    - a   # first\n    - 'b'\n\nlanguage: [en,\n  no]\n---  \n# T\n";
    let mut card = Card::parse(text).unwrap();
    card.set("license", &json!("apache-2.0")).unwrap();
    assert_eq!(card.to_string(), text.replace("  mit", "apache-2.0"));
    assert!(!card.set("license", &json!("apache-2.0")).unwrap());
    let before = card.to_string();
    assert!(card.extend("tags", &["b", "c"]).unwrap());
    assert_eq!(
        card.to_string(),
        before.replace("    - 'b'\n", "    - 'b'\n    - c\n")
    );
    let before = card.to_string();
    assert!(card.extend("language", &["de"]).unwrap());
    assert_eq!(card.to_string(), before.replace("  no]", "  no, de]"));
}

#[test]
fn a_lone_value_becomes_a_list() {
    let mut card = Card::parse("---\nlanguage: en\n---\n").unwrap();
    assert!(!card.extend("language", &["en"]).unwrap());
    assert!(card.extend("language", &["no"]).unwrap());
    assert_eq!(card.to_string(), "---\nlanguage:\n- en\n- \"no\"\n---\n");
}

#[test]
fn a_new_index_is_what_the_hub_expects() {
    let mut card = Card::parse("---\nlicense: mit\n---\n# T\n").unwrap();
    assert!(
        card.merge_model_index("finance-sentiment", &[accuracy(0.87), f1(0.5)])
            .unwrap()
    );
    assert_eq!(
        card.to_string(),
        "---\nlicense: mit\nmodel-index:\n- name: finance-sentiment\n  results:\n  - task:\n      type: text-classification\n    dataset:\n      name: Finance tweets\n      type: acme/finance-tweets\n      split: test\n    metrics:\n    - type: accuracy\n      value: 0.87\n    - type: f1\n      value: 0.5\n      name: F1 (macro)\n---\n# T\n"
    );
    let once = card.to_string();
    assert!(
        !card
            .merge_model_index("finance-sentiment", &[accuracy(0.87), f1(0.5)])
            .unwrap()
    );
    assert_eq!(card.to_string(), once);
    assert!(card.merge_model_index("other-name", &[accuracy(0.9)]).unwrap());
    assert_eq!(card.to_string(), once.replace("value: 0.87", "value: 0.9"));
}

#[test]
fn other_peoples_results_stay_as_they_wrote_them() {
    let theirs = "---\r\nmodel-index:\r\n  - name: m   # keep\r\n    results:\r\n      - {task: {type: text-classification}, dataset: {type: glue, name: GLUE, config: sst2}, metrics: [{type: accuracy, value: .9, verified: true}]}\r\n      # a remark\r\nlicense: mit\r\n---\r\nprose\r\n";
    let mut card = Card::parse(theirs).unwrap();
    assert!(card.merge_model_index("m", &[accuracy(0.8)]).unwrap());
    let text = card.to_string();
    let (head, tail) = theirs.split_at(theirs.find("\r\n      # a remark").unwrap());
    assert!(text.starts_with(head) && text.ends_with(tail), "{text}");
    assert!(
        text[head.len()..].starts_with("\r\n      - task:\r\n          type: text-classification\r\n"),
        "{text}"
    );
    assert!(!text.replace("\r\n", "").contains('\n'));
    let once = text;
    assert!(!card.merge_model_index("m", &[accuracy(0.8)]).unwrap());
    assert_eq!(card.to_string(), once);
}

#[test]
fn a_metric_joins_a_flow_list_in_its_own_style() {
    let text = "---\nmodel-index: [{name: m, results: [{task: {type: text-classification}, dataset: {name: Finance tweets, type: acme/finance-tweets, split: test}, metrics: [{type: accuracy, value: 1}]}]}]\n---\n";
    let mut card = Card::parse(text).unwrap();
    assert!(card.merge_model_index("m", &[accuracy(0.5), f1(0.25)]).unwrap());
    assert_eq!(
        card.to_string(),
        text.replace(
            "value: 1}]",
            "value: 0.5}, {type: f1, value: 0.25, name: F1 (macro)}]"
        )
    );
}

#[test]
fn a_split_named_no_is_the_same_split_again() {
    let mut card = Card::parse("").unwrap();
    let mut result = accuracy(0.5);
    result.dataset_split = Some("no".into());
    result.dataset_revision = Some("1234567".into());
    card.merge_model_index("m", &[result.clone()]).unwrap();
    assert!(card.to_string().contains("split: \"no\"") && card.to_string().contains("revision: \"1234567\""));
    assert!(!card.merge_model_index("m", &[result]).unwrap());
}

#[test]
fn anchors_do_not_lead_an_edit_astray() {
    let text = "---\nx: &a [1]\nmodel-index:\n- name: m\n  results: &r\n  - task: {type: t}\n    dataset: {type: d, name: d}\n    metrics: []\nlicense: *a\n---\n";
    let mut card = Card::parse(text).unwrap();
    assert!(card.merge_model_index("m", &[accuracy(0.5)]).unwrap());
    let again = Card::parse(&card.to_string()).unwrap();
    assert_eq!(again.get("license"), Some(json!([1])));
    assert_eq!(
        again.get("model-index").unwrap()[0]["results"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn what_is_no_yaml_is_left_alone_and_said_so() {
    for text in [
        "---\na: [1\n---\n",
        "---\na: 'x\n---\n",
        "---\n- a\n---\n",
        "---\na: b: c\n---\n",
    ] {
        let error = Card::parse(text).unwrap_err().to_string();
        assert!(error.contains("nothing was changed"), "{text:?}: {error}");
    }
    let mut card = Card::parse("---\nmodel-index: none\n---\n").unwrap();
    let error = card
        .merge_model_index("m", &[accuracy(0.5)])
        .unwrap_err()
        .to_string();
    assert!(error.contains("model-index"), "{error}");
    assert_eq!(card.to_string(), "---\nmodel-index: none\n---\n");
    assert!(card.merge_model_index("m", &[accuracy(f64::NAN)]).is_err());
}

#[test]
fn a_rule_in_the_prose_is_no_front_matter() {
    let text = "Hello\n\n---\na: [1\n---\n";
    let mut card = Card::parse(text).unwrap();
    card.set("license", &json!("mit")).unwrap();
    assert_eq!(card.to_string(), format!("---\nlicense: mit\n---\n{text}"));
}

#[test]
fn the_prose_can_be_replaced() {
    let mut card = Card::parse("---\nlicense: mit\n---\nold").unwrap();
    card.set_body("\n# New\n");
    assert_eq!(card.to_string(), "---\nlicense: mit\n---\n\n# New\n");
}

#[test]
fn eval_results_are_merged_by_dataset_task_and_source() {
    let entry = |task: &str, value| EvalEntry {
        dataset_id: "acme/finance-tweets".into(),
        task_id: task.into(),
        revision: Some("0123456".into()),
        value,
        date: Some("2026-11-23".into()),
        source: None,
        notes: Some("n = 572".into()),
    };
    let first = eval_results_yaml(None, &[entry("accuracy", 0.87)]).unwrap();
    assert_eq!(
        first,
        "- dataset:\n    id: acme/finance-tweets\n    task_id: accuracy\n    revision: \"0123456\"\n  value: 0.87\n  date: \"2026-11-23\"\n  notes: n = 572\n"
    );
    let both = eval_results_yaml(Some(&first), &[entry("f1", 0.5)]).unwrap();
    assert!(both.starts_with(first.trim_end()), "{both}");
    let changed = eval_results_yaml(Some(&both), &[entry("accuracy", 0.9)]).unwrap();
    assert_eq!(changed, both.replace("0.87", "0.9"));
    let later = EvalEntry {
        date: Some("2027-01-01".into()),
        ..entry("accuracy", 0.9)
    };
    assert_eq!(eval_results_yaml(Some(&changed), &[later]).unwrap(), changed);
    assert!(eval_results_yaml(Some("a: 1\n"), &[entry("f1", 0.5)]).is_err());
}

/// Front matter as people write it: keys in any order, styles, comments, blank lines.
fn front_matter() -> impl Strategy<Value = Vec<&'static str>> {
    let rows = vec![
        "license: mit",
        "license_link: 'https://x/y'   # where",
        "# a remark",
        "",
        "tags: [a, \"b\"]",
        "tags:\n- a\n-   b # two",
        "tags:\n  - a\n\n  - b",
        "language:\n- en\n- no",
        "description: |\n  several\n  lines\n\n  more",
        "folded: >-\n  a\n  b",
        "widget:\n- text: \"a: b\"\n  example: {x: [1, 2]}",
        "empty:",
        "emoji: 🦀 größe",
        "model-index:\n- name: m\n  results:\n  - task:\n      type: x\n    dataset:\n      type: d\n      name: D\n    metrics:\n    - type: accuracy\n      value: 1.5",
        "model-index:\n  - results: [{task: {type: x}, dataset: {type: d, name: D}, metrics: [{type: f1, value: 2}]}]\n    name: m",
    ];
    proptest::sample::subsequence(rows, 0..=15)
        .prop_shuffle()
        .prop_map(|rows| {
            let mut seen: Vec<String> = Vec::new();
            rows.into_iter()
                .filter(|row| {
                    let key = row.split(':').next().unwrap_or_default().to_owned();
                    let repeated = row.contains(':') && seen.contains(&key);
                    seen.push(key);
                    !repeated
                })
                .collect()
        })
}

proptest! {
    #[test]
    fn merging_keeps_every_other_byte_and_happens_once(
        rows in front_matter(),
        body in "[ -~\\n]{0,40}",
        crlf in any::<bool>(),
        value in -1.0e3..1.0e3f64,
    ) {
        let mut text = format!("---\n{}\n---\n{body}", rows.join("\n"));
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        let mut card = Card::parse(&text).unwrap();
        let body = card.body().to_owned();
        card.merge_model_index("m", &[accuracy(value)]).unwrap();
        let merged = card.to_string();
        // What was there is there still: the figure was put in at one place.
        let prefix = text.bytes().zip(merged.bytes()).take_while(|(a, b)| a == b).count();
        let suffix =
            text.bytes().rev().zip(merged.bytes().rev()).take_while(|(a, b)| a == b).count();
        prop_assert!(prefix + suffix >= text.len(), "{text}\n=====\n{merged}");
        prop_assert_eq!(card.body(), body);
        if crlf {
            prop_assert!(!merged.replace("\r\n", "").contains('\n'));
        }
        prop_assert!(!card.merge_model_index("m", &[accuracy(value)]).unwrap());
        prop_assert_eq!(card.to_string(), merged);
    }

    #[test]
    fn any_text_survives_being_a_value(key in "[a-z_]{1,8}", text in any::<String>(), rows in front_matter()) {
        let mut card = Card::parse(&format!("---\n{}\n---\n", rows.join("\n"))).unwrap();
        card.set(&key, &json!(text)).unwrap();
        prop_assert_eq!(Card::parse(&card.to_string()).unwrap().get(&key), Some(json!(text)));
    }

    #[test]
    fn any_text_at_all_is_parsed_or_refused(text in "(---\\n)?[-a-c:\\[\\]{}&*|>'\"# \\t\\r\\n]{0,60}(\\n---\\n)?") {
        if let Ok(mut card) = Card::parse(&text) {
            prop_assert_eq!(card.to_string(), text);
            let body = card.body().to_owned();
            if card.set("license", &json!("mit")).is_ok() {
                prop_assert_eq!(card.get("license"), Some(json!("mit")));
                prop_assert_eq!(card.body(), body);
            }
        }
    }
}
