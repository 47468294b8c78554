//! A checked route table with everything a request needs at hand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::{Authority, Uri};
use slipway_contract::{RouteTable, Sticky};

use super::backend::{Backend, Target};
use super::choose::{self, Arm, Draws};
use super::metrics::{Metrics, Series};

/// Why a table cannot be used.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
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
    #[error("the variant {variant:?} has the url {url:?}; write http://host:port, without a path")]
    Url {
        /// Which arm.
        variant: String,
        /// What stands there.
        url: String,
    },
    /// A header or cookie name that is none.
    #[error("{0:?} is no name of a {1}; use letters, digits and -")]
    Sticky(String, &'static str),
}

/// An arm with what its requests need.
#[derive(Debug)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Its share.
    pub weight: u32,
    /// Its servers.
    pub target: Arc<Target>,
    /// Its counts and times.
    pub series: Arc<Series>,
    /// For `x-slipway-variant`.
    pub name_header: HeaderValue,
    /// For `x-slipway-revision`; empty when there is none.
    pub revision_header: Option<HeaderValue>,
}

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

/// The table in force.
#[derive(Debug)]
pub struct Table {
    /// The arms, in the order written.
    pub variants: Vec<Variant>,
    /// What tells clients apart.
    pub key: Key,
}

impl Table {
    /// Checks `routes`. Servers of an address that `targets` knows already are taken over, with what is known of
    /// their readiness; for others `discover` is called.
    pub fn build(
        routes: &RouteTable,
        metrics: &Metrics,
        targets: &HashMap<Authority, Arc<Target>>,
        mut discover: impl FnMut(Authority) -> Arc<Target>,
    ) -> Result<Self, TableError> {
        check(routes)?;
        let mut fresh: HashMap<Authority, Arc<Target>> = HashMap::new();
        let variants = routes
            .variants
            .iter()
            .map(|route| {
                let header = |text: &str| {
                    HeaderValue::from_str(text).map_err(|_| TableError::Name(route.name.clone()))
                };
                let authority = authority(&route.name, &route.url)?;
                let known = targets.get(&authority).or_else(|| fresh.get(&authority)).cloned();
                let target = known.unwrap_or_else(|| {
                    let target = discover(authority.clone());
                    fresh.insert(authority, target.clone());
                    target
                });
                Ok(Variant {
                    name: route.name.clone(),
                    weight: route.weight,
                    target,
                    series: metrics.series(&route.name, &route.revision),
                    name_header: header(&route.name)?,
                    revision_header: (!route.revision.is_empty())
                        .then(|| header(&route.revision))
                        .transpose()?,
                })
            })
            .collect::<Result<_, TableError>>()?;
        Ok(Self {
            variants,
            key: key(routes.sticky.as_ref())?,
        })
    }

    /// The arm of a request: that of its client where it has a key, else a draw.
    pub fn choose(&self, key: Option<&[u8]>, draws: &mut Draws) -> Option<usize> {
        let arms = self.variants.iter().map(|variant| Arm {
            name: &variant.name,
            weight: variant.weight,
            ready: variant.target.has_ready(),
        });
        match key {
            Some(key) => choose::sticky(arms, key),
            None => choose::drawn(arms, draws.draw()),
        }
    }

    /// The ready server of an arm that has least to do.
    pub fn backend(&self, variant: usize) -> Option<Arc<Backend>> {
        self.variants[variant].target.least_busy()
    }
}

/// Everything about `routes` that can be told without a network.
fn check(routes: &RouteTable) -> Result<(), TableError> {
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
    }
    if routes.variants.iter().all(|route| route.weight == 0) {
        return Err(TableError::NoWeight);
    }
    Ok(())
}

fn authority(variant: &str, url: &str) -> Result<Authority, TableError> {
    let parsed: Option<Uri> = url.parse().ok();
    parsed
        .filter(|uri| {
            uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none()
        })
        .and_then(|uri| uri.authority().cloned())
        .filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
        .ok_or_else(|| TableError::Url {
            variant: variant.to_owned(),
            url: url.to_owned(),
        })
}

fn key(sticky: Option<&Sticky>) -> Result<Key, TableError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn build(json: &str) -> Result<Table, TableError> {
        let routes: RouteTable = serde_json::from_str(json).unwrap();
        Table::build(&routes, &Metrics::default(), &HashMap::new(), |authority| {
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
    fn arms_at_one_address_share_its_servers() {
        let table = build(
            r#"{"variants":[{"name":"a","weight":1,"url":"http://h:1"},{"name":"b","weight":1,"url":"http://h:1/"}]}"#,
        )
        .unwrap();
        assert!(Arc::ptr_eq(&table.variants[0].target, &table.variants[1].target));
    }
}
