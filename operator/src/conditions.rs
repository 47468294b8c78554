//! What a person is told about an object, as kstatus conditions. Pure: no client, no clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Condition types.
pub mod kind {
    /// The object is as the spec says.
    pub const READY: &str = "Ready";
    /// The operator or the cluster is at work on it.
    pub const RECONCILING: &str = "Reconciling";
    /// It cannot go on by itself.
    pub const STALLED: &str = "Stalled";
    /// A job did what it was asked to.
    pub const COMPLETE: &str = "Complete";
    /// A job ended without doing so.
    pub const FAILED: &str = "Failed";
    /// A job was told to pause.
    pub const SUSPENDED: &str = "Suspended";
    /// A metric of a scheduled evaluation left the interval of its reference.
    pub const DRIFTED: &str = "Drifted";
    /// A revision of a deployment is rolled in.
    pub const PROGRESSING: &str = "Progressing";
    /// The revision that a deployment's spec asks for failed, and the one before serves.
    pub const ROLLED_BACK: &str = "RolledBack";
}

/// Where an object stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// On its way, by itself.
    Reconciling,
    /// Waits until a person changes something.
    Stalled,
    /// Paused on request.
    Suspended,
    /// As the spec says: a deployment that serves, a job that is done.
    Ready,
    /// Ended without success; never tried again.
    Failed,
}

/// Where an object stands, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Where it stands.
    pub standing: Standing,
    /// One word for machines; also the reason of the event when it changes.
    pub reason: String,
    /// One sentence for people: cause and, where something is wrong, fix.
    pub message: String,
}

impl Summary {
    /// A summary.
    pub fn new(standing: Standing, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            standing,
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// On its way.
    pub fn reconciling(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Standing::Reconciling, reason, message)
    }

    /// Waits for a person.
    pub fn stalled(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Standing::Stalled, reason, message)
    }

    /// Whether the event about it is a warning.
    pub fn is_warning(&self) -> bool {
        matches!(self.standing, Standing::Stalled | Standing::Failed)
    }
}

/// Ready, Reconciling and Stalled for `summary`. A condition keeps its transition time while its status stays;
/// other types in `old` stay as they are.
pub fn summarize(
    old: &[Condition],
    summary: &Summary,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = old.to_vec();
    let standing = summary.standing;
    for (kind, holds) in [
        (kind::READY, standing == Standing::Ready),
        (kind::RECONCILING, standing == Standing::Reconciling),
        (
            kind::STALLED,
            matches!(standing, Standing::Stalled | Standing::Failed),
        ),
    ] {
        set(&mut conditions, kind, holds, summary, generation, now);
    }
    conditions
}

/// The same with Complete, Failed and Suspended, for kinds that end.
pub fn summarize_job(
    old: &[Condition],
    summary: &Summary,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = summarize(old, summary, generation, now);
    for (kind, holds) in [
        (kind::COMPLETE, summary.standing == Standing::Ready),
        (kind::FAILED, summary.standing == Standing::Failed),
        (kind::SUSPENDED, summary.standing == Standing::Suspended),
    ] {
        set(&mut conditions, kind, holds, summary, generation, now);
    }
    conditions
}

/// Sets one condition.
pub fn set(
    conditions: &mut Vec<Condition>,
    name: &str,
    holds: bool,
    summary: &Summary,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let before = conditions.iter().position(|condition| condition.type_ == name);
    let since = before
        .map(|index| &conditions[index])
        .filter(|condition| condition.status == status)
        .map_or_else(|| Time(now), |condition| condition.last_transition_time.clone());
    let condition = Condition {
        type_: name.into(),
        status: status.into(),
        reason: summary.reason.clone(),
        // A condition that does not hold has nothing to tell; Ready tells why not.
        message: if holds || name == kind::READY {
            limited(&summary.message)
        } else {
            String::new()
        },
        observed_generation: generation,
        last_transition_time: since,
    };
    match before {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
}

/// A condition's message may have 32,768 bytes; a longer one says nothing more to a person.
fn limited(message: &str) -> String {
    const MOST: usize = 4096;
    if message.len() <= MOST {
        return message.to_owned();
    }
    let end = (0..=MOST)
        .rev()
        .find(|&at| message.is_char_boundary(at))
        .unwrap_or(0);
    format!("{}…", &message[..end])
}

/// Whether the condition `kind` is there and True.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == kind && condition.status == "True")
}

/// Reason of the condition `kind`.
pub fn reason<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a str> {
    conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map(|condition| condition.reason.as_str())
}

/// Message of the condition `kind`.
pub fn message<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a str> {
    conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map(|condition| condition.message.as_str())
}

/// What an event should say about going from `old` to `summary`: nothing while the reason stays the same.
pub fn transition<'a>(old: &[Condition], summary: &'a Summary) -> Option<&'a Summary> {
    let same = reason(old, kind::READY) == Some(&summary.reason)
        && is_true(old, kind::READY) == (summary.standing == Standing::Ready);
    (!same).then_some(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn status(conditions: &[Condition]) -> Vec<(&str, &str)> {
        conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str()))
            .collect()
    }

    #[test]
    fn a_running_job_reconciles_and_is_neither_complete_nor_failed() {
        let conditions = summarize_job(&[], &Summary::reconciling("Running", "trains"), Some(1), at(1));
        assert_eq!(
            status(&conditions),
            [
                ("Ready", "False"),
                ("Reconciling", "True"),
                ("Stalled", "False"),
                ("Complete", "False"),
                ("Failed", "False"),
                ("Suspended", "False"),
            ]
        );
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = summarize(&[], &Summary::reconciling("A", "a"), Some(1), at(1));
        let second = summarize(&first, &Summary::reconciling("B", "b"), Some(1), at(2));
        assert!(
            second
                .iter()
                .all(|c| c.last_transition_time.0 == at(1) && c.reason == "B")
        );
        let third = summarize(&second, &Summary::new(Standing::Ready, "C", "c"), Some(1), at(3));
        let moved: Vec<_> = third
            .iter()
            .map(|c| (c.type_.as_str(), c.last_transition_time.0))
            .collect();
        assert_eq!(
            moved,
            [("Ready", at(3)), ("Reconciling", at(3)), ("Stalled", at(1))]
        );
    }

    #[test]
    fn one_event_a_transition() {
        let running = Summary::reconciling("Running", "step 1");
        let conditions = summarize(&[], &running, Some(1), at(1));
        assert!(transition(&[], &running).is_some());
        assert!(transition(&conditions, &Summary::reconciling("Running", "step 2")).is_none());
        assert!(transition(&conditions, &Summary::new(Standing::Ready, "Complete", "done")).is_some());
    }

    #[test]
    fn a_failed_job_is_stalled_in_the_eyes_of_kstatus() {
        let conditions = summarize_job(
            &[],
            &Summary::new(Standing::Failed, "OutOfMemory", "m"),
            None,
            at(1),
        );
        assert!(is_true(&conditions, kind::STALLED) && is_true(&conditions, kind::FAILED));
        assert!(!is_true(&conditions, kind::COMPLETE));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let conditions = summarize(&[], &Summary::stalled("X", "é".repeat(5000)), None, at(1));
        assert!(conditions[0].message.len() <= 4096 + "…".len());
    }
}
