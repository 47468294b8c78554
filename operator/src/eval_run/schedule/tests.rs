//! Every minute at most once, none twice, the latest of those missed: for any pattern, zone and clock.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{Clock, Due, due};
use crate::crd::{Schedule, cron_pattern};

fn schedule(cron: &str, zone: &str) -> Schedule {
    serde_json::from_value(serde_json::json!({"cron": cron, "timeZone": zone})).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn clock(schedule: &Schedule) -> Clock {
    Clock::of(schedule, at("2026-01-01T00:00:00Z")).unwrap()
}

fn times(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let clock = clock(&schedule(cron, zone));
    std::iter::successors(clock.next(at(from)), |last| clock.next(*last))
        .take(count)
        .map(|time| time.to_string())
        .collect()
}

#[test]
fn times_are_those_of_the_zone() {
    assert_eq!(
        times("0 3 * * *", "America/New_York", "2026-01-01T00:00:00Z", 2),
        ["2026-01-01T08:00:00Z", "2026-01-02T08:00:00Z"]
    );
    assert_eq!(
        times("0 0 1 * MON", "Etc/UTC", "2026-11-23T12:00:00Z", 2),
        ["2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"],
        "either day is enough"
    );
    assert_eq!(
        times("0 0 29 2 *", "Etc/UTC", "2026-11-23T12:00:00Z", 1),
        ["2028-02-29T00:00:00Z"]
    );
}

#[test]
fn a_time_that_summer_time_leaves_out_runs_right_after_and_a_repeated_one_once() {
    // Clocks go from 02:00 to 03:00 (01:00Z) on 2026-03-29, and from 03:00 to 02:00 (01:00Z) on 2026-10-25.
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 4),
        [
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z"
        ]
    );
}

#[test]
fn looking_back_and_stepping_ahead_agree_through_every_change_of_clocks() {
    let crons = [
        "30 2 * * *",
        "15,45 2 * * *",
        "0 1,2,3 * * *",
        "5 * * * *",
        "*/20 2 * * *",
        "0 2 * * SUN",
    ];
    for (zone, change) in [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ] {
        for cron in crons {
            let clock = clock(&schedule(cron, zone));
            let after = at(change) - SignedDuration::from_hours(4);
            for minute in (0..480).step_by(5) {
                let until = after + SignedDuration::from_mins(minute);
                let stepped = std::iter::successors(clock.next(after), |last| clock.next(*last))
                    .take_while(|time| *time <= until)
                    .last();
                assert_eq!(clock.latest(after, until), stepped, "{cron} in {zone} at {until}");
            }
        }
    }
}

#[test]
fn an_operator_that_was_away_for_a_day_makes_up_for_the_latest_run_only() {
    let schedule = schedule("*/5 * * * *", "Etc/UTC");
    let clock = clock(&schedule);
    let now = at("2026-01-02T12:03:20Z");
    assert_eq!(
        due(&clock, &schedule, at("2026-01-01T12:00:00Z"), now),
        Due {
            run: Some(at("2026-01-02T12:00:00Z")),
            next: Some(at("2026-01-02T12:05:00Z"))
        }
    );
    let late = Schedule {
        starting_deadline_seconds: Some(60),
        ..schedule.clone()
    };
    assert_eq!(
        due(&clock, &late, at("2026-01-01T12:00:00Z"), now).run,
        None,
        "200 s late"
    );
    let held = Schedule {
        suspend: true,
        ..schedule
    };
    assert_eq!(
        due(&clock, &held, at("2026-01-01T12:00:00Z"), now),
        Due::default()
    );
}

#[test]
fn what_cannot_be_meant_says_what_to_do() {
    let begun = Instant::now();
    for (cron, zone, words) in [
        ("0 0 31 2 *", "Etc/UTC", "no calendar has"),
        ("0 5-2 * * *", "Etc/UTC", "cannot be read"),
        ("0 3 * *", "Etc/UTC", "five fields"),
        ("0 0 3 * * *", "Etc/UTC", "five fields"),
        ("0 3 * * *", "Mars/Olympus", "IANA name"),
    ] {
        let sentence = Clock::of(&schedule(cron, zone), at("2026-01-01T00:00:00Z")).unwrap_err();
        assert!(sentence.contains(words), "{cron}: {sentence}");
    }
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn the_form_refuses_what_the_apiserver_can_know_to_be_wrong() {
    let form = regex::Regex::new(&cron_pattern()).unwrap();
    for good in [
        "0 3 * * *",
        "*/15 9-17 * * MON-FRI",
        "5,35 0 1,15 jan-mar,12 0",
        "@daily",
        "0  3 * * 7",
    ] {
        assert!(form.is_match(good), "{good}");
        Clock::of(&schedule(good, "Etc/UTC"), at("2026-01-01T00:00:00Z")).unwrap();
    }
    for bad in [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5/15 * * * *",
        "*/0 * * * *",
        "0 0 L * *",
        "0 0 * * 5#2",
        "@every 5m",
        "TZ=UTC 0 3 * * *",
        "0 3 * * *; rm",
        "a b c d e",
    ] {
        assert!(!form.is_match(bad), "{bad}");
    }
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let number = low..=high;
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => number.clone().prop_map(|value| value.to_string()),
        1 => (number.clone(), number.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (number.clone(), number).prop_map(|(a, b)| format!("{a},{b}")),
        1 => (2_u32..=9).prop_map(|step| format!("*/{step}")),
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    // Days up to 28: each month has them, so that every pattern comes true within a year or so.
    (
        field(0, 59),
        field(0, 23),
        field(1, 28),
        field(1, 12),
        field(0, 7),
    )
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

fn zone() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("Etc/UTC"),
        Just("Europe/Berlin"),
        Just("America/New_York"),
        Just("Australia/Lord_Howe"),
        Just("Asia/Kathmandu"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_the_form_takes_is_understood(cron in pattern()) {
        prop_assert!(regex::Regex::new(&cron_pattern()).unwrap().is_match(&cron), "{}", cron);
        prop_assert!(Clock::of(&schedule(&cron, "Etc/UTC"), at("2026-01-01T00:00:00Z")).is_ok(), "{}", cron);
    }

    #[test]
    fn the_latest_time_is_where_stepping_ahead_ends(
        cron in pattern(), zone in zone(), start in 1_767_225_600_i64..1_798_761_600, span in 0_i64..200_000,
    ) {
        let clock = clock(&schedule(&cron, zone));
        let (after, until) = (Timestamp::from_second(start).unwrap(), Timestamp::from_second(start + span).unwrap());
        let stepped = std::iter::successors(clock.next(after), |last| clock.next(*last))
            .take_while(|time| *time <= until)
            .inspect(|time| assert_eq!(time.as_second() % 60, 0, "{time}"))
            .last();
        prop_assert_eq!(clock.latest(after, until), stepped, "{} in {}", cron, zone);
    }

    #[test]
    fn no_clock_makes_two_runs_of_one_time(
        cron in pattern(), zone in zone(), start in 1_767_225_600_i64..1_798_761_600,
        jumps in proptest::collection::vec(-5000_i64..90_000, 1..40),
        deadline in proptest::option::of(10_i64..4000),
    ) {
        let schedule = Schedule { starting_deadline_seconds: deadline, ..schedule(&cron, zone) };
        let clock = clock(&schedule);
        let mut now = Timestamp::from_second(start).unwrap();
        let mut since = now;
        let mut runs: Vec<Timestamp> = Vec::new();
        for jump in jumps {
            now += SignedDuration::from_secs(jump);
            let Due { run, next } = due(&clock, &schedule, since, now);
            if let Some(next) = next {
                prop_assert!(next > now && next > since);
            }
            let Some(run) = run else { continue };
            prop_assert!(run <= now && run > since, "{run} at {now} after {since}");
            prop_assert!(deadline.is_none_or(|seconds| now.as_second() - run.as_second() <= seconds));
            // What it started is not due again, even at once.
            since = run;
            prop_assert_eq!(due(&clock, &schedule, since, now).run, None);
            runs.push(run);
        }
        prop_assert!(runs.windows(2).all(|pair| pair[0] < pair[1]), "{runs:?}");
    }
}
