//! Figures held against bounds.

use std::time::Duration;

use super::*;

fn asked(json: &str) -> Analysis {
    serde_json::from_str(json).unwrap()
}

fn figures(requests: u64, errors: u64, milliseconds: u64) -> Figures {
    let bucket = Histogram::bucket(Duration::from_millis(milliseconds));
    let latency = Histogram {
        buckets: vec![(bucket, requests)],
    };
    Figures {
        requests,
        errors,
        latency: latency.clone(),
        first_byte: latency,
        scores: Scores::default(),
    }
}

const ERRORS: &str = r#"{"duration":"1m","minRequests":100,"metrics":[{"name":"errorRate","max":0.01}]}"#;

#[test]
fn too_few_requests_are_never_a_pass() {
    let measured = Measured {
        canary: figures(99, 0, 10),
        ..Measured::default()
    };
    let judged = judge(&asked(ERRORS), &measured, true);
    assert_eq!(judged.finding, Finding::Inconclusive);
    assert!(judged.message.contains("only 99 requests"), "{}", judged.message);
}

#[test]
fn the_figures_are_told() {
    let measured = Measured {
        canary: figures(200, 1, 10),
        ..Measured::default()
    };
    assert_eq!(
        judge(&asked(ERRORS), &measured, true),
        Judged {
            finding: Finding::Passed,
            message: "errorRate is 0.005, within max 0.01 (200 requests)".into()
        }
    );
    let measured = Measured {
        canary: figures(200, 3, 10),
        ..Measured::default()
    };
    assert_eq!(judge(&asked(ERRORS), &measured, true).finding, Finding::Failed);
}

#[test]
fn only_a_certain_failure_ends_an_analysis_early() {
    let sick = Measured {
        canary: figures(100, 40, 10),
        ..Measured::default()
    };
    assert_eq!(judge(&asked(ERRORS), &sick, false).finding, Finding::Failed);
    let unlucky = Measured {
        canary: figures(100, 2, 10),
        ..Measured::default()
    };
    assert_eq!(judge(&asked(ERRORS), &unlucky, false).finding, Finding::Measuring);
    let early = Measured {
        canary: figures(20, 20, 10),
        ..Measured::default()
    };
    assert_eq!(judge(&asked(ERRORS), &early, false).finding, Finding::Measuring);
}

#[test]
fn failures_that_nobody_counted_are_never_a_pass() {
    let uncounted = Some("a server of the new revision ended".to_owned());
    let measured = |errors| Measured {
        canary: figures(200, errors, 10),
        uncounted: uncounted.clone(),
        ..Measured::default()
    };
    let judged = judge(&asked(ERRORS), &measured(0), true);
    assert_eq!(
        (judged.finding, Some(judged.message)),
        (Finding::Inconclusive, uncounted.clone())
    );
    assert_eq!(judge(&asked(ERRORS), &measured(9), true).finding, Finding::Failed);
}

#[test]
fn the_old_revision_over_the_same_time_is_a_bound_too() {
    let relative = asked(
        r#"{"duration":"1m","minRequests":10,"metrics":[{"name":"latencyP95Seconds","maxRatioToStable":1.5}]}"#,
    );
    let slower = Measured {
        canary: figures(50, 0, 200),
        stable: figures(50, 0, 100),
        ..Measured::default()
    };
    let judged = judge(&relative, &slower, true);
    assert_eq!(judged.finding, Finding::Failed);
    assert!(
        judged.message.contains("above 1.5 times the old revision's"),
        "{}",
        judged.message
    );
    let like = Measured {
        canary: figures(50, 0, 110),
        stable: figures(50, 0, 100),
        ..Measured::default()
    };
    assert_eq!(judge(&relative, &like, true).finding, Finding::Passed);
    let alone = Measured {
        canary: figures(50, 0, 110),
        ..Measured::default()
    };
    assert_eq!(judge(&relative, &alone, true).finding, Finding::Inconclusive);
}

#[test]
fn copies_are_looked_at_while_there_is_no_share() {
    let json = r#"[{"variant":"a","revision":"new","requests":0,"mirrored":{"requests":7,"errors":2}},
                   {"variant":"a","revision":"old","requests":9},{"variant":"b","revision":"new","requests":1}]"#;
    let series: Vec<RevisionStats> = serde_json::from_str(json).unwrap();
    let measured = Measured::of(&series, "a", "new", "old", true);
    assert_eq!(
        (
            measured.canary.requests,
            measured.canary.errors,
            measured.stable.requests
        ),
        (7, 2, 9)
    );
    assert_eq!(Measured::of(&series, "a", "new", "old", false).canary.requests, 0);
}

#[test]
fn a_prometheus_answer_is_held_against_its_bounds_once_it_is_there() {
    let asked = asked(
        r#"{"duration":"1m","minRequests":10,"metrics":[{"prometheus":{"address":"http://p:9090","query":"up"},"min":0.5,"max":2}]}"#,
    );
    let query = asked.metrics[0].prometheus.clone().unwrap();
    let answered = |answer: Option<Answer>| Measured {
        canary: figures(50, 0, 10),
        answers: answer.into_iter().map(|answer| (query.clone(), answer)).collect(),
        ..Measured::default()
    };
    for (answer, finding, said) in [
        (
            Some(Answer::Value(1.0)),
            Finding::Passed,
            "within max 2, at least min 0.5",
        ),
        (Some(Answer::Value(3.0)), Finding::Failed, "above max 2"),
        (Some(Answer::Value(0.1)), Finding::Failed, "below min 0.5"),
        (
            Some(Answer::Unusable("no series".into())),
            Finding::Inconclusive,
            "no series",
        ),
        (
            Some(Answer::Unreachable("refused".into())),
            Finding::Measuring,
            "refused",
        ),
        (None, Finding::Measuring, "waits for the answer"),
    ] {
        let judged = judge(&asked, &answered(answer), true);
        assert_eq!(judged.finding, finding, "{}", judged.message);
        assert!(judged.message.contains(said), "{}", judged.message);
    }
}

#[test]
fn figures_read_well() {
    assert_eq!(
        [0.0, 0.005, 0.123_456, 12.0, 1234.5].map(figure),
        ["0", "0.005", "0.1235", "12", "1234"]
    );
}

/// Answers of which so many were scored, `mean` each.
fn scored(count: u64, mean: f64) -> Figures {
    Figures {
        scores: Scores {
            count,
            sum: mean * count as f64,
        },
        ..figures(100, 0, 10)
    }
}

fn feedback(bounds: &str) -> Analysis {
    asked(&format!(
        r#"{{"duration":"1m","minRequests":10,"metrics":[{{"name":"feedbackScore",{bounds}}}]}}"#
    ))
}

#[test]
fn what_clients_say_is_held_against_a_bound_and_the_old_revision() {
    let both = feedback(r#""min":0.6,"minRatioToStable":0.95"#);
    for (new, old, finding, said) in [
        (
            0.8,
            0.8,
            Finding::Passed,
            "feedbackScore is 0.8, at least min 0.6, at least 0.95 times",
        ),
        (0.5, 0.5, Finding::Failed, "below min 0.6"),
        (
            0.7,
            0.8,
            Finding::Failed,
            "below 0.95 times the old revision's 0.8",
        ),
        (0.9, 0.8, Finding::Passed, "at least"),
    ] {
        let measured = Measured {
            canary: scored(50, new),
            stable: scored(50, old),
            ..Measured::default()
        };
        let judged = judge(&both, &measured, true);
        assert_eq!(judged.finding, finding, "{}", judged.message);
        assert!(judged.message.contains(said), "{}", judged.message);
    }
}

#[test]
fn too_few_scores_are_never_a_pass_and_never_a_failure() {
    let ratio = feedback(r#""minRatioToStable":0.9,"minScores":20"#);
    let fixed = feedback(r#""min":0.6"#);
    let copies = Measured {
        mirrored: true,
        canary: scored(0, 0.0),
        ..Measured::default()
    };
    let of = |canary, stable| Measured {
        canary,
        stable,
        ..Measured::default()
    };
    for (asked, measured, said) in [
        (
            &fixed,
            of(scored(49, 0.1), scored(0, 0.0)),
            "only 49 scores of the new revision, fewer than minScores (50)",
        ),
        (
            &ratio,
            of(scored(19, 1.0), scored(99, 0.5)),
            "only 19 scores of the new revision",
        ),
        (
            &ratio,
            of(scored(20, 1.0), scored(19, 0.5)),
            "only 19 scores of the old revision, fewer than minScores (20)",
        ),
        (&fixed, copies, "put a setWeight before this analysis"),
    ] {
        // Enough answers, so that it is the scores that are missing.
        let judged = judge(asked, &measured, true);
        assert_eq!(judged.finding, Finding::Inconclusive, "{}", judged.message);
        assert!(judged.message.contains(said), "{}", judged.message);
    }
    let alone = judge(&fixed, &of(scored(50, 0.7), scored(0, 0.0)), true);
    assert_eq!(
        alone.finding,
        Finding::Passed,
        "nothing is compared: {}",
        alone.message
    );
}
