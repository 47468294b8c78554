use slipway_contract::Metric;
use slipway_hub::source::Pin;

use super::*;

fn facts() -> Facts {
    let config = json!({
        "model": { "hub": { "repo": "acme/minilm" } },
        "task": "SequenceClassification",
        "dataset": { "source": { "hub": { "repo": "acme/tweets" } }, "validation": { "split": "validation" } },
        "checkpoint": { "directory": "/data/checkpoints" },
        "output": { "directory": "/data/out", "hub": { "repo": "acme/sentiment" } },
    });
    let pin = |repo: &str| {
        Some(Pin {
            repo: repo.into(),
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
        })
    };
    let metric = |name: &str, value| Metric {
        name: name.into(),
        value,
    };
    Facts {
        config: serde_json::from_value(config).unwrap(),
        base: pin("acme/minilm"),
        base_path: "base".into(),
        dataset: pin("acme/tweets"),
        dataset_path: "data".into(),
        labels: vec!["bad".into(), "good".into()],
        training_examples: 900,
        evaluation_examples: Some(100),
        trainable: 1234,
        steps: 50,
        epochs: 2.0,
        best_step: None,
        tokens: 10_000,
        seconds: 20.0,
        metrics: vec![
            metric("loss", 0.5),
            metric("evalLoss", 0.6),
            metric("evalAccuracy", 0.875),
        ],
    }
}

#[test]
fn a_fresh_card_says_what_was_done() {
    let text = fresh(&facts(), Some(&json!("apache-2.0"))).unwrap();
    let card = Card::parse(&text).unwrap();
    for (key, value) in [
        ("license", json!("apache-2.0")),
        ("library_name", json!("peft")),
        ("pipeline_tag", json!("text-classification")),
        ("base_model", json!("acme/minilm")),
        ("base_model_relation", json!("adapter")),
        ("datasets", json!(["acme/tweets"])),
        (
            "tags",
            json!(["slipway", "base_model:adapter:acme/minilm", "lora"]),
        ),
    ] {
        assert_eq!(card.get(key), Some(value), "{key}");
    }
    let results = &card.get("model-index").unwrap()[0]["results"];
    let metric = &results[0]["metrics"][0];
    assert_eq!(
        (&metric["type"], &metric["value"]),
        (&json!("accuracy"), &json!(0.875)),
        "{results}"
    );
    for said in [
        "# sentiment",
        "900 examples",
        "0123456789abcdef",
        "0.8750 on 100 examples",
        "500 tokens/s",
        "PeftModel",
    ] {
        assert!(text.contains(said), "`{said}` is not in:\n{text}");
    }
}

#[test]
fn figures_come_only_from_an_evaluation_that_happened() {
    let facts = Facts {
        evaluation_examples: None,
        metrics: Vec::new(),
        ..facts()
    };
    let text = fresh(&facts, None).unwrap();
    assert!(
        !text.contains("model-index") && text.contains("not evaluated on held-out"),
        "{text}"
    );
}

#[test]
fn peoples_prose_stays_and_a_second_run_replaces_only_its_own_section() {
    let existing = "---\nlanguage: en # ours\nlicense: mit\n---\n# Our model\n\nWritten by hand.\n";
    let first = merged(
        existing,
        &fresh(&facts(), Some(&json!("apache-2.0"))).unwrap(),
        &facts(),
    )
    .unwrap();
    assert!(
        first.starts_with("---\nlanguage: en # ours\nlicense: mit\n"),
        "{first}"
    );
    assert!(first.contains("# Our model\n\nWritten by hand.\n"), "{first}");
    let after = first.replace(END, &format!("{END}\n\nMore by hand."));
    let longer = Facts { steps: 99, ..facts() };
    let second = merged(&after, &fresh(&longer, None).unwrap(), &longer).unwrap();
    assert!(
        second.contains("| Steps | 99 ") && !second.contains("| Steps | 50 "),
        "{second}"
    );
    assert!(
        second.contains("Written by hand.") && second.contains("More by hand."),
        "{second}"
    );
    assert_eq!(second.matches(BEGIN).count(), 1);
    assert_eq!(
        merged(&second, &fresh(&longer, None).unwrap(), &longer).unwrap(),
        second
    );
}

#[test]
fn line_endings_of_the_card_are_kept() {
    let existing = "---\r\nlicense: mit\r\n---\r\n# Ours\r\n";
    let text = merged(existing, &fresh(&facts(), None).unwrap(), &facts()).unwrap();
    assert!(!text.replace("\r\n", "").contains('\n'), "{text:?}");
}
