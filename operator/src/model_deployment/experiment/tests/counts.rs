//! What routers counted, and how often that is written down.

use std::collections::BTreeSet;

use slipway_contract::experiment::Ledger;

use super::*;
use crate::model_deployment::experiment::kept::Concluded;

#[test]
fn nothing_is_lost_or_counted_twice_when_routers_and_operators_restart() {
    let mut world = World::begun(FEEDBACK);
    world.serve(0, 40, [5, 5]);
    world.serve(1, 20, [5, 5]);
    world.look_after(31);
    assert_eq!(world.requests(), 60);
    // One process starts over in its pod, and counts on.
    let id = world.id();
    world.routers[0] = Router::new("p1", "c");
    world.look_after(31);
    world.serve(0, 10, [5, 5]);
    world.look_after(31);
    assert_eq!(world.requests(), 70);
    // The other pod goes away, and another one comes.
    world.routers[1] = Router::new("p3", "d");
    world.look_after(31);
    world.serve(1, 30, [5, 5]);
    // The operator is killed between its writes, again and again.
    for _ in 0..3 {
        world.at += SignedDuration::from_secs(31);
        world.look_and_die();
    }
    world.look_after(31);
    assert_eq!((world.requests(), world.id()), (100, id));
}

#[test]
fn a_router_that_does_not_answer_keeps_what_it_said() {
    let mut world = World::begun(FEEDBACK);
    world.serve(0, 40, [5, 5]);
    world.look_after(31);
    let object = world.object.clone();
    let mut seen = world.seen(&object);
    seen.experiment.routers[0].stats = None;
    let silent = plan(
        &object,
        &seen,
        &settings(),
        world.at + SignedDuration::from_secs(60),
    );
    let arms = silent.experiment.status.unwrap().arms;
    assert_eq!(arms.iter().map(|arm| arm.requests).sum::<u64>(), 40);
    world.serve(0, 10, [5, 5]);
    world.look_after(60);
    assert_eq!(world.requests(), 50);
}

#[test]
fn what_another_table_counted_is_not_mixed_in() {
    let mut world = World::begun(FEEDBACK);
    world.serve(0, 40, [5, 5]);
    let (_, tally) = world.routers[0].told.clone().unwrap();
    world.routers[1].told = Some(("another".into(), tally));
    let object = world.object.clone();
    let seen = world.seen(&object);
    let mixed = plan(
        &object,
        &seen,
        &settings(),
        world.at + SignedDuration::from_secs(60),
    )
    .experiment;
    let arms = mixed.status.unwrap().arms;
    assert_eq!(arms.iter().map(|arm| arm.requests).sum::<u64>(), 40);
}

#[test]
fn figures_that_change_are_written_twice_a_minute_and_others_never() {
    let mut world = World::begun(FEEDBACK);
    assert_eq!((world.status_writes, world.kept_writes), (1, 1));
    for _ in 0..30 {
        world.look_after(10);
    }
    assert_eq!((world.status_writes, world.kept_writes), (1, 1));
    // Five minutes of traffic.
    for _ in 0..30 {
        world.serve(0, 2, [5, 5]);
        world.look_after(10);
    }
    assert_eq!((world.status_writes, world.kept_writes), (11, 11));
    assert!(world.look().look.unwrap() <= std::time::Duration::from_secs(10));
}

#[test]
fn a_router_that_was_told_to_stop_is_written_down_at_once() {
    let mut world = World::begun(FEEDBACK);
    world.look_after(60);
    world.serve(0, 10, [5, 5]);
    world.look_after(60);
    world.serve(0, 10, [5, 5]);
    world.routers[0].ending = true;
    // Until it ends it is asked often.
    assert!(world.look_after(1).look.unwrap() <= std::time::Duration::from_secs(1));
    assert_eq!(world.kept_writes, 3);
    world.routers.remove(0);
    assert!(world.look_after(60).look.unwrap() > std::time::Duration::from_secs(1));
    assert_eq!(world.requests(), 20);
}

#[test]
fn a_memory_that_cannot_be_read_is_replaced() {
    let mut world = World::begun(FEEDBACK);
    let first = world.id();
    for entry in world
        .kept
        .as_mut()
        .unwrap()
        .binary_data
        .as_mut()
        .unwrap()
        .values_mut()
    {
        entry.0.truncate(20);
    }
    world.look_after(10);
    assert_ne!(world.id(), first);
    assert!(Kept::read(world.kept.as_ref().unwrap()).is_some());
}

/// Every place and bucket taken, at so many routers, by several splits, with scores of many digits.
fn full(arms: usize, routers: usize) -> Kept {
    let names: Vec<String> = (0..arms).map(|arm| format!("variant-{arm:02}")).collect();
    let mut ledger = Ledger::new(names.clone());
    let splits: Vec<Split> = (1..8u32)
        .map(|first| Split::new(&(0..arms as u32).map(|arm| first + arm % 5).collect::<Vec<_>>()).unwrap())
        .collect();
    for router in 0..routers {
        let mut tally = Tally::new(names.clone());
        for request in 0..3 * (1024 * arms).max(8192) {
            let (user, arm) = (request % 8192, request / 1024 % arms);
            let at = 1_800_000_000_000 + request as u64 * 977;
            let split = &splits[request % splits.len()];
            let routed = tally.route(split, arm, Some(user as u64), at).unwrap();
            tally
                .score(routed, (request as f64 * 0.618_033_988_75).fract())
                .unwrap();
        }
        ledger
            .count(&format!("pod-{router}"), "0123456789abcdef", tally)
            .unwrap();
    }
    Kept {
        id: "0123456789abcdef".into(),
        subject: "0123456789abcdef".into(),
        started: tests::now(),
        key: "ab".repeat(32),
        ledger,
        written: tests::now(),
        concluded: None::<Concluded>,
    }
}

#[test]
fn what_is_kept_fits_a_config_map_whatever_was_counted() {
    let object = comparing(FEEDBACK);
    let size = |kept: &Kept| {
        let map = kept.write(&object);
        let read = Kept::read(&map).unwrap();
        let packed = map.binary_data.unwrap().into_values().next().unwrap().0.len();
        (packed, read.ledger.counted())
    };
    let (two, counted) = size(&full(2, 3));
    assert_eq!(counted.0, 3 * 3 * 8192);
    assert!(two < 400_000, "{two}");
    // Too much: what routers can say again is left out.
    let (sixteen, counted) = size(&full(16, 5));
    assert!(sixteen < 1_000_000, "{sixteen}");
    assert_eq!(counted, (0, 0));
    println!("two arms, three routers: {two} bytes; sixteen arms, none of five routers: {sixteen} bytes");
}

#[test]
fn ids_are_never_given_out_again() {
    let mut world = World::begun(FEEDBACK);
    let mut ids = BTreeSet::from([world.id()]);
    for _ in 0..3 {
        let kept = world.kept.take();
        assert!(kept.is_some());
        world.look_after(1);
        assert!(ids.insert(world.id()));
    }
}
