//! What is said of a tally.

use super::super::boundary::Boundary;
use super::*;

#[test]
fn what_an_outcome_says_can_be_read_off_its_tally() {
    let rule = Rule::default();
    let mut tally = tally();
    score(&mut tally, &even(), 0, shares(90, 300));
    score(&mut tally, &even(), 1, shares(90, 300));
    let early = decide(&tally, &rule, 60);
    assert_eq!(early.verdict, Decision::NoDifferenceYet);
    assert_eq!(
        (early.differences[0].confidence_interval, early.winner),
        (None, None)
    );
    assert_eq!(
        early.message,
        "too early: candidate has 300 of the 500 scores that each arm needs"
    );

    score(&mut tally, &even(), 0, shares(210, 700));
    score(&mut tally, &even(), 1, shares(220, 700));
    let open = decide(&tally, &rule, 60);
    assert_eq!(open.verdict, Decision::NoDifferenceYet, "{open:?}");
    assert!(
        open.message
            .starts_with("no difference yet: candidate scores 0.0100 more than control (95% interval -0.")
    );

    score(&mut tally, &even(), 0, shares(300, 1000));
    score(&mut tally, &even(), 1, shares(420, 1000));
    let won = decide(&tally, &rule, 3600);
    assert_eq!(
        (won.verdict, won.winner.as_deref()),
        (Decision::Winner, Some("candidate"))
    );
    let interval = won.differences[0].confidence_interval.unwrap();
    let contrast = tally.contrast(1, 0).unwrap();
    let margin = Boundary::new(0.05, 1000.0).at(contrast.time).unwrap() * contrast.variance.sqrt();
    close(interval.high - interval.low, 2.0 * margin);
    assert!(interval.low > 0.0);
    assert!(
        won.message
            .starts_with("candidate is better: 0.0650 more than control (95% interval 0.0"),
        "{}",
        won.message
    );
    assert!(
        won.message.ends_with(", 2000 and 2000 scores)"),
        "{}",
        won.message
    );
    let json = serde_json::to_value(&won).unwrap();
    assert_eq!(json["durationSeconds"], 3600);
    assert_eq!(json["sampleRatio"]["mismatch"], false);
    assert_eq!(serde_json::from_value::<Outcome>(json).unwrap(), won);
}

#[test]
fn the_worse_arm_makes_the_other_the_winner() {
    let mut tally = tally();
    score(&mut tally, &even(), 0, shares(600, 1000));
    score(&mut tally, &even(), 1, shares(0, 1000));
    let outcome = decide(&tally, &Rule::default(), 1);
    assert_eq!(outcome.winner.as_deref(), Some("control"));
    assert!(
        outcome
            .message
            .starts_with("control is better: 0.6000 more than candidate (95% interval 0.5")
    );
    assert!(outcome.differences[0].confidence_interval.unwrap().high < 0.0);
}

#[test]
fn arms_that_always_and_never_score_are_told_apart() {
    let mut tally = tally();
    score(&mut tally, &even(), 0, shares(0, 600));
    score(&mut tally, &even(), 1, shares(600, 600));
    assert_eq!(
        decide(&tally, &Rule::default(), 1).winner.as_deref(),
        Some("candidate")
    );
}

#[test]
fn scores_that_are_all_the_same_differ_by_nothing_not_by_their_rounding() {
    let mut tally = tally();
    let nine = Split::new(&[90, 10]).unwrap();
    for n in 0..6000u64 {
        let arm = usize::from(n % 10 == 0);
        let routed = tally.route(&nine, arm, Some(n * 7919), n).unwrap();
        tally.score(routed, 0.1).unwrap();
    }
    let outcome = decide(&tally, &Rule::default(), 1);
    assert_eq!(outcome.message, "too early: all scores are the same so far");
}

#[test]
fn of_three_arms_one_must_beat_both_others() {
    let third = Split::new(&[1, 1, 1]).unwrap();
    let mut tally = Tally::new(["a", "b", "c"].map(String::from));
    score(&mut tally, &third, 0, shares(300, 1000));
    score(&mut tally, &third, 1, shares(500, 1000));
    score(&mut tally, &third, 2, shares(510, 1000));
    let tied = decide(&tally, &Rule::default(), 1);
    assert_eq!(
        (tied.verdict, tied.differences.len()),
        (Decision::NoDifferenceYet, 3)
    );
    for (arm, ones) in [300, 500, 900].into_iter().enumerate() {
        score(&mut tally, &third, arm, shares(ones, 1000));
    }
    let won = decide(&tally, &Rule::default(), 1);
    assert_eq!(won.winner.as_deref(), Some("c"));
    assert!(
        won.message.contains("more than a (") && won.message.contains("; 0.2050 more than b ("),
        "{}",
        won.message
    );
}

#[test]
fn a_rule_without_bounds_is_held_to_them() {
    let loose = Rule {
        confidence: 1.0,
        min_requests: 0,
    };
    let mut tally = tally();
    score(&mut tally, &even(), 0, shares(0, 60));
    score(&mut tally, &even(), 1, shares(60, 60));
    let outcome = decide(&tally, &loose, 1);
    assert_eq!(
        outcome.message,
        "too early: candidate has 60 of the 100 scores that each arm needs"
    );
    assert!((outcome.confidence - 0.9999).abs() < 1e-12);
}

#[test]
fn one_arm_or_none_wins_nothing() {
    for names in [vec![], vec!["a".to_owned()]] {
        let outcome = decide(&Tally::new(names), &Rule::default(), 1);
        assert_eq!(
            (outcome.verdict, outcome.winner),
            (Decision::NoDifferenceYet, None)
        );
    }
}

#[test]
fn a_split_that_was_not_kept_leaves_no_winner() {
    let mut tally = tally();
    score(&mut tally, &even(), 0, shares(300, 1000));
    score(&mut tally, &even(), 1, shares(780, 1300));
    let outcome = decide(&tally, &Rule::default(), 1);
    assert_eq!((outcome.verdict, outcome.winner), (Decision::Inconclusive, None));
    assert!(outcome.sample_ratio.mismatch && outcome.sample_ratio.p_value < 0.01);
    assert!(
        outcome
            .message
            .contains("control met 1000 users where 1150 were due"),
        "{}",
        outcome.message
    );
}

#[test]
fn a_few_users_with_many_scores_are_waited_for() {
    let mut tally = tally();
    for request in 0..2000u64 {
        let routed = tally
            .route(&even(), (request % 2) as usize, Some(request % 40), 0)
            .unwrap();
        tally.score(routed, f64::from(request % 3 == 0)).unwrap();
    }
    let outcome = decide(&tally, &Rule::default(), 1);
    assert!(
        outcome
            .message
            .contains("are worth those of 20 users, of the 100"),
        "{}",
        outcome.message
    );
    assert_eq!(outcome.differences[0].confidence_interval, None);
}
