//! A checked route table with everything a request needs at hand.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::header::HeaderName;
use hyper::http::uri::Authority;
use slipway_contract::{RouteTable, RouteVariant, RouterStats};

use super::check::{self, TableError};
use super::choose::{self, Arm, Draws};
use super::experiment::{Experiment, NotCounted};
use super::hold::Queue;
use super::metrics::Metrics;
use super::scores::{self, Scores};
use super::target::Target;
use super::variant::{Canary, Choice, Revision, Variant, Waits, Wish};
use super::window::Window;

/// What tells clients apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Key {
    /// Nothing: every request is drawn anew.
    None,
    /// The value of a header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
}

/// A table in force, or about to be.
#[derive(Debug)]
pub struct Table {
    /// The arms.
    pub variants: Vec<Variant>,
    /// What tells clients apart.
    pub key: Key,
    /// Where its requests count.
    pub window: Window,
    /// What is being found out about the arms.
    pub experiment: Option<Experiment>,
    /// Takes scores for each revision.
    pub scores: Option<Scores>,
    /// The index of the arm that gets copies of the others' requests, and which share of them.
    mirror: Option<(usize, u32)>,
    version: String,
}

impl Table {
    /// Checks `routes`. Servers come from `targets`, or from `discover` where an address is new; the window and the
    /// experiment go on from those of the table `before`, where they are the same.
    pub fn build(
        routes: &RouteTable,
        before: Option<&Self>,
        metrics: &Metrics,
        targets: &HashMap<Authority, Arc<Target>>,
        discover: impl FnMut(Authority) -> Arc<Target>,
    ) -> Result<Self, TableError> {
        check::check(routes)?;
        let mut builder = Builder {
            metrics,
            targets: targets.clone(),
            discover,
            window: Window::following(before.map(|before| &before.window), &routes.window),
        };
        let variants = routes.variants.iter().map(|route| builder.variant(route));
        Ok(Self {
            variants: variants.collect::<Result<_, _>>()?,
            key: check::key(routes.sticky.as_ref())?,
            window: builder.window,
            experiment: routes.experiment.as_ref().map(|route| {
                let before = before.and_then(|before| before.experiment.as_ref());
                Experiment::following(before, route, &routes.variants)
            }),
            scores: routes.feedback.as_ref().and_then(|route| {
                let before = before.and_then(|before| before.scores.as_ref());
                Scores::following(before, route)
            }),
            mirror: routes.mirror.as_ref().and_then(|mirror| {
                let named = |route: &RouteVariant| route.name == mirror.variant;
                Some((routes.variants.iter().position(named)?, mirror.percent))
            }),
            version: routes.version.clone(),
        })
    }

    /// Who may get a copy of a request that `choice` answers, each with its share: the arm's canary, and the arm that
    /// gets copies of the others'.
    pub fn bystanders<'a>(&'a self, choice: &Choice<'a>) -> impl Iterator<Item = (&'a Revision, u32)> {
        let canary = choice.bystander();
        let mirror = self
            .mirror
            .map(|(index, percent)| (&self.variants[index], percent));
        let other = mirror.filter(|(variant, _)| !std::ptr::eq(*variant, choice.variant));
        let canary = canary.map(|canary| (&canary.revision, canary.mirror_percent));
        canary
            .into_iter()
            .chain(other.map(|(variant, percent)| (&variant.stable, percent)))
    }

    /// The arm of a request, its revision and its server: what the request asks for, else what its client always
    /// meets where it has a key, else a draw among the arms that can take it, or else among those that could a moment
    /// ago. Where that arm has no server that can answer, whom the request waits for, if anybody.
    pub fn choose<'a>(&'a self, wish: &Wish<'a>, draws: &mut Draws) -> Result<Choice<'a>, Option<Waits<'a>>> {
        let held = wish.held.filter(|variant| variant.can_take(wish));
        let (variant, fairly) = match wish.asked.variant.or(held) {
            Some(variant) => (variant, None),
            None => {
                if let Some(found) = self.arm(wish, draws, Variant::can_take) {
                    found
                } else {
                    let missed = |variant: &Variant, wish: &Wish<'_>| variant.missed_until(wish).is_some();
                    let (variant, _) = self.arm(wish, draws, missed).ok_or(None)?;
                    (variant, None)
                }
            }
        };
        let server = match wish.asked.revision {
            Some(revision) => revision.with_server(),
            None => variant.choose(wish, draws),
        };
        let waits = || {
            variant.queue(wish).map(|queue| Waits {
                variant,
                queue,
                fairly,
            })
        };
        let (revision, backend) = server.ok_or_else(waits)?;
        Ok(Choice {
            variant,
            revision,
            backend,
            fairly,
        })
    }

    /// Whether a request that waits, by `waits`, has somewhere to go now: its own arm where it asks for one or where
    /// the arm keeps its share, else any.
    pub fn has_ready(&self, waits: &Waits<'_>, wish: &Wish<'_>) -> bool {
        if wish.asked.is_some() || matches!(waits.queue, Queue::Held(_)) {
            return waits.variant.is_ready(wish);
        }
        self.variants
            .iter()
            .any(|variant| variant.weight > 0 && variant.is_ready(wish))
    }

    /// The arm by the split among those that are `open`, and its index where every arm was there to be chosen.
    fn arm(
        &self,
        wish: &Wish<'_>,
        draws: &mut Draws,
        open: impl Fn(&Variant, &Wish<'_>) -> bool,
    ) -> Option<(&Variant, Option<usize>)> {
        // Looked at once: servers come and go meanwhile. On the stack for as many arms as a test has.
        let mut few = [false; 8];
        let mut many = Vec::new();
        let ready = if let Some(few) = few.get_mut(..self.variants.len()) {
            few
        } else {
            many.resize(self.variants.len(), false);
            many.as_mut_slice()
        };
        for (ready, variant) in ready.iter_mut().zip(&self.variants) {
            *ready = open(variant, wish);
        }
        let arms = self.variants.iter().zip(&*ready).map(|(variant, &ready)| Arm {
            name: &variant.name,
            weight: variant.weight,
            ready,
        });
        let index = match wish.key {
            Some(key) => choose::sticky(arms, key),
            None => choose::drawn(arms, draws.draw()),
        }?;
        let fairly = ready.iter().all(|&ready| ready).then_some(index);
        Some((&self.variants[index], fairly))
    }

    /// Every revision with the name of its arm.
    pub fn revisions(&self) -> impl Iterator<Item = (&str, &Revision)> {
        self.variants.iter().flat_map(|variant| {
            variant
                .revisions()
                .map(|revision| (variant.name.as_str(), revision))
        })
    }

    /// Whether clients may post scores.
    pub fn takes_feedback(&self) -> bool {
        self.scores.is_some() || self.experiment.as_ref().is_some_and(Experiment::takes_feedback)
    }

    /// Counts what a client says of the answer with `id`, once. `thread`: which of the router's answers.
    pub fn feedback(&self, id: &str, score: f64, thread: usize) -> Result<(), NotCounted> {
        let revisions = self.revisions().map(|(_, revision)| revision);
        let taken = self
            .scores
            .as_ref()
            .map(|scores| scores.take(id, score, revisions));
        match (taken, &self.experiment) {
            (Some(Err(NotCounted::Unknown)) | None, Some(experiment)) => {
                experiment.feedback(id, score, thread)
            }
            (taken, _) => taken.unwrap_or(Err(NotCounted::Unknown)),
        }
    }

    /// The answer of `/stats`.
    pub fn stats(&self) -> RouterStats {
        let stats = self.window.stats(&self.version, |variant, name| {
            let mut revisions = self.revisions();
            let found = revisions.find(|(arm, revision)| *arm == variant && revision.name == name);
            found.map_or(0, |(_, revision)| revision.target.ready_count() as u64)
        });
        RouterStats {
            experiment: self.experiment.as_ref().map(Experiment::stats),
            ..stats
        }
    }
}

/// What the parts of a table have in common while it is built.
struct Builder<'a, Discover> {
    metrics: &'a Metrics,
    targets: HashMap<Authority, Arc<Target>>,
    discover: Discover,
    window: Window,
}

impl<Discover: FnMut(Authority) -> Arc<Target>> Builder<'_, Discover> {
    fn variant(&mut self, route: &RouteVariant) -> Result<Variant, TableError> {
        let name = &route.name;
        let own = check::authority(&route.url, || format!("the variant {name:?}"))?;
        let canary = route.canary.as_ref().map(|canary| {
            let whose = || format!("the canary of the variant {name:?}");
            Ok(Canary {
                revision: self.revision(name, &canary.revision, check::authority(&canary.url, whose)?)?,
                percent: canary.percent,
                mirror_percent: canary.mirror_percent,
                salt: choose::canary_salt(name, &canary.revision),
            })
        });
        Ok(Variant {
            canary: canary.transpose()?,
            stable: self.revision(name, &route.revision, own)?,
            hold: route.hold,
            name: name.clone(),
            weight: route.weight,
            name_header: check::header(name, name)?,
        })
    }

    fn revision(&mut self, variant: &str, name: &str, authority: Authority) -> Result<Revision, TableError> {
        let header = (!name.is_empty()).then(|| check::header(variant, name));
        let target = self.targets.entry(authority);
        let target = target.or_insert_with_key(|authority| (self.discover)(authority.clone()));
        let series = self.metrics.series(variant, name);
        Ok(Revision {
            header: header.transpose()?,
            name: name.to_owned(),
            answerer: scores::answerer(variant, name),
            target: target.clone(),
            window: self.window.series(variant, name, &series),
            series,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(json: &str) -> Result<Table, TableError> {
        let routes: RouteTable = serde_json::from_str(json).unwrap();
        Table::build(&routes, None, &Metrics::default(), &HashMap::new(), |authority| {
            Arc::new(Target::new(authority))
        })
    }

    #[test]
    fn each_mistake_is_named() {
        for (json, part) in [
            (r#"{"variants":[]}"#, "no variants"),
            (
                r#"{"variants":[{"name":"a","weight":0,"url":"http://h:1"}]}"#,
                "weight 0",
            ),
            (
                r#"{"variants":[{"name":"a","weight":1,"url":"http://h:1"},{"name":"a","weight":1,"url":"http://h:1"}]}"#,
                "\"a\" twice",
            ),
            (
                r#"{"variants":[{"name":"a\n","weight":1,"url":"http://h:1"}]}"#,
                "no HTTP header",
            ),
            (
                r#"{"variants":[{"name":"","weight":1,"url":"http://h:1"}]}"#,
                "no HTTP header",
            ),
            (
                r#"{"variants":[{"name":"a","weight":1,"url":"h:1"}]}"#,
                "http://host:port",
            ),
            (
                r#"{"variants":[{"name":"a","weight":1,"url":"https://h:1"}]}"#,
                "http://host:port",
            ),
            (
                r#"{"variants":[{"name":"a","weight":1,"url":"http://h:1/v1"}]}"#,
                "http://host:port",
            ),
            (
                r#"{"variants":[{"name":"a","weight":1,"url":"http://h:1"}],"sticky":{"header":"x y"}}"#,
                "no name of a header",
            ),
        ] {
            let error = build(json).unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn each_mistake_of_a_canary_is_named() {
        for (canary, part) in [
            (
                r#""revision":"2","url":"http://c:1","percent":101"#,
                "has percent 101; write a number",
            ),
            (
                r#""revision":"2","url":"http://c:1","percent":1,"mirrorPercent":200"#,
                "has mirrorPercent 200",
            ),
            (
                r#""revision":"1","url":"http://c:1","percent":1"#,
                "own revision \"1\"",
            ),
            (
                r#""revision":"","url":"http://c:1","percent":1"#,
                "empty revision",
            ),
            (
                r#""revision":"2","url":"","percent":1"#,
                "the canary of the variant \"a\" has the url \"\"",
            ),
            (
                r#""revision":"2\n","url":"http://c:1","percent":1"#,
                "no HTTP header",
            ),
        ] {
            let arm = r#""name":"a","weight":1,"url":"http://h:1","revision":"1""#;
            let error = build(&format!(r#"{{"variants":[{{{arm},"canary":{{{canary}}}}}]}}"#)).unwrap_err();
            assert!(error.to_string().contains(part), "{canary}: {error}");
        }
    }

    #[test]
    fn a_hold_has_seconds_and_a_limit() {
        for hold in [r#"{"seconds":0,"limit":1}"#, r#"{"seconds":1,"limit":0}"#] {
            let arm = r#""name":"a","weight":1,"url":"http://h:1""#;
            let error = build(&format!(r#"{{"variants":[{{{arm},"hold":{hold}}}]}}"#)).unwrap_err();
            assert!(
                error.to_string().contains("the variant \"a\" has a hold"),
                "{error}"
            );
        }
    }

    #[test]
    fn arms_at_one_address_share_its_servers() {
        let table = build(
            r#"{"variants":[{"name":"a","weight":1,"url":"http://h:1"},{"name":"b","weight":1,"url":"http://h:1/"}]}"#,
        )
        .unwrap();
        let [first, second] = [0, 1].map(|arm| &table.variants[arm].stable.target);
        assert!(Arc::ptr_eq(first, second));
    }
}
