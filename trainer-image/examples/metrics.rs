//! Computes metrics for comparison with their reference implementations: reads a JSON list of cases from standard input,
//! see [`Case`]. The answer to each is an object of metrics; a metric without a value is `{"refused": why}`.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use slipway_contract::Average;
use slipway_trainer::metrics::ranking::{Retrieval, mean};
use slipway_trainer::metrics::{
    Confusion, Lexicon, LexiconError, OfClass, RocAuc, TextMetric, Undefined, bits_per_byte, perplexity,
    regression, wilson,
};

#[derive(serde::Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
enum Case {
    /// Class ids, out of how many.
    Classes {
        truth: Vec<u32>,
        found: Vec<u32>,
        classes: usize,
    },
    /// Class ids, and a score for each class of each example.
    Scores { truth: Vec<u32>, scores: Vec<Vec<f64>> },
    /// Numbers.
    Numbers { truth: Vec<f64>, found: Vec<f64> },
    /// Texts; `metrics` names some of them, all by default.
    Texts {
        truth: Vec<String>,
        found: Vec<String>,
        metrics: Option<Vec<String>>,
        /// Folder of nltk's data, for METEOR.
        lexicon: Option<PathBuf>,
    },
    /// For each query the documents found, best first, and those relevant.
    Retrieval {
        found: Vec<Vec<usize>>,
        relevant: Vec<Vec<usize>>,
        k: usize,
    },
    /// Sums over examples.
    Likelihoods { nats: f64, tokens: u64, bytes: u64 },
}

const TEXT_METRICS: [(&str, TextMetric); 11] = [
    ("exact_match", TextMetric::ExactMatch),
    ("squad_f1", TextMetric::SquadF1),
    ("bleu", TextMetric::Bleu),
    ("sacrebleu", TextMetric::SacreBleu),
    ("chrf", TextMetric::Chrf),
    ("ter", TextMetric::Ter),
    ("rouge1", TextMetric::Rouge1),
    ("rouge2", TextMetric::Rouge2),
    ("rougeL", TextMetric::RougeL),
    ("rougeLsum", TextMetric::RougeLsum),
    ("meteor", TextMetric::Meteor),
];

/// The metrics of one case.
#[derive(Default)]
struct Answer(Map<String, Value>);

impl Answer {
    fn set(&mut self, name: impl Into<String>, figure: Result<f64, Undefined>) {
        let value = figure.map_or_else(|why| json!({ "refused": why.to_string() }), Value::from);
        self.0.insert(name.into(), value);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cases: Vec<Case> = serde_json::from_reader(std::io::stdin())?;
    let mut answers = Vec::new();
    for case in cases {
        answers.push(answer(case)?.0);
    }
    println!("{}", serde_json::to_string(&answers)?);
    Ok(())
}

fn answer(case: Case) -> Result<Answer, LexiconError> {
    let mut answer = Answer::default();
    match case {
        Case::Classes {
            truth,
            found,
            classes,
        } => match Confusion::of(classes, &truth, &found) {
            Ok(confusion) => of_classes(&mut answer, &confusion),
            Err(why) => answer.set("accuracy", Err(why)),
        },
        Case::Scores { truth, scores } => {
            let area = RocAuc::new(&truth, &scores);
            answer.set("roc_auc", area.and_then(|area| area.score()));
        }
        Case::Numbers { truth, found } => {
            answer.set("mse", regression::mean_squared_error(&truth, &found));
            answer.set("rmse", regression::root_mean_squared_error(&truth, &found));
            answer.set("mae", regression::mean_absolute_error(&truth, &found));
            answer.set("r2", regression::r2(&truth, &found));
            answer.set("pearson", regression::pearson(&truth, &found));
            answer.set("spearman", regression::spearman(&truth, &found));
        }
        Case::Texts {
            truth,
            found,
            metrics,
            lexicon,
        } => {
            let lexicon = lexicon.map(|folder| Lexicon::open(&folder)).transpose()?;
            for (name, metric) in TEXT_METRICS {
                if metrics
                    .as_ref()
                    .is_none_or(|some| some.iter().any(|other| other == name))
                {
                    let each = metric.contributions(&found, &truth, lexicon.as_ref());
                    answer.set(name, each.and_then(|each| each.score(0..each.len())));
                }
            }
        }
        Case::Retrieval { found, relevant, k } => {
            let answers: Vec<Retrieval> = found
                .iter()
                .zip(&relevant)
                .map(|(found, relevant)| Retrieval {
                    hits: found.iter().map(|document| relevant.contains(document)).collect(),
                    relevant: relevant.len(),
                })
                .collect();
            answer.set("recall", mean(&answers, |query| query.recall(k)));
            answer.set("ndcg", mean(&answers, |query| query.ndcg(k)));
            answer.set("mrr", mean(&answers, |query| query.reciprocal_rank(k)));
        }
        Case::Likelihoods { nats, tokens, bytes } => {
            answer.set("perplexity", perplexity(nats, tokens));
            answer.set("bits_per_byte", bits_per_byte(nats, bytes));
        }
    }
    Ok(answer)
}

fn of_classes(answer: &mut Answer, confusion: &Confusion) {
    answer.set("accuracy", confusion.accuracy());
    answer.set("matthews", confusion.matthews());
    for (name, figure) in [
        ("precision", OfClass::Precision),
        ("recall", OfClass::Recall),
        ("f1", OfClass::F1),
    ] {
        for (kind, average) in [
            ("macro", Average::Macro),
            ("micro", Average::Micro),
            ("weighted", Average::Weighted),
            ("binary", Average::Binary),
        ] {
            answer.set(format!("{name}_{kind}"), confusion.averaged(figure, average));
        }
    }
    if confusion.examples() > 0 {
        let interval = wilson(confusion.right(), confusion.examples(), 0.95);
        answer
            .0
            .insert("wilson".into(), json!([interval.low, interval.high]));
    }
}
