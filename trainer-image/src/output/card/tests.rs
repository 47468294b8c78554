use slipway_contract::{ConfidenceInterval, Metric};
use slipway_hub::license::License;
use slipway_hub::source::Pin;

use super::*;

const BEGIN: &str = "<!-- slipway: training, begin -->";
const END: &str = "<!-- slipway: training, end -->";
use crate::output::{Hardware, Point};

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
        hardware: Hardware {
            processor: "AMD EPYC 9654".into(),
            cores: 16,
            gpu: None,
        },
        chat: false,
        license: License::of(|key| (key == "license").then(|| json!("apache-2.0"))),
        dataset_license: License::default(),
        endpoint: "https://hub.example".into(),
        steps: 50,
        epochs: 2.0,
        best_step: None,
        tokens: 10_000,
        seconds: 20.0,
        elapsed: 25.0,
        metrics: vec![
            metric("loss", 0.5),
            metric("evalLoss", 0.6),
            metric("evalAccuracy", 0.875),
        ],
        intervals: [(
            "evalAccuracy".to_owned(),
            ConfidenceInterval {
                low: 0.7958,
                high: 0.9261,
            },
        )]
        .into(),
        course: (1..=50)
            .map(|step| Point {
                step,
                loss: Some(1.0 / step as f64),
                evaluation: None,
            })
            .collect(),
    }
}

#[test]
fn a_fresh_card_says_what_was_done() {
    let text = fresh(&facts()).unwrap();
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
        "| accuracy | 0.8750 | 0.7958 to 0.9261 | 100 |",
        "| loss (nats) | 0.6000 | not computed | 100 |",
        "500 tokens/s",
        "25.0 s in all",
        "AMD EPYC 9654, 16 cores",
        "PeftModel",
        "revision=\"0123456789abcdef0123456789abcdef01234567\"",
        "(training/loss.svg)",
        "`acme/minilm`, under apache-2.0",
        "`acme/tweets`, which states no licence",
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
    let text = fresh(&facts).unwrap();
    assert!(
        !text.contains("model-index") && text.contains("not evaluated on held-out"),
        "{text}"
    );
}

#[test]
fn peoples_prose_stays_and_a_second_run_replaces_only_its_own_section() {
    let existing = "---\nlanguage: en # ours\nlicense: mit\n---\n# Our model\n\nWritten by hand.\n";
    let first = merged(existing.as_bytes(), &facts()).unwrap();
    assert!(
        first.starts_with("---\nlanguage: en # ours\nlicense: mit\n"),
        "{first}"
    );
    assert!(first.contains("# Our model\n\nWritten by hand.\n"), "{first}");
    let after = first.replace(END, &format!("{END}\n\nMore by hand."));
    let longer = Facts { steps: 99, ..facts() };
    let second = merged(after.as_bytes(), &longer).unwrap();
    assert!(
        second.contains("| Steps | 99 ") && !second.contains("| Steps | 50 "),
        "{second}"
    );
    assert!(
        second.contains("Written by hand.") && second.contains("More by hand."),
        "{second}"
    );
    assert_eq!(second.matches(BEGIN).count(), 1);
    assert_eq!(merged(second.as_bytes(), &longer).unwrap(), second);
}

#[test]
fn line_endings_of_the_card_are_kept() {
    let existing = "---\r\nlicense: mit\r\n---\r\n# Ours\r\n";
    let text = merged(existing.as_bytes(), &facts()).unwrap();
    assert!(!text.replace("\r\n", "").contains('\n'), "{text:?}");
}

#[test]
fn a_named_licence_is_carried_with_an_address_that_works_from_elsewhere() {
    let facts = Facts {
        license: License {
            ids: vec!["other".into()],
            name: Some("acme-research".into()),
            link: Some("LICENSE.md".into()),
        },
        ..facts()
    };
    let card = Card::parse(&fresh(&facts).unwrap()).unwrap();
    let link = "https://hub.example/acme/minilm/blob/0123456789abcdef0123456789abcdef01234567/LICENSE.md";
    for (key, value) in [
        ("license", "other"),
        ("license_name", "acme-research"),
        ("license_link", link),
    ] {
        assert_eq!(card.get(key), Some(json!(value)), "{key}");
    }
    assert!(card.body().contains(&format!("[acme-research]({link})")));
}

#[test]
fn a_decoder_is_shown_as_it_is_used() {
    let mut chat = Facts {
        chat: true,
        base_path: "/models/smollm2.Q4_1.gguf".into(),
        ..facts()
    };
    chat.config.task = Task::CausalLM;
    let text = fresh(&chat).unwrap();
    for said in [
        "apply_chat_template",
        "gguf_file=\"smollm2.Q4_1.gguf\"",
        "/v1/chat/completions",
        "\"model\":\"sentiment\"",
        "--name sentiment",
    ] {
        assert!(text.contains(said), "`{said}` is not in:\n{text}");
    }
    chat.config.output.merge = true;
    chat.chat = false;
    let text = fresh(&chat).unwrap();
    assert!(
        !text.contains("peft") && text.contains("/v1/completions") && text.contains("merged into"),
        "{text}"
    );
}
