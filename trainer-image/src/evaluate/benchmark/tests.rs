//! What benchmarks make of rows.

use serde_json::json;
use slipway_contract::{DatasetSource, Shipped};

use super::*;

fn benchmark(yaml: &str) -> Benchmark {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    slipway_contract::parse(file.path()).unwrap()
}

fn questions(benchmark: &Benchmark, rows: &[Value]) -> Result<Vec<ChoiceQuestion>, String> {
    let directory = tempfile::TempDir::new().unwrap();
    let lines: String = rows.iter().map(|row| row.to_string() + "\n").collect();
    std::fs::write(directory.path().join("test.jsonl"), &lines).unwrap();
    std::fs::write(directory.path().join("train.jsonl"), lines).unwrap();
    let layout = Layout::open(directory.path()).unwrap();
    let split = layout.split("test").unwrap();
    let dataset: Dataset = serde_json::from_value(json!({ "source": { "path": directory.path() } })).unwrap();
    assert!(matches!(dataset.source, DatasetSource::Path(_)));
    match read(benchmark, &layout, &split, &dataset) {
        Ok((Questions::Chosen { questions, .. }, _)) => Ok(questions),
        Ok((Questions::Free(_), _)) => Ok(Vec::new()),
        Err(failure) => Err(failure.message),
    }
}

fn arc(question: &str, right: &str) -> Value {
    json!({ "question": question, "choices": { "text": ["one", "two"], "label": ["A", "B"] }, "answerKey": right })
}

#[test]
fn shipped_templates_read_the_columns_of_their_datasets() {
    let found = questions(&Shipped::ArcEasy.benchmark(), &[arc("Q?", "B")]).unwrap();
    assert_eq!(
        found[0],
        ChoiceQuestion {
            context: "Question: Q?\nAnswer:".into(),
            choices: vec!["one".into(), "two".into()],
            right: 1
        }
    );
    let row = json!({
        "activity_label": "Cooking", "ctx_a": "[header] How to boil [title] Take water.", "ctx_b": "the COOK",
        "endings": [" stirs  it. [step] Done. ", "leaves. [title] Ends"], "label": "1",
    });
    let found = questions(&Shipped::Hellaswag.benchmark(), &[row]).unwrap();
    // The preprocessing of lm-evaluation-harness, in Python, gives these.
    assert_eq!(found[0].context, "Cooking: How to boil. Take water. The cook");
    assert_eq!(found[0].choices, ["stirs it. Done.", "leaves.. Ends"]);
    assert_eq!(found[0].right, 1);
    let row = json!({ "support": "  S.", "question": "Q?", "distractor1": "a", "distractor2": "b", "distractor3": "c", "correct_answer": "d" });
    let found = questions(&Shipped::Sciq.benchmark(), &[row]).unwrap();
    assert_eq!(
        (found[0].context.as_str(), found[0].right),
        ("S.\nQuestion: Q?\nAnswer:", 3)
    );
}

#[test]
fn worked_examples_are_the_first_rows_that_are_not_the_question() {
    let rows = [arc("1?", "A"), arc("2?", "B"), arc("3?", "A")];
    let shots = |split: &str| {
        let yaml = format!(
            "{{name: n, description: 'Choose.\n\n\n', prompt: 'Q: {{{{question}}}}', choices: '{{{{choices.text}}}}', \
             target: '{{{{choices.label.index(answerKey)}}}}', fewShot: {{count: 1, sampler: FirstN, split: {split}}}}}"
        );
        questions(&benchmark(&yaml), &rows).unwrap()
    };
    let same = shots("test");
    assert!(
        same[0].context.ends_with("Q: 2? two\n\nQ: 1?"),
        "{}",
        same[0].context
    );
    assert!(same[2].context.starts_with("Choose."), "{}", same[2].context);
    assert!(
        same[2].context.ends_with("Q: 1? one\n\nQ: 3?"),
        "{}",
        same[2].context
    );
    // Another split is shown as it is, as lm-evaluation-harness does.
    assert!(shots("train")[0].context.ends_with("Q: 1? one\n\nQ: 1?"));
}

#[test]
fn drawn_examples_are_never_the_question_nor_its_double() {
    let ask = |rows: &[Value], seed: u64| {
        let yaml = format!(
            "{{name: n, prompt: 'Q: {{{{question}}}}', choices: '{{{{choices.text}}}}', \
             target: '{{{{choices.label.index(answerKey)}}}}', fewShot: {{count: 2, split: test, seed: {seed}}}}}"
        );
        questions(&benchmark(&yaml), rows)
    };
    // Two rows are the same: where both are drawn before the question, another draw has to find two.
    let rows = [arc("1?", "A"), arc("1?", "A"), arc("2?", "B"), arc("3?", "A")];
    for seed in 0..20 {
        let found = ask(&rows, seed).unwrap();
        for (place, question) in found.iter().enumerate() {
            let asked = &question.context[question.context.rfind("Q: ").unwrap()..];
            assert_eq!(question.context.matches("Q: ").count(), 3, "{}", question.context);
            assert_eq!(
                question.context.matches(asked).count(),
                1,
                "{place}: {}",
                question.context
            );
        }
        assert_eq!(ask(&rows, seed).unwrap(), found, "draws repeat");
    }
    assert_ne!(ask(&rows, 1).unwrap(), ask(&rows, 2).unwrap());
    let refused = ask(&rows[..2], 1).unwrap_err();
    assert!(refused.contains("fewShot.count"), "{refused}");
    let refused = ask(&rows[..3], 1).unwrap_err();
    assert!(refused.contains("too few other rows differ"), "{refused}");
}

#[test]
fn rows_that_are_no_questions_are_refused_by_their_place() {
    let arc_easy = Shipped::ArcEasy.benchmark();
    let wrong = questions(&arc_easy, &[arc("Q?", "A"), arc("Q?", "C")]).unwrap_err();
    assert!(
        wrong.contains("line 2") && wrong.contains("C is not in the list"),
        "{wrong}"
    );
    let fixed = benchmark("{name: n, prompt: q, choices: ['no', 'yes'], target: label}");
    let answered = |label: Value| questions(&fixed, &[json!({ "q": "Q", "label": label })]);
    assert_eq!(answered(json!("yes")).unwrap()[0].right, 1);
    assert_eq!(answered(json!(true)).unwrap()[0].right, 1);
    assert!(answered(json!(2)).unwrap_err().contains("there are 2"));
    assert!(
        answered(json!("maybe"))
            .unwrap_err()
            .contains("neither a choice's number")
    );
    let broken = benchmark("{name: n, prompt: '{{q', choices: ['no', 'yes'], target: label}");
    let refused = questions(&broken, &[json!({ "q": "Q", "label": 0 })]).unwrap_err();
    assert!(
        refused.contains("benchmark n: the template prompt does not parse"),
        "{refused}"
    );
}
