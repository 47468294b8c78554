//! The first clear answer: kept, said once, and acted on where that is asked for.

use super::*;

#[test]
fn the_first_winner_is_kept_and_said_once() {
    let mut world = World::begun(FEEDBACK);
    world.decide();
    let said = world.says().clone();
    assert_eq!(said.winner.as_deref(), Some("candidate"));
    assert!(
        said.message
            .starts_with("candidate is better: 0.3000 more than control"),
        "{}",
        said.message
    );
    assert!(
        said.message
            .contains("is kept, whatever is scored later; to give candidate all requests")
    );
    assert!(!said.promoted);
    assert_eq!(world.weights(), [50, 50]);
    // As many scores say the opposite afterwards.
    let (writes, kept) = (world.status_writes, world.kept_writes);
    world.serve(0, 4000, [6, 3]);
    for _ in 0..10 {
        let course = world.look_after(60);
        assert_eq!(course.look, None);
    }
    assert_eq!(world.says(), &said);
    assert_eq!((world.status_writes, world.kept_writes), (writes, kept));
    assert_eq!(world.events, ["ExperimentStarted", "ExperimentDecided"]);
    assert!(world.table.experiment.is_some(), "clients go on posting");
    world.routers_are_held_to_the_table();
}

#[test]
fn an_operator_that_is_killed_before_it_says_so_finds_the_same_answer() {
    let mut world = World::begun(FEEDBACK);
    world.serve(0, 2000, [3, 6]);
    world.at += SignedDuration::from_secs(10);
    let (course, status) = world.look_and_die();
    assert_eq!(course.events.len(), 1);
    // What comes later says the opposite.
    world.serve(0, 4000, [6, 3]);
    world.look_after(60);
    assert_eq!(Some(world.says()), status.as_ref());
    assert_eq!(world.events, ["ExperimentStarted", "ExperimentDecided"]);
}

#[test]
fn pods_that_are_replaced_for_another_reason_do_not_take_the_answer_back() {
    let mut world = World::begun(FEEDBACK);
    world.decide();
    let id = world.id();
    // As an operator's upgrade does, with another image.
    world.object.spec.variants[0].resources = serde_saphyr::from_str("limits: {memory: 3Gi}").unwrap();
    world.look_after(10);
    assert_eq!((world.id(), world.says().verdict), (id, Some(Decision::Winner)));
    // Another model is another question.
    world.object.spec.variants[0].model = serde_saphyr::from_str("hub: {repo: a/newer}").unwrap();
    world.running = world.object.clone();
    world.look_after(10);
    assert_eq!(world.says().verdict, Some(Decision::NoDifferenceYet));
}

#[test]
fn a_winner_is_promoted_in_the_split_and_not_in_the_spec() {
    let mut world = World::begun("{metric: feedbackScore, minRequests: 100, autoPromote: true}");
    assert_eq!(world.weights(), [50, 50]);
    world.decide();
    assert_eq!(world.weights(), [0, 100]);
    let status = world.object.status.clone().unwrap();
    let shares: Vec<u32> = status
        .variants
        .iter()
        .map(|variant| variant.traffic_percent)
        .collect();
    assert_eq!(shares, [0, 100]);
    assert_eq!(status.summary.as_deref(), Some("control=0% candidate=100%"));
    let said = world.says().clone();
    assert!(said.promoted);
    assert!(
        said.message.contains("to make it last, set trafficPercent of candidate to 100 and of the others to 0, and remove experiment"),
        "{}",
        said.message
    );
    world.routers_are_held_to_the_table();
    let writes = world.status_writes;
    world.look_after(600);
    assert_eq!((world.status_writes, world.weights()), (writes, vec![0, 100]));

    // A person who changes the shares has the last word.
    for (variant, percent) in world.object.spec.variants.iter_mut().zip([60, 40]) {
        variant.traffic_percent = percent;
    }
    world.look_after(10);
    assert_eq!(world.weights(), [60, 40]);
    assert!(!world.says().promoted && world.says().message.contains("autoPromote ended"));
    assert_eq!(world.says().verdict, Some(Decision::Winner));
    assert_eq!(world.events, ["ExperimentStarted", "ExperimentDecided"]);
}

#[test]
fn a_split_that_is_not_kept_is_a_mismatch_once_and_names_no_winner() {
    let mut world = World::begun(FEEDBACK);
    let split = Split::new(&[50, 50]).unwrap();
    let (_, tally) = world.routers[0].told.as_mut().unwrap();
    for request in 0..3000u64 {
        let arm = usize::from(request % 3 == 0);
        let routed = tally.route(&split, arm, None, request).unwrap();
        tally.score(routed, arm as f64).unwrap();
    }
    for _ in 0..5 {
        world.look_after(60);
        world.serve(0, 2000, [3, 6]);
    }
    assert_eq!(
        (world.says().verdict, &world.says().winner),
        (Some(Decision::Inconclusive), &None)
    );
    assert!(world.says().message.contains("the split was not kept"));
    assert_eq!(world.events, ["ExperimentStarted", "ExperimentMismatch"]);
}
