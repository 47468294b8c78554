//! Computes metrics for comparison with other libraries: reads a JSON list of cases from standard input. A case has `truth`,
//! `found` (class ids) and `classes` (how many); the answer to it is an object of metrics, null where there is none, and
//! `wilson`, the 95 % interval of its accuracy.

use slipway_contract::{Average, MetricName};
use slipway_trainer::metrics::{Confusion, wilson};

#[derive(serde::Deserialize)]
struct Case {
    truth: Vec<u32>,
    found: Vec<u32>,
    classes: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cases: Vec<Case> = serde_json::from_reader(std::io::stdin())?;
    let mut answers = Vec::new();
    for case in cases {
        let mut confusion = Confusion::new(case.classes);
        for (&truth, &found) in case.truth.iter().zip(&case.found) {
            confusion.add(truth, found);
        }
        let mut answer = serde_json::Map::new();
        answer.insert(
            "accuracy".into(),
            confusion.score(MetricName::Accuracy, None).into(),
        );
        for (name, metric) in [
            ("precision", MetricName::Precision),
            ("recall", MetricName::Recall),
            ("f1", MetricName::F1),
        ] {
            for (kind, average) in [
                ("macro", Average::Macro),
                ("micro", Average::Micro),
                ("weighted", Average::Weighted),
            ] {
                answer.insert(
                    format!("{name}_{kind}"),
                    confusion.score(metric, Some(average)).into(),
                );
            }
        }
        if confusion.examples() > 0 {
            let interval = wilson(confusion.right(), confusion.examples(), 0.95);
            answer.insert("wilson".into(), serde_json::json!([interval.low, interval.high]));
        }
        answers.push(answer);
    }
    println!("{}", serde_json::to_string(&answers)?);
    Ok(())
}
