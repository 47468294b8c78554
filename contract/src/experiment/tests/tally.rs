//! Tallies against closed forms.

use super::*;

#[test]
fn independent_even_requests_have_the_variance_of_two_samples() {
    let mut tally = tally();
    score(&mut tally, &even(), 0, shares(300, 1000));
    score(&mut tally, &even(), 1, shares(360, 1000));
    let contrast = tally.contrast(1, 0).unwrap();
    close(contrast.difference, 0.06);
    // Around the common mean of .33, as the score test takes it, and a part in a thousand for the means themselves.
    let variance = 0.33 * 0.67 * (2.0 / 1000.0) * 1000.0 / 999.0;
    close(contrast.variance, variance);
    close(contrast.time, 4.0 * 0.33 * 0.67 / variance);
    close(tally.contrast(0, 1).unwrap().difference, -0.06);
}

#[test]
fn an_arm_that_varies_more_is_given_its_own_variance() {
    let mut tally = tally();
    let split = Split::new(&[9, 1]).unwrap();
    score(&mut tally, &split, 0, shares(18, 900));
    score(&mut tally, &split, 1, shares(10, 100));
    let own = (0.02 * 0.98 / 900.0 + 0.1 * 0.9 / 100.0) * 100.0 / 99.0;
    close(tally.contrast(1, 0).unwrap().variance, own);
}

#[test]
fn an_arm_that_never_varies_is_not_taken_as_certain() {
    let mut tally = tally();
    let split = Split::new(&[9, 1]).unwrap();
    score(&mut tally, &split, 0, shares(18, 900));
    score(&mut tally, &split, 1, shares(0, 100));
    let contrast = tally.contrast(1, 0).unwrap();
    // By its own variance alone this would lie 4.3 standard errors off.
    assert!(
        (contrast.difference / contrast.variance.sqrt()).abs() < 1.5,
        "{contrast:?}"
    );
}

#[test]
fn a_user_who_repeats_a_score_counts_once() {
    let (mut once, mut often) = (tally(), tally());
    for user in 0..400u64 {
        let (arm, value) = ((user % 2) as usize, f64::from(user % 3 == 0));
        // Buckets apart, so that each is a user.
        let routed = once.route(&even(), arm, Some(user), 0).unwrap();
        once.score(routed, value).unwrap();
        for _ in 0..20 {
            let routed = often.route(&even(), arm, Some(user), 0).unwrap();
            often.score(routed, value).unwrap();
        }
    }
    let (once_at, often_at) = (once.contrast(1, 0).unwrap(), often.contrast(1, 0).unwrap());
    close(often_at.difference, once_at.difference);
    assert!((often_at.variance / once_at.variance - 1.0).abs() < 1e-3);
    close(often.effective_users(0), 200.0);
    // Time is in independent requests: repeating them moves it nowhere.
    assert!(
        (often_at.time / once_at.time - 1.0).abs() < 1e-2,
        "{once_at:?} {often_at:?}"
    );
}

#[test]
fn a_split_that_changes_while_scores_rise_makes_no_difference() {
    // Mornings at 9:1 score 0.2, evenings at 1:1 score 0.8, in either arm.
    let mut tally = tally();
    let (morning, evening) = (Split::new(&[90, 10]).unwrap(), even());
    score(&mut tally, &morning, 0, shares(180, 900));
    score(&mut tally, &morning, 1, shares(20, 100));
    score(&mut tally, &evening, 0, shares(400, 500));
    score(&mut tally, &evening, 1, shares(400, 500));
    assert!(tally.contrast(1, 0).unwrap().difference.abs() < 1e-12);
    // Pooled without weights, the candidate would look better by .70 − .414.
}

#[test]
fn weights_are_the_overlap_of_the_arms() {
    let split = Split::new(&[90, 10]).unwrap();
    close(split.weight(0), 0.1);
    close(split.weight(1), 0.9);
    let three = Split::new(&[2, 1, 1]).unwrap();
    close(three.weight(0), 0.2);
    close((0..3).map(|arm| three.weight(arm)).sum(), 1.0);
    // The same share of every moment in every arm.
    for arm in 0..3 {
        close(three.chance(arm) * three.weight(arm), 0.1);
    }
}

#[test]
fn a_split_without_one_of_the_arms_is_none() {
    assert_eq!(Split::new(&[100, 0]), None);
    assert_eq!(Split::new(&[100]), None);
    assert_eq!(Split::new(&[50, 50]), Split::new(&[1, 1]));
}

#[test]
fn scores_that_are_none_and_requests_of_elsewhere_are_refused_and_change_nothing() {
    let mut tally = tally();
    let routed = tally.route(&even(), 0, Some(7), 0).unwrap();
    let before = serde_json::to_string(&tally).unwrap();
    for bad in [f64::NAN, f64::INFINITY, 1e12] {
        assert_eq!(tally.score(routed, bad), Err(ScoreError::Score));
    }
    for bad in [
        Routed { arm: 2, ..routed },
        Routed {
            weight: 0.0,
            ..routed
        },
        Routed {
            weight: f64::NAN,
            ..routed
        },
        Routed {
            bucket: Some(5000),
            ..routed
        },
    ] {
        assert_eq!(tally.score(bad, 1.0), Err(ScoreError::Routed));
    }
    assert_eq!(serde_json::to_string(&tally).unwrap(), before);
}

#[test]
fn requests_of_another_experiment_are_not_counted() {
    let mut tally = tally();
    let third = Split::new(&[1, 1, 1]).unwrap();
    assert_eq!(tally.route(&third, 0, None, 0), None);
    assert_eq!(tally.route(&even(), 2, Some(1), 0), None);
    assert_eq!(tally.users, Users::default());
    assert_eq!((tally.arm("candidate"), tally.arm("third")), (Some(1), None));
}

#[test]
fn users_are_counted_once_over_all_routers_and_where_they_first_came() {
    let (mut one, mut two) = (tally(), tally());
    let nine = Split::new(&[90, 10]).unwrap();
    for user in 0..300 {
        // Came at 1:1 to the second router before they came at 9:1 to the first.
        one.route(&nine, 0, Some(user), 2000).unwrap();
        two.route(&even(), (user % 2) as usize, Some(user), 1000).unwrap();
    }
    one.merge(&two).unwrap();
    let sent = one.users.sent();
    let counts = |split: &Split| sent.iter().find(|(known, _)| *known == split).unwrap().1.clone();
    assert_eq!((counts(&nine), counts(&even())), (vec![0, 0], vec![150, 150]));
    // 300 users at 300 of 8,192 places: some that share a place unseen are made up for.
    let users = decide(&one, &Rule::default(), 0)
        .arms
        .iter()
        .map(|arm| arm.users)
        .sum::<u64>();
    assert!((300..=310).contains(&users), "{users}");
}

#[test]
fn the_estimate_of_users_is_within_its_error_until_places_run_out() {
    let mut tally = tally();
    let mut hash = 1u64;
    for user in 1..=20_000u64 {
        hash = hash
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        tally
            .route(&even(), (user % 2) as usize, Some(hash >> 33), user)
            .unwrap();
        if user == 2_000 || user == 20_000 {
            let users: u64 = decide(&tally, &Rule::default(), 0)
                .arms
                .iter()
                .map(|arm| arm.users)
                .sum();
            assert!(
                (users as f64 / user as f64 - 1.0).abs() < 3.0 * 0.013,
                "{users} of {user}"
            );
        }
    }
}

#[test]
fn tallies_of_other_arms_do_not_join() {
    let error = tally().merge(&Tally::new(["control".to_owned()])).unwrap_err();
    assert!(error.to_string().contains("start the experiment anew"), "{error}");
}

#[test]
fn a_damaged_tally_is_refused_and_an_empty_one_is_small() {
    let text = serde_json::to_string(&tally()).unwrap();
    assert!(text.len() < 500, "{text}");
    let damaged = text.replace("\"places\":[]", "\"places\":[[9000,1,0,0]]");
    assert!(
        serde_json::from_str::<Tally>(&damaged)
            .unwrap_err()
            .to_string()
            .contains("one release")
    );
}
