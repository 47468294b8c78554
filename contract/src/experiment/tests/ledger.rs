//! Routers that come and go: nothing is counted twice, and nothing that they said is lost.

use proptest::prelude::*;

use super::*;

/// What happens to one of three routers.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Request(usize, usize, Option<u64>),
    Asked(usize),
    Restarts(usize),
    Replaced(usize),
    OperatorRestarts,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => (0..3usize, 0..2usize, proptest::option::of(0..500u64))
            .prop_map(|(router, arm, user)| Happens::Request(router, arm, user)),
        3 => (0..3usize).prop_map(Happens::Asked),
        1 => (0..3usize).prop_map(Happens::Restarts),
        1 => (0..3usize).prop_map(Happens::Replaced),
        1 => Just(Happens::OperatorRestarts),
    ]
}

fn ledger() -> Ledger {
    Ledger::new(["control", "candidate"].map(String::from))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_total_is_what_every_process_said_when_it_was_last_asked(events in proptest::collection::vec(happens(), 0..300)) {
        let mut ledger = ledger();
        // Each router's pod, process, what it counted; and what every process last said, in plain.
        let mut routers: Vec<(String, usize, Tally)> =
            (0..3).map(|router| (format!("pod-{router}"), router, tally())).collect();
        let mut said = std::collections::BTreeMap::<usize, Tally>::new();
        let mut next = 3;
        for (at, event) in events.into_iter().enumerate() {
            match event {
                Happens::Request(router, arm, user) => {
                    let tally = &mut routers[router].2;
                    let routed = tally.route(&even(), arm, user, at as u64).unwrap();
                    tally.score(routed, 1.0).unwrap();
                }
                Happens::Asked(router) => {
                    let (pod, process, tally) = &routers[router];
                    ledger.count(pod, &process.to_string(), tally.clone()).unwrap();
                    said.insert(*process, tally.clone());
                }
                Happens::Restarts(router) => {
                    routers[router] = (routers[router].0.clone(), next, tally());
                    next += 1;
                }
                Happens::Replaced(router) => {
                    routers[router] = (format!("pod-{next}"), next, tally());
                    next += 1;
                    let pods: Vec<&str> = routers.iter().map(|(pod, ..)| pod.as_str()).collect();
                    ledger.keep(|pod| pods.contains(&pod)).unwrap();
                }
                Happens::OperatorRestarts => {
                    let text = serde_json::to_string(&ledger).unwrap();
                    ledger = serde_json::from_str(&text).unwrap();
                }
            }
        }
        let mut expected = tally();
        for tally in said.values() {
            expected.merge(tally).unwrap();
        }
        let total = ledger.total();
        prop_assert_eq!(total.counted(), expected.counted());
        prop_assert_eq!(ledger.counted(), expected.counted());
        prop_assert_eq!(&total.users.places, &expected.users.places);
        prop_assert_eq!(total.users.met(2), expected.users.met(2));
        for arm in 0..2 {
            close(total.effective_users(arm), expected.effective_users(arm));
        }
    }
}

#[test]
fn a_router_that_does_not_answer_is_not_counted_twice_when_it_does() {
    let (mut ledger, mut counted) = (ledger(), tally());
    score(&mut counted, &even(), 0, shares(1, 10));
    ledger.count("pod", "a", counted.clone()).unwrap();
    ledger.keep(|_| true).unwrap();
    score(&mut counted, &even(), 1, shares(1, 10));
    ledger.count("pod", "a", counted.clone()).unwrap();
    assert_eq!(ledger.counted(), (20, 20));
    ledger.keep(|_| false).unwrap();
    assert_eq!(ledger.counted(), (20, 20));
    assert_eq!(ledger.without_live().counted(), (20, 20));
}

#[test]
fn a_sum_that_falls_is_another_process_by_whatever_name() {
    let (mut ledger, mut counted) = (ledger(), tally());
    score(&mut counted, &even(), 0, shares(1, 10));
    ledger.count("pod", "", counted).unwrap();
    let mut fresh = tally();
    score(&mut fresh, &even(), 0, shares(1, 3));
    ledger.count("pod", "", fresh).unwrap();
    assert_eq!(ledger.counted(), (13, 13));
    assert_eq!(ledger.without_live().counted(), (10, 10));
}

#[test]
fn tallies_of_other_arms_are_refused_and_a_ledger_that_holds_some_is_not_read() {
    let other = Tally::new(["a", "b"].map(String::from));
    assert!(ledger().count("pod", "a", other.clone()).is_err());
    let mut text = serde_json::to_value(ledger()).unwrap();
    text["live"]["pod"] = serde_json::json!({"instance": "a", "tally": other});
    assert!(serde_json::from_value::<Ledger>(text).is_err());
}
