//! A winner in the model card, and when it is written there.

use std::time::Duration;

use serde_json::Value;
use slipway_contract::CardCommit;

use super::*;
use crate::model_deployment::experiment::{
    card::Facts,
    record::{Due, due, told},
};

const RECORDED: &str =
    "{metric: feedbackScore, minRequests: 100, record: {modelCard: {repo: a/new, pullRequest: true}}}";

fn commit() -> CardCommit {
    CardCommit {
        repo: "a/new".into(),
        commit: "c".repeat(40),
        url: "http://hub/a/new/discussions/1".into(),
    }
}

#[test]
fn a_winner_is_written_down_once_and_nothing_else_is() {
    let mut world = World::begun(RECORDED);
    let course = world.look_after(10);
    assert_eq!(due(&world.object, &course, world.at), Due::Never);
    world.decide();
    let course = world.look_after(1);
    assert_eq!(due(&world.object, &course, world.at), Due::Now);
    let (status, event) = told(world.says(), Ok(commit()), world.at);
    assert_eq!(event.unwrap().reason, "ExperimentRecorded");
    world.object.status.as_mut().unwrap().experiment = Some(status.clone());
    let course = world.look_after(1);
    assert_eq!(due(&world.object, &course, world.at), Due::Never);
    assert_eq!(world.says(), &status);
    // Nowhere to tell it.
    let mut silent = World::begun(FEEDBACK);
    silent.decide();
    let course = silent.look_after(1);
    assert_eq!(due(&silent.object, &course, silent.at), Due::Never);
}

#[test]
fn a_hub_that_refuses_is_asked_less_and_less_often_and_the_status_says_why() {
    let mut world = World::begun(RECORDED);
    world.decide();
    let mut events = 0;
    for wait in [4, 8, 16, 32, 64, 128, 256, 300, 300] {
        let (status, event) = told(world.says(), Err("the Hub is away".into()), world.at);
        events +=
            usize::from(event.is_some_and(|event| event.reason == "RecordFailed" && event.is_warning()));
        world.object.status.as_mut().unwrap().experiment = Some(status);
        let course = world.look_after(1);
        assert_eq!(
            due(&world.object, &course, world.at),
            Due::In(Duration::from_secs(wait - 1))
        );
        let course = world.look_after(i64::try_from(wait).unwrap() - 1);
        assert_eq!(due(&world.object, &course, world.at), Due::Now);
    }
    let failure = world.says().record_failure.as_ref().unwrap();
    assert_eq!(
        (failure.attempts, failure.message.as_str(), events),
        (9, "the Hub is away", 1)
    );
    let (status, _) = told(world.says(), Ok(commit()), world.at);
    assert_eq!((status.record_failure, status.recorded), (None, Some(commit())));
}

fn facts(world: &World) -> (ModelDeployment, super::super::kept::Concluded, String) {
    let kept = Kept::read(world.kept.as_ref().unwrap()).unwrap();
    (world.object.clone(), kept.concluded.unwrap(), kept.id)
}

#[test]
fn the_card_says_who_won_against_whom_by_how_much_and_how_surely() {
    let mut world = World::begun(RECORDED);
    world.at += SignedDuration::from_secs(3 * 86_400);
    world.decide();
    let (object, answer, id) = facts(&world);
    let facts = Facts {
        object: &object,
        spec: object.spec.experiment.as_ref().unwrap(),
        id: &id,
        answer: &answer,
    };
    let section = facts.section();
    for part in [
        "## A/B test of web",
        "**candidate is better than control.** They shared the same traffic for 3 days, until 2027-01-18T08:00:10Z",
        "scored by what clients posted about its answers, from 0 to 1",
        "| control | a/old at `cccccccccccc` | 1000 | 1000 | 1000 | 0.3000 |",
        "| candidate | claim weights | 1000 | 1000 | 1000 | 0.6000 |",
        "| candidate − control | +0.3000 | +0.2",
        "95% interval",
    ] {
        assert!(section.contains(part), "{part}\n{section}");
    }
    assert_eq!(section, facts.section());
    assert_eq!(facts.section_name(), "experiment models/web");

    assert_eq!(facts.path(), format!("experiments/models.web.{id}.yaml"));
    let data: Value = serde_saphyr::from_str(&facts.data()).unwrap();
    assert_eq!(data["winner"], "candidate");
    assert_eq!(data["metric"]["name"], "feedbackScore");
    assert_eq!(data["arms"][0]["model"]["commit"], "c".repeat(40));
    assert_eq!(data["arms"][1]["scores"], 1000);
    assert!(
        data["differences"][0]["confidenceInterval"]["low"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert_eq!(data["experiment"], Value::from(id.as_str()));
}
