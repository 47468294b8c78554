//! Tallies of streams: any partition over routers, any users, and the wire between.

use proptest::prelude::*;

use super::*;

fn splits() -> [Split; 2] {
    [[50, 50], [90, 10]].map(|shares| Split::new(&shares).unwrap())
}

/// A request of a stream: split, arm, user, score, router.
type Request = (usize, usize, Option<u64>, i32, usize);

fn stream() -> impl Strategy<Value = Vec<Request>> {
    let request = (
        0..2usize,
        0..2usize,
        proptest::option::of(0..3000u64),
        -5..5,
        0..4usize,
    );
    proptest::collection::vec(request, 0..400)
}

/// One tally a router; a router's answers may be scored at another.
fn counted(requests: &[Request], routers: usize) -> Vec<Tally> {
    let splits = splits();
    let mut tallies = vec![tally(); routers];
    for (at, &(split, arm, user, score, router)) in requests.iter().enumerate() {
        let routed = tallies[router % routers]
            .route(&splits[split], arm, user, at as u64)
            .unwrap();
        tallies[(router + at) % routers]
            .score(routed, score.into())
            .unwrap();
    }
    tallies
}

proptest! {
    #[test]
    fn any_partition_of_a_stream_over_routers_gives_the_same_look(requests in stream(), routers in 1..5usize) {
        let whole = counted(&requests, 1).remove(0);
        let mut parts = counted(&requests, routers);
        // Over the wire, and in another order.
        parts.rotate_left(routers / 2);
        let mut merged = tally();
        for part in &parts {
            let text = serde_json::to_string(part).unwrap();
            merged.merge(&serde_json::from_str(&text).unwrap()).unwrap();
        }
        prop_assert_eq!(whole.users.met(2), merged.users.met(2));
        let (mut ours, mut theirs) = (whole.users.sent(), merged.users.sent());
        ours.sort();
        theirs.sort();
        ours.retain(|(_, counts)| counts.iter().sum::<u64>() > 0);
        theirs.retain(|(_, counts)| counts.iter().sum::<u64>() > 0);
        prop_assert_eq!(ours, theirs);
        match (whole.contrast(1, 0), merged.contrast(1, 0)) {
            (Some(a), Some(b)) => {
                prop_assert!((a.difference - b.difference).abs() < 1e-9);
                prop_assert!((a.fewest - b.fewest).abs() < 1e-9);
                // Of one user there is no variance, or a rounding of none.
                if a.fewest > 1.5 {
                    prop_assert!((a.variance / b.variance - 1.0).abs() < 1e-6, "{a:?} {b:?}");
                    prop_assert!((a.time / b.time - 1.0).abs() < 1e-6, "{a:?} {b:?}");
                }
            }
            (a, b) => prop_assert_eq!(a.is_some(), b.is_some()),
        }
    }

    #[test]
    fn the_variance_is_the_sum_over_users_of_their_squared_errors(requests in stream()) {
        let whole = counted(&requests, 1).remove(0);
        let splits = splits();
        if let (Some(control), Some(candidate)) = (whole.mean(0), whole.mean(1)) {
            let mean = [control, candidate];
            let mut weight = [0.0; 2];
            // A request without a key is a user of its own.
            let mut errors = std::collections::HashMap::<(bool, u64), [f64; 2]>::new();
            for (index, &(split, arm, user, score, _)) in requests.iter().enumerate() {
                let w = splits[split].weight(arm);
                weight[arm] += w;
                let key = user.map_or((false, index as u64), |user| (true, user % 1024));
                errors.entry(key).or_default()[arm] += w * (f64::from(score) - mean[arm]);
            }
            let expected: f64 =
                errors.values().map(|error| (error[1] / weight[1] - error[0] / weight[0]).powi(2)).sum();
            let residual = |a, b| whole.gram.residual((a, mean[a]), (b, mean[b])) / (weight[a] * weight[b]);
            let found = residual(0, 0) + residual(1, 1) - 2.0 * residual(0, 1);
            prop_assert!((found - expected).abs() < 1e-9 * expected.max(1e-3), "{found} {expected}");
        }
    }
}
