//! What figures and comparisons come of observations.

use slipway_contract::ModelSource;

use super::*;

fn spec(name: MetricName, average: Option<Average>) -> MetricSpec {
    MetricSpec { name, average }
}

fn baseline(metric: MetricName) -> Baseline {
    Baseline {
        model: ModelSource::Path("base".into()),
        metric,
        min_difference: 0.0,
        confidence: 0.95,
    }
}

/// Right in all but every `miss`-th of 300 examples.
fn classes(miss: u32) -> Observations {
    let pairs = (0..300)
        .map(|n| (n % 3, if n % miss == 0 { (n + 1) % 3 } else { n % 3 }))
        .collect();
    Observations::Classes {
        count: 3,
        pairs,
        area: None,
    }
}

fn language(terms: &[(f64, u64)]) -> Observations {
    let likelihoods = terms.iter().map(|&(nats, tokens)| Likelihood {
        nats,
        tokens,
        bytes: 4 * tokens,
    });
    Observations::Language {
        likelihoods: likelihoods.collect(),
        answers: Vec::new(),
    }
}

fn answers(metric: MetricName, found: &[&str], truth: &[&str]) -> Observations {
    let text = of_answers(metric).unwrap();
    Observations::Language {
        likelihoods: Vec::new(),
        answers: vec![(metric, text.contributions(found, truth, None).unwrap())],
    }
}

#[test]
fn shares_get_wilsons_interval_and_others_the_bootstraps() {
    let specs = [
        spec(MetricName::Accuracy, None),
        spec(MetricName::F1, None),
        spec(MetricName::Recall, Some(Average::Micro)),
        spec(MetricName::MatthewsCorrelation, None),
    ];
    let found = results(&specs, &classes(5), 0.95).unwrap();
    assert_eq!(
        (found[0].value, found[0].examples, found[0].average),
        (0.8, 300, None)
    );
    assert_eq!(found[0].confidence_interval, wilson(240, 300, 0.95));
    assert_eq!(found[2].confidence_interval, found[0].confidence_interval);
    assert_eq!(found[1].average, Some(Average::Macro));
    let f1 = found[1].confidence_interval;
    assert!(
        f1.low < found[1].value && found[1].value < f1.high && f1.high - f1.low < 0.12,
        "{f1:?}"
    );
    assert!((found[3].value - 0.7).abs() < 1e-3, "{:?}", found[3]);
}

#[test]
fn pairing_makes_the_difference_surer_than_its_parts() {
    let (good, bad) = (classes(10), classes(5));
    let found = compare(&baseline(MetricName::Accuracy), &[], &good, &bad).unwrap();
    assert!((found.difference - 0.1).abs() < 1e-12 && (found.baseline_value - 0.8).abs() < 1e-12);
    let width = found.confidence_interval.high - found.confidence_interval.low;
    // The errors of one are among those of the other: n·p(1-p) of the differing tenth only.
    assert!(
        (width - 2.0 * 1.96 * (0.1 * 0.9 / 300.0f64).sqrt()).abs() < 0.01,
        "{width}"
    );
    let same = compare(&baseline(MetricName::F1), &[], &good, &good).unwrap();
    assert_eq!(
        (same.confidence_interval.low, same.confidence_interval.high),
        (0.0, 0.0)
    );
}

#[test]
fn less_perplexity_is_a_positive_difference() {
    let target = language(&[(2.0, 2), (0.0, 0), (4.0, 4)]);
    let other = language(&[(4.0, 2), (0.0, 0), (8.0, 4)]);
    let specs = [
        spec(MetricName::Perplexity, None),
        spec(MetricName::BitsPerByte, None),
    ];
    let found = results(&specs, &target, 0.95).unwrap();
    assert!((found[0].value - 1f64.exp()).abs() < 1e-12 && found[0].examples == 2);
    assert!((found[1].value - 0.25 / std::f64::consts::LN_2).abs() < 1e-12);
    let compared = compare(&baseline(MetricName::Perplexity), &[], &target, &other).unwrap();
    assert!((compared.difference - (2f64.exp() - 1f64.exp())).abs() < 1e-12);
}

#[test]
fn fewer_edits_are_a_positive_difference_of_sums_over_examples() {
    let truth = ["a b c d", "a b", "x y z", "a b c d e f"];
    let ter = |found: &[&str]| answers(MetricName::Ter, found, &truth);
    let (good, bad) = (ter(&truth), ter(&["a b c x", "c d", "x y", ""]));
    let found = compare(&baseline(MetricName::Ter), &[], &good, &bad).unwrap();
    // 1 + 2 + 1 + 6 edits of 15 words.
    assert!(
        (found.baseline_value - 100.0 * 10.0 / 15.0).abs() < 1e-9,
        "{found:?}"
    );
    assert!((found.difference - found.baseline_value).abs() < 1e-12);
    assert!(found.confidence_interval.low > 0.0);
}

#[test]
fn every_metric_of_answers_is_one_of_texts() {
    for name in MetricName::ALL {
        let of_texts = name.source() == slipway_contract::MetricSource::Answers;
        assert_eq!(of_answers(name).is_some(), of_texts, "{name:?}");
    }
}

#[test]
fn an_exact_match_is_a_share() {
    let found = answers(MetricName::ExactMatch, &["a", "b", "c"], &["a", "b", "d"]);
    let found = results(&[spec(MetricName::ExactMatch, None)], &found, 0.9).unwrap();
    assert_eq!(found[0].confidence_interval, wilson(2, 3, 0.9));
}

#[test]
fn a_metric_without_a_value_says_why() {
    let one = [spec(MetricName::F1, Some(Average::Binary))];
    let failure = results(&one, &classes(5), 0.95).unwrap_err();
    assert_eq!(failure.reason, FailureReason::InvalidConfig);
    assert!(
        failure
            .message
            .starts_with("f1 has no value: average binary needs two classes"),
        "{failure}"
    );

    let area = RocAuc::new(&[1, 1], &[vec![0.1, 0.9], vec![0.2, 0.8]]).unwrap();
    let observed = Observations::Classes {
        count: 2,
        pairs: vec![(1, 1), (1, 1)],
        area: Some(area),
    };
    let failure = results(&[spec(MetricName::RocAuc, None)], &observed, 0.95).unwrap_err();
    assert_eq!(failure.reason, FailureReason::EmptyDataset);
    assert!(failure.message.contains("class 1 has every example"), "{failure}");
}

#[test]
fn too_few_examples_of_a_class_give_no_interval() {
    let scores: Vec<Vec<f64>> = (0..4)
        .map(|class| (0..4).map(|other| f64::from(u8::from(class == other))).collect())
        .collect();
    let observed = Observations::Classes {
        count: 4,
        pairs: (0..4).map(|class| (class, class)).collect(),
        area: Some(RocAuc::new(&[0, 1, 2, 3], &scores).unwrap()),
    };
    let failure = results(&[spec(MetricName::RocAuc, None)], &observed, 0.95).unwrap_err();
    assert!(
        failure
            .message
            .contains("too few examples for a confidence interval of rocAuc"),
        "{failure}"
    );
}

#[test]
fn a_choice_is_the_likeliest_whole_or_by_the_character_and_the_first_of_equals() {
    let choices = ["no".to_owned(), "of course".to_owned(), "ja".to_owned()];
    let one = Chosen::new(&choices, vec![-2.0, -4.5, -2.0], 1);
    assert_eq!((one.choice, one.normalised), (0, 1));
    let other = Chosen::new(&choices, vec![-3.0, -1.0, -9.0], 0);
    let observed = Observations::Choices(vec![one, other]);
    let specs = [spec(MetricName::Acc, None), spec(MetricName::AccNorm, None)];
    let found = results(&specs, &observed, 0.95).unwrap();
    assert_eq!((found[0].value, found[1].value), (0.0, 0.5));
    // Shares get Wilson's interval.
    assert!(found[0].confidence_interval.low.abs() < 1e-12);
    assert!((found[1].confidence_interval.low + found[1].confidence_interval.high - 1.0).abs() < 1e-9);
}

#[test]
fn numbers_and_rankings_are_compared_in_pairs() {
    let truth: Vec<f64> = (0..80).map(f64::from).collect();
    let off = |by: f64| Observations::Numbers {
        truth: truth.clone(),
        found: truth.iter().map(|value| value + by).collect(),
    };
    let found = compare(&baseline(MetricName::Mae), &[], &off(1.0), &off(3.0)).unwrap();
    // Less error is better, so that the difference is positive, and it is the same for each example.
    assert_eq!((found.difference, found.confidence_interval.low), (2.0, 2.0));
    let ranked = |first: bool| Retrieval {
        hits: vec![first, !first],
        relevant: 1,
    };
    let rankings = |found: usize| Observations::Rankings((0..60).map(|n| ranked(n % found != 0)).collect());
    let found = compare(&baseline(MetricName::MrrAt10), &[], &rankings(6), &rankings(2)).unwrap();
    assert!((found.difference - 1.0 / 6.0).abs() < 1e-9, "{found:?}");
    assert!(found.confidence_interval.low > 0.0);
}
