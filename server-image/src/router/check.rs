//! What makes a route table unusable, told without a network. Pure.

use std::collections::HashSet;

use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::{Authority, Uri};
use slipway_contract::{ExperimentMetric, RouteExperiment, RouteTable, RouteVariant, Sticky, Within};

use super::table::Key;
use super::ticket;

/// Why a table cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// No arm at all.
    #[error("the route table has no variants; list at least one")]
    Empty,
    /// Two arms of one name.
    #[error("the route table lists the variant {0:?} twice; give each a name of its own")]
    Duplicate(String),
    /// Nothing would get traffic.
    #[error("every variant of the route table has weight 0; give at least one of them a share")]
    NoWeight,
    /// A name or revision that no header can carry.
    #[error(
        "the variant {0:?} has a name or revision that no HTTP header can carry; use letters, digits, - and ."
    )]
    Name(String),
    /// No usable address.
    #[error("{whose} has the url {url:?}; write http://host:port, without a path")]
    Url {
        /// The variant or its canary, in words.
        whose: String,
        /// What stands there.
        url: String,
    },
    /// A header or cookie name that is none.
    #[error("{0:?} is no name of a {1}; use letters, digits and -")]
    Sticky(String, &'static str),
    /// A canary without a name.
    #[error("the canary of the variant {0:?} has an empty revision; name the revision that is rolled in")]
    CanaryUnnamed(String),
    /// A canary that cannot be told from what it is to replace.
    #[error(
        "the canary of the variant {variant:?} has the variant's own revision {revision:?}; name the revision that is rolled in, or remove the canary"
    )]
    CanarySame {
        /// Which arm.
        variant: String,
        /// The revision of both.
        revision: String,
    },
    /// A queue that nobody can wait in.
    #[error(
        "the variant {0:?} has a hold with 0 seconds or a limit of 0; write 1 or more, or remove the hold"
    )]
    Hold(String),
    /// Copies for nobody.
    #[error("the mirror names the variant {0:?}, which is not in the table; name one of its variants")]
    MirrorUnknown(String),
    /// A share above the whole.
    #[error("the mirror has percent {0}; write a number from 0 to 100")]
    MirrorShare(u32),
    /// An experiment without a name.
    #[error("the experiment has an empty id; name it, so that its counts start anew with the next")]
    ExperimentUnnamed,
    /// A bound that nothing or everything meets.
    #[error("the experiment's metric has seconds {0}; write a number above 0")]
    ExperimentSeconds(f64),
    /// Anybody could invent a score.
    #[error(
        "the experiment's key is not 64 hexadecimal digits; write some that no client knows, as `openssl rand -hex 32` does"
    )]
    ExperimentKey,
    /// The same, for scores of revisions.
    #[error(
        "the feedback's key is not 64 hexadecimal digits; write some that no client knows, as `openssl rand -hex 32` does"
    )]
    FeedbackKey,
    /// A share above the whole.
    #[error("the canary of the variant {variant:?} has {field} {value}; write a number from 0 to 100")]
    CanaryShare {
        /// Which arm.
        variant: String,
        /// The field.
        field: &'static str,
        /// What stands there.
        value: u32,
    },
}

/// Refuses what no server could make right. Addresses are checked where they are read.
pub fn check(routes: &RouteTable) -> Result<(), TableError> {
    if routes.variants.is_empty() {
        return Err(TableError::Empty);
    }
    let mut names = HashSet::new();
    for route in &routes.variants {
        if route.name.is_empty() {
            return Err(TableError::Name(route.name.clone()));
        }
        if !names.insert(&route.name) {
            return Err(TableError::Duplicate(route.name.clone()));
        }
        check_canary(route)?;
        if route
            .hold
            .is_some_and(|hold| hold.seconds == 0 || hold.limit == 0)
        {
            return Err(TableError::Hold(route.name.clone()));
        }
    }
    if routes.variants.iter().all(|route| route.weight == 0) {
        return Err(TableError::NoWeight);
    }
    if let Some(mirror) = &routes.mirror {
        if !names.contains(&mirror.variant) {
            return Err(TableError::MirrorUnknown(mirror.variant.clone()));
        }
        if mirror.percent > 100 {
            return Err(TableError::MirrorShare(mirror.percent));
        }
    }
    if let Some(feedback) = &routes.feedback
        && ticket::key(&feedback.key).is_none()
    {
        return Err(TableError::FeedbackKey);
    }
    routes.experiment.as_ref().map_or(Ok(()), check_experiment)
}

fn check_experiment(experiment: &RouteExperiment) -> Result<(), TableError> {
    if experiment.id.is_empty() {
        return Err(TableError::ExperimentUnnamed);
    }
    match experiment.metric {
        ExperimentMetric::FeedbackScore(_) if ticket::key(&experiment.key).is_none() => {
            Err(TableError::ExperimentKey)
        }
        ExperimentMetric::LatencyWithin(Within { seconds })
        | ExperimentMetric::FirstByteWithin(Within { seconds })
            if !(seconds.is_finite() && seconds > 0.0) =>
        {
            Err(TableError::ExperimentSeconds(seconds))
        }
        _ => Ok(()),
    }
}

fn check_canary(route: &RouteVariant) -> Result<(), TableError> {
    let Some(canary) = &route.canary else {
        return Ok(());
    };
    let variant = || route.name.clone();
    if canary.revision.is_empty() {
        return Err(TableError::CanaryUnnamed(variant()));
    }
    if canary.revision == route.revision {
        return Err(TableError::CanarySame {
            variant: variant(),
            revision: canary.revision.clone(),
        });
    }
    let shares = [
        ("percent", canary.percent),
        ("mirrorPercent", canary.mirror_percent),
    ];
    match shares.into_iter().find(|&(_, value)| value > 100) {
        Some((field, value)) => Err(TableError::CanaryShare {
            variant: variant(),
            field,
            value,
        }),
        None => Ok(()),
    }
}

/// `host:port` of a URL that is nothing but an address. `whose`: of what, for the error.
pub fn authority(url: &str, whose: impl FnOnce() -> String) -> Result<Authority, TableError> {
    let parsed: Option<Uri> = url.parse().ok();
    parsed
        .filter(|uri| {
            uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none()
        })
        .and_then(|uri| uri.authority().cloned())
        .filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
        .ok_or_else(|| TableError::Url {
            whose: whose(),
            url: url.to_owned(),
        })
}

/// A name of the variant `variant` as the value of a header.
pub fn header(variant: &str, text: &str) -> Result<HeaderValue, TableError> {
    HeaderValue::from_str(text).map_err(|_| TableError::Name(variant.to_owned()))
}

/// What tells clients apart.
pub fn key(sticky: Option<&Sticky>) -> Result<Key, TableError> {
    match sticky {
        None => Ok(Key::None),
        Some(Sticky::Header(name)) => {
            let header = HeaderName::try_from(name.as_str());
            header
                .map(Key::Header)
                .map_err(|_| TableError::Sticky(name.clone(), "header"))
        }
        Some(Sticky::Cookie(name)) => {
            // A cookie's name is a token, as a header's is; but its case counts.
            match HeaderName::try_from(name.as_str()) {
                Ok(_) => Ok(Key::Cookie(name.clone())),
                Err(_) => Err(TableError::Sticky(name.clone(), "cookie")),
            }
        }
    }
}
