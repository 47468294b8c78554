//! A schedule over several runs: what starts, what is remembered, what is said of drift.

use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_contract::Verdict;

use super::*;
use crate::eval_run::schedule::Clock;

const MONITOR: &str = "
metadata: {name: watch, namespace: models, uid: '1', generation: 1, creationTimestamp: '2026-01-01T00:00:30Z'}
spec:
  target: {deployment: {name: sentiment}}
  task: SequenceClassification
  dataset: {hub: {repo: acme/tweets}}
  metrics: [{name: accuracy}]
  schedule: {cron: '0 * * * *', historyLimit: 3}
";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn object() -> EvalRun {
    serde_saphyr::from_str(MONITOR).unwrap()
}

fn schedule(object: &EvalRun) -> Schedule {
    object.spec.schedule.clone().unwrap()
}

/// What an operator that knows nothing but the object would do at `now`.
fn looked(object: &EvalRun, now: Timestamp) -> Due {
    let schedule = schedule(object);
    look(object, &schedule, &Clock::of(&schedule, now).unwrap(), now)
}

/// Starts what is due, and says which Job.
fn start(object: &mut EvalRun, now: Timestamp) -> Option<String> {
    let due = looked(object, now);
    let run = next_run(object, due, now)?;
    let job = run.job.clone();
    object.status = Some(begin(object, run, due.next, now));
    object.metadata.annotations = None;
    Some(job)
}

/// Ends the run under way with `outcome` as the pod's last words, and says what event there is.
fn end(object: &mut EvalRun, outcome: &Value, now: Timestamp) -> (Summary, Option<Summary>) {
    let inputs = Inputs {
        job: Some(
            serde_json::from_value(
                json!({"metadata": {"name": job_name(object)}, "spec": {"template": {}},
                "status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
            )
            .unwrap(),
        ),
        pods: vec![
            serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": "Succeeded",
                "containerStatuses": [{"name": "trainer", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": {"terminated": {"exitCode": 0, "finishedAt": now.to_string(),
                        "message": outcome.to_string()}}}]}}))
            .unwrap(),
        ],
        ..Inputs::default()
    };
    let (mut told, summary) = status::derive(object, &inputs, now);
    let event = record(&mut told, object, &schedule(object), &inputs, &summary, now);
    let due = looked(object, now);
    let summary = settled(&mut told, object, due, schedule(object).suspend, now);
    object.status = Some(told);
    (summary, event)
}

fn accuracy(value: f64) -> Value {
    json!({"outcome": {"verdict": "Passed", "findings": [], "results": [{"metric": "accuracy", "value": value,
        "confidenceInterval": {"low": value - 0.03, "high": value + 0.03}, "examples": 800}]}})
}

fn condition(object: &EvalRun, kind: &str) -> Option<String> {
    let conditions = &object.status.as_ref()?.conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map(|condition| condition.status.clone())
}

fn ask(object: &mut EvalRun, value: &str) {
    object
        .annotations_mut()
        .insert(RUN_NOW_ANNOTATION.into(), value.into());
}

#[test]
fn a_run_starts_at_its_time_and_never_again() {
    let mut object = object();
    assert_eq!(start(&mut object, at("2026-01-01T00:59:59Z")), None, "too early");
    let job = start(&mut object, at("2026-01-01T01:00:00Z")).unwrap();
    assert_eq!(job, "watch-29453820", "minutes since 1970, as of a CronJob");
    assert_eq!(job_name(&object), job);
    let status = object.status.as_ref().unwrap();
    assert_eq!(
        status.next_scheduled_time.as_ref().unwrap().0,
        at("2026-01-01T02:00:00Z")
    );
    let (summary, event) = end(&mut object, &accuracy(0.75), at("2026-01-01T01:02:00Z"));
    assert_eq!(event, None);
    assert_eq!(
        (summary.standing, summary.reason.as_str()),
        (Standing::Ready, "Scheduled")
    );
    assert_eq!(
        summary.message,
        "the next run is at 2026-01-01T02:00:00Z; the run of 2026-01-01T01:00:00Z: Passed, accuracy 0.7500 ±0.0300"
    );
    // Restarted with the clock set back by an hour, and then going through the same minute again.
    for now in [
        "2026-01-01T00:30:00Z",
        "2026-01-01T01:00:00Z",
        "2026-01-01T01:59:59Z",
    ] {
        assert_eq!(start(&mut object, at(now)), None, "{now}");
    }
    let status = object.status.as_ref().unwrap();
    assert!(condition(&object, kind::COMPLETE).is_none() && condition(&object, kind::FAILED).is_none());
    assert_eq!(condition(&object, kind::READY).as_deref(), Some("True"));
    assert_eq!(status.verdict, Some(Verdict::Passed));
    assert_eq!(status.history[0].job, job);
}

#[test]
fn a_figure_that_leaves_the_reference_is_told_once_and_so_is_its_return() {
    let mut object = object();
    let mut run = |hour: usize, value: f64| {
        let now = at(&format!("2026-01-01T{hour:02}:00:10Z"));
        start(&mut object, now).unwrap();
        let (_, event) = end(&mut object, &accuracy(value), now);
        (
            event,
            condition(&object, kind::DRIFTED).unwrap(),
            object.status.clone().unwrap(),
        )
    };
    let (event, drifted, _) = run(1, 0.75);
    assert_eq!((event, drifted.as_str()), (None, "False"));
    let (event, drifted, _) = run(2, 0.70);
    assert_eq!((event, drifted.as_str()), (None, "False"), "the intervals meet");
    let (event, drifted, status) = run(3, 0.60);
    let event = event.unwrap();
    assert_eq!((event.reason.as_str(), drifted.as_str()), ("Drifted", "True"));
    assert!(event.is_warning());
    assert_eq!(
        event.message,
        "accuracy fell to 0.6000 [0.5700, 0.6300] (n = 800) from 0.7500 [0.7200, 0.7800] (n = 800) in the reference \
         run of 2026-01-01T01:00:00Z; model and data are those of the reference"
    );
    assert_eq!(status.history.len(), 3);
    let (event, drifted, _) = run(4, 0.59);
    assert_eq!((event, drifted.as_str()), (None, "True"), "it was told already");
    let (event, drifted, status) = run(5, 0.74);
    assert_eq!(
        (event.unwrap().reason.as_str(), drifted.as_str()),
        ("DriftCleared", "False")
    );
    assert_eq!(status.history.len(), 3, "the limit");
    assert_eq!(
        status.reference.unwrap().scheduled_time.0,
        at("2026-01-01T01:00:00Z"),
        "longer than the history"
    );
}

#[test]
fn a_run_that_could_not_measure_is_on_record_and_the_next_one_follows() {
    let mut object = object();
    start(&mut object, at("2026-01-01T01:00:00Z")).unwrap();
    end(&mut object, &accuracy(0.75), at("2026-01-01T01:01:00Z"));
    start(&mut object, at("2026-01-01T02:00:00Z")).unwrap();
    let (summary, event) = end(&mut object, &json!("cut off"), at("2026-01-01T02:01:00Z"));
    assert_eq!((summary.reason.as_str(), event), ("LastRunFailed", None));
    assert!(summary.message.contains("2026-01-01T03:00:00Z") && summary.message.contains("ReportLost"));
    let status = object.status.clone().unwrap();
    assert!(status.history[0].results.is_empty() && status.history[0].verdict.is_none());
    assert_eq!(status.history[0].failure.as_ref().unwrap().reason, "ReportLost");
    assert_eq!(status.results[0].examples, 800, "of the latest run that measured");
    assert_eq!(condition(&object, kind::STALLED).as_deref(), Some("True"));
    start(&mut object, at("2026-01-01T03:00:00Z")).unwrap();
    let (summary, _) = end(&mut object, &accuracy(0.75), at("2026-01-01T03:01:00Z"));
    assert_eq!(summary.reason, "Scheduled");
}

#[test]
fn a_run_that_was_asked_for_leaves_the_schedule_as_it_is() {
    let mut object = object();
    ask(&mut object, "");
    let job = start(&mut object, at("2026-01-01T00:40:00Z")).unwrap();
    assert_eq!(job, "watch-1767228000", "seconds since 1970");
    let run = object.status.clone().unwrap().active.unwrap();
    assert_eq!(run.trigger, Trigger::Request);
    end(&mut object, &accuracy(0.75), at("2026-01-01T00:41:00Z"));
    assert_eq!(
        start(&mut object, at("2026-01-01T01:00:00Z")).unwrap(),
        "watch-29453820"
    );
    end(&mut object, &accuracy(0.60), at("2026-01-01T01:01:00Z"));
    assert_eq!(condition(&object, kind::DRIFTED).as_deref(), Some("True"));
    // What is the new normal is said by a person.
    ask(&mut object, "reference");
    start(&mut object, at("2026-01-01T01:02:00Z")).unwrap();
    let (_, event) = end(&mut object, &accuracy(0.60), at("2026-01-01T01:03:00Z"));
    assert_eq!(event.unwrap().reason, "DriftCleared");
    let reference = object.status.as_ref().unwrap().reference.as_ref().unwrap();
    assert_eq!(reference.trigger, Trigger::Reference);
    // A clock that comes to the same second again finds the name taken.
    ask(&mut object, "");
    assert_eq!(
        start(&mut object, at("2026-01-01T01:02:00Z")).unwrap(),
        "watch-1767229321"
    );
}

#[test]
fn a_suspended_schedule_starts_only_what_is_asked_for() {
    let mut object = object();
    object.spec.schedule.as_mut().unwrap().suspend = true;
    let now = at("2026-01-01T05:00:00Z");
    assert_eq!(start(&mut object, now), None);
    let mut told = object.status.clone().unwrap_or_default();
    let summary = settled(&mut told, &object, looked(&object, now), true, now);
    assert_eq!(
        (summary.standing, summary.reason.as_str()),
        (Standing::Suspended, "Suspended")
    );
    ask(&mut object, "");
    assert!(start(&mut object, now).is_some());
}

#[test]
fn a_run_that_finds_no_target_is_given_up_when_the_next_is_due_or_its_deadline_has_passed() {
    let mut object = object();
    start(&mut object, at("2026-01-01T01:00:00Z")).unwrap();
    let active = object.status.clone().unwrap().active.unwrap();
    let lost =
        |object: &EvalRun, now: &str| given_up(&active, &schedule(object), looked(object, at(now)), at(now));
    assert!(!lost(&object, "2026-01-01T01:59:59Z"));
    assert!(lost(&object, "2026-01-01T02:00:00Z"));
    object.spec.schedule.as_mut().unwrap().starting_deadline_seconds = Some(600);
    assert!(!lost(&object, "2026-01-01T01:10:00Z"));
    assert!(lost(&object, "2026-01-01T01:10:01Z"));
}

#[test]
fn what_changed_between_two_runs_is_named_with_the_drift() {
    let run = |revision: &str, commit: &str| -> RunRecord {
        serde_json::from_value(json!({"scheduledTime": "2026-01-01T01:00:00Z", "job": "j",
            "completedAt": "2026-01-01T01:00:00Z", "dataset": {"repo": "acme/tweets", "commit": commit},
            "answering": [{"variant": "control", "revision": revision}]}))
        .unwrap()
    };
    let sentence = drift::sentence(
        &[],
        &run("aaaa", "1111111111112222"),
        &run("bbbb", "3333333333334444"),
    );
    assert!(
        sentence.ends_with(
            "since the reference variant control went from revision aaaa to bbbb, the dataset went from commit \
             111111111111 to commit 333333333333"
        ),
        "{sentence}"
    );
}

#[test]
fn those_who_answer_are_the_variant_asked_or_all() {
    let deployment: ModelDeployment = serde_saphyr::from_str(
        "metadata: {name: sentiment, namespace: models}\n\
         spec: {variants: [{name: a, model: {hub: {repo: a/b}}}]}\n\
         status: {variants: [{name: a, revision: r1}, {name: b, revision: r2, nextRevision: r3}], conditions: []}",
    )
    .unwrap();
    let of = |target: Value| -> Vec<String> {
        let target: TargetRef = serde_json::from_value(target).unwrap();
        answering(Some(&target), Some(&deployment))
            .iter()
            .map(|found| format!("{}@{}", found.variant, found.revision))
            .collect()
    };
    assert_eq!(of(json!({"deployment": {"name": "sentiment"}})), ["a@r1", "b@r2"]);
    assert_eq!(
        of(json!({"deployment": {"name": "sentiment", "variant": "b"}})),
        ["b@r2"]
    );
    assert_eq!(
        of(json!({"deployment": {"name": "sentiment", "variant": "b", "revision": "r3"}})),
        ["b@r3"]
    );
}

#[test]
fn chance_alone_rarely_looks_like_drift() {
    // Two draws of 500 examples at an accuracy of 0.8, by the normal approximation of both.
    use rand::{RngExt, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let (mut disjoint, mut outside, pairs) = (0, 0, 4000);
    for _ in 0..pairs {
        let mut draw = || {
            let right = (0..500).filter(|_| random.random_bool(0.8)).count() as f64;
            let value = right / 500.0;
            let half = 1.96 * (value * (1.0 - value) / 500.0).sqrt();
            serde_json::from_value::<RunRecord>(json!({"scheduledTime": "2026-01-01T01:00:00Z", "job": "j",
                "completedAt": "2026-01-01T01:00:00Z", "results": [{"metric": "accuracy", "value": value,
                "confidenceInterval": {"low": value - half, "high": value + half}, "examples": 500}]}))
            .unwrap()
        };
        let (reference, run) = (draw(), draw());
        disjoint += usize::from(!drift::moved(&reference, &run).is_empty());
        let interval = reference.results[0].confidence_interval;
        outside += usize::from(!(interval.low..=interval.high).contains(&run.results[0].value));
    }
    assert!(
        (0.12..0.21).contains(&(f64::from(outside as u32) / f64::from(pairs))),
        "{outside}"
    );
    assert!(
        (0.002..0.011).contains(&(f64::from(disjoint as u32) / f64::from(pairs))),
        "{disjoint}"
    );
}
