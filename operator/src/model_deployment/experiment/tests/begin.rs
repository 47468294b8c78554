//! When an experiment begins, ends, and begins again.

use kube::ResourceExt;

use super::*;

#[test]
fn it_begins_once_every_arm_serves_and_routers_are_told_to_count() {
    let mut world = World::new(comparing(FEEDBACK));
    let object = world.object.clone();
    let mut nobody = world.seen(&object);
    for input in &mut nobody.variants {
        input.pods.clear();
    }
    let waits = plan(&object, &nobody, &settings(), world.at).experiment;
    assert!(waits.told.route.is_none());
    assert!(
        waits
            .status
            .unwrap()
            .message
            .ends_with("once variant control serves")
    );
    world.look();
    let told = world.table.experiment.clone().unwrap();
    assert_eq!((told.id.len(), told.key.as_str()), (16, "ab".repeat(32).as_str()));
    assert_eq!(world.says().id, Some(told.id));
    assert_eq!(world.says().verdict, Some(Decision::NoDifferenceYet));
    assert!(
        world.says().message.contains("has 0 of the 100 scores"),
        "{}",
        world.says().message
    );
    assert_eq!(world.events, ["ExperimentStarted"]);
    world.look_after(10);
    assert_eq!(world.events, ["ExperimentStarted"]);
    world.routers_are_held_to_the_table();
}

#[test]
fn only_posted_scores_need_a_key() {
    for (experiment, metric) in [
        ("{metric: success}", r#"{"success":{}}"#),
        (
            "{metric: latency, within: 500ms}",
            r#"{"latencyWithin":{"seconds":0.5}}"#,
        ),
        (
            "{metric: timeToFirstToken, within: 2s}",
            r#"{"firstByteWithin":{"seconds":2.0}}"#,
        ),
    ] {
        let told = World::begun(experiment).table.experiment.unwrap();
        assert_eq!(told.key, "", "{experiment}");
        assert_eq!(serde_json::to_string(&told.metric).unwrap(), metric);
    }
}

#[test]
fn without_an_experiment_nothing_is_kept_or_said() {
    let mut world = World::begun(FEEDBACK);
    world.object.spec.experiment = None;
    world.look();
    assert!(world.kept.is_none() && world.experiment().is_none() && world.table.experiment.is_none());
    let course = world.look_after(10);
    assert!(matches!(course.memory, Memory::AsIs) && course.look.is_none());
}

#[test]
fn a_rollout_ends_it_and_another_one_begins_when_it_is_over() {
    let mut world = World::new(comparing(FEEDBACK));
    world.object.spec.strategy =
        serde_saphyr::from_str("canary: {steps: [{setWeight: 50}, {pause: {}}]}").unwrap();
    world.running = world.object.clone();
    world.look();
    let first = world.id();
    world.serve(0, 50, [5, 5]);
    world.look_after(60);
    world.object.spec.variants[0].resources = serde_saphyr::from_str("limits: {memory: 3Gi}").unwrap();
    let course = world.look_after(10);
    assert!(matches!(course.memory, Memory::Forget));
    assert!(world.table.experiment.is_none() && world.kept.is_none());
    assert!(
        world
            .says()
            .message
            .ends_with("once the rollout of variant control is over"),
        "{}",
        world.says().message
    );
    assert_eq!(world.says().id, None);
    world.routers_are_held_to_the_table();
    // It is rolled out.
    world.running = world.object.clone();
    world.object.status.as_mut().unwrap().variants[0].rollout = None;
    world.look_after(60);
    assert_ne!(world.id(), first);
    assert_eq!(world.requests(), 0);
    assert_eq!(
        world
            .events
            .iter()
            .filter(|event| *event == "ExperimentStarted")
            .count(),
        2
    );
}

#[test]
fn a_replaced_model_is_waited_for_until_no_pod_of_the_old_one_answers() {
    let mut world = World::begun(FEEDBACK);
    world.object.spec.variants[1].resources = serde_saphyr::from_str("limits: {memory: 3Gi}").unwrap();
    world.look_after(10);
    assert!(
        world
            .says()
            .message
            .ends_with("once all pods of variant candidate are of one revision"),
        "{}",
        world.says().message
    );
    assert!(world.table.experiment.is_none());
    // Old pods that were told to stop still answer; one that is lost with its node does not.
    let object = world.object.clone();
    let begins = |ready: &str| {
        let mut seen = world.seen(&object);
        let children = plan(&object, &seen, &settings(), world.at);
        let children = desired::desired(&object, &children, &settings());
        settle(&mut seen, &children);
        let mut old = seen.variants[1].pods[0].clone();
        old.labels_mut()
            .insert(crate::names::REVISION_LABEL.into(), "old".into());
        old.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.at));
        let status = old.status.as_mut().unwrap();
        status.conditions.as_mut().unwrap()[0].status = ready.into();
        seen.variants[1].pods.push(old);
        plan(&object, &seen, &settings(), world.at)
            .experiment
            .told
            .route
            .is_some()
    };
    assert_eq!((begins("True"), begins("Unknown")), (false, true));
    world.running = world.object.clone();
    world.look_after(10);
    assert!(world.table.experiment.is_some());
}

#[test]
fn another_question_is_another_experiment_and_another_split_is_not() {
    let mut world = World::begun(FEEDBACK);
    let first = world.id();
    for (variant, percent) in world.object.spec.variants.iter_mut().zip([10, 90]) {
        variant.traffic_percent = percent;
    }
    world.look_after(10);
    assert_eq!((world.id(), world.weights()), (first.clone(), vec![10, 90]));
    let mut seen = vec![first];
    for experiment in [
        "{metric: success, minRequests: 100}",
        "{metric: feedbackScore, minRequests: 200}",
        "{metric: feedbackScore, minRequests: 200, confidence: 0.99}",
    ] {
        world.object.spec.experiment = comparing(experiment).spec.experiment;
        world.look_after(10);
        assert!(!seen.contains(&world.id()), "{experiment}");
        seen.push(world.id());
    }
    // The same question asked again is a new experiment too.
    world.object.spec.experiment = None;
    world.look_after(10);
    world.object.spec.experiment = comparing(FEEDBACK).spec.experiment;
    world.look_after(10);
    assert!(!seen.contains(&world.id()));
}
