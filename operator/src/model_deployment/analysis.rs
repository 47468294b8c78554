//! What the figures of routers or servers say against the bounds of an analysis. Pure.

#[cfg(test)]
mod tests;

use slipway_contract::{Histogram, RevisionStats, Scores};

use super::prometheus::Answer;
use crate::crd::{Analysis, AnalysisMetric, PrometheusQuery, RouterMetric};

/// Scores of each revision, where the spec says nothing else.
const MIN_SCORES: u64 = 50;
/// Two-sided 99.9% normal quantile: an analysis may look many times before its end.
const Z: f64 = 3.291;

/// What all routers together counted since the analysis began, or all servers where requests pass the routers by, and
/// what else was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The new revision, or its copies while it has no share.
    pub canary: Figures,
    /// The revision before.
    pub stable: Figures,
    /// Whether the new revision has copies only, whose answers nobody gets.
    pub mirrored: bool,
    /// What Prometheus servers answered, to the queries as the spec has them.
    pub answers: Vec<(PrometheusQuery, Answer)>,
    /// Why requests may have failed that are not among `canary`: then no bound on them is met for certain.
    pub uncounted: Option<String>,
}

/// Figures of one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Answers.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Until the last byte.
    pub latency: Histogram,
    /// Until the first byte.
    pub first_byte: Histogram,
    /// What clients said of them.
    pub scores: Scores,
}

/// What an analysis found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finding {
    /// Not at its end.
    Measuring,
    /// Every bound is met.
    Passed,
    /// A bound is missed.
    Failed,
    /// Too few requests to tell.
    Inconclusive,
}

/// A finding with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What was found.
    pub finding: Finding,
    /// In one sentence.
    pub message: String,
}

impl Measured {
    /// Takes the figures of `canary` and `stable`, two revisions of `variant`, from the routers' sums. `mirrored`
    /// takes the copies instead of the canary's own requests.
    pub fn of(series: &[RevisionStats], variant: &str, canary: &str, stable: &str, mirrored: bool) -> Self {
        let of = |revision: &str| {
            series
                .iter()
                .find(|series| series.variant == variant && series.revision == revision)
        };
        let figures = |series: &RevisionStats| Figures {
            requests: series.requests,
            errors: series.errors,
            latency: series.latency.clone(),
            first_byte: series.first_byte.clone(),
            scores: series.scores,
        };
        let canary = of(canary);
        Self {
            canary: if mirrored {
                canary
                    .and_then(|series| series.mirrored.as_ref())
                    .map(|copies| Figures {
                        requests: copies.requests,
                        errors: copies.errors,
                        latency: copies.latency.clone(),
                        first_byte: copies.first_byte.clone(),
                        scores: Scores::default(),
                    })
                    .unwrap_or_default()
            } else {
                canary.map(figures).unwrap_or_default()
            },
            stable: of(stable).map(figures).unwrap_or_default(),
            mirrored,
            answers: Vec::new(),
            uncounted: None,
        }
    }

    /// Why a Prometheus server has not answered yet, which may mend itself.
    fn unanswered(&self, asked: &Analysis) -> Option<String> {
        let queries = asked
            .metrics
            .iter()
            .filter_map(|metric| metric.prometheus.as_ref());
        let mut waits = queries.filter_map(|query| match self.answer(query) {
            None => Some(format!("waits for the answer of Prometheus at {}", query.address)),
            Some(Answer::Unreachable(why)) => {
                Some(format!("Prometheus at {} does not answer: {why}", query.address))
            }
            Some(Answer::Value(_) | Answer::Unusable(_)) => None,
        });
        waits.next()
    }

    fn answer(&self, query: &PrometheusQuery) -> Option<&Answer> {
        let mut answers = self.answers.iter();
        answers
            .find(|(asked, _)| asked == query)
            .map(|(_, answer)| answer)
    }
}

impl Figures {
    fn value(&self, metric: RouterMetric) -> Option<f64> {
        match metric {
            RouterMetric::ErrorRate => (self.requests > 0).then(|| self.errors as f64 / self.requests as f64),
            RouterMetric::LatencyP50Seconds => self.latency.quantile(0.5),
            RouterMetric::LatencyP95Seconds => self.latency.quantile(0.95),
            RouterMetric::LatencyP99Seconds => self.latency.quantile(0.99),
            RouterMetric::TimeToFirstTokenP50Seconds => self.first_byte.quantile(0.5),
            RouterMetric::TimeToFirstTokenP95Seconds => self.first_byte.quantile(0.95),
            RouterMetric::FeedbackScore => self.scores.mean(),
        }
    }
}

/// Holds what was measured against the bounds. Before the `ended` of the analysis only an error rate that is
/// certainly too high is a finding.
pub fn judge(asked: &Analysis, measured: &Measured, ended: bool) -> Judged {
    let requests = measured.canary.requests;
    let hopeless = asked
        .metrics
        .iter()
        .find(|metric| certainly_missed(metric, &measured.canary, asked.min_requests));
    if let (Some(metric), false) = (hopeless, ended) {
        let (_, sentence) = hold(metric, measured);
        return Judged {
            finding: Finding::Failed,
            message: format!("{sentence}, after {requests} requests"),
        };
    }
    if !ended {
        return Judged {
            finding: Finding::Measuring,
            message: format!("measures for {}", asked.duration),
        };
    }
    if requests < asked.min_requests {
        return Judged {
            finding: Finding::Inconclusive,
            message: format!(
                "only {requests} requests met the new revision in {}, fewer than minRequests ({})",
                asked.duration, asked.min_requests
            ),
        };
    }
    if let Some(message) = measured.unanswered(asked) {
        return Judged {
            finding: Finding::Measuring,
            message,
        };
    }
    let held: Vec<(Finding, String)> = asked
        .metrics
        .iter()
        .map(|metric| hold(metric, measured))
        .collect();
    let finding = worst(held.iter().map(|(found, _)| *found));
    if let (Finding::Passed, Some(why)) = (finding, &measured.uncounted) {
        return Judged {
            finding: Finding::Inconclusive,
            message: why.clone(),
        };
    }
    let sentences: Vec<&str> = held
        .iter()
        .filter(|(found, _)| *found == finding)
        .map(|(_, sentence)| sentence.as_str())
        .collect();
    Judged {
        finding,
        message: format!("{} ({requests} requests)", sentences.join("; ")),
    }
}

/// What is missing before clients' scores say anything.
fn unscored(metric: &AnalysisMetric, measured: &Measured) -> Option<String> {
    if measured.mirrored {
        let fix = "clients get no answer of it to score; put a setWeight before this analysis";
        return Some(format!("feedbackScore was not measured: {fix}"));
    }
    let least = metric.min_scores.unwrap_or(MIN_SCORES);
    let few = |whose: &str, scores: Scores| {
        let count = scores.count;
        (count < least).then(|| {
            format!(
                "feedbackScore: only {count} scores of the {whose} revision, fewer than minScores ({least})"
            )
        })
    };
    let compared = metric.min_ratio_to_stable.is_some();
    few("new", measured.canary.scores).or_else(|| few("old", measured.stable.scores).filter(|_| compared))
}

/// One metric: whether its bounds are met, and the figures.
fn hold(metric: &AnalysisMetric, measured: &Measured) -> (Finding, String) {
    if metric.name == Some(RouterMetric::FeedbackScore)
        && let Some(missing) = unscored(metric, measured)
    {
        return (Finding::Inconclusive, missing);
    }
    let (name, value) = match (metric.name, &metric.prometheus) {
        (Some(name), _) => (
            name.as_str().to_owned(),
            measured
                .canary
                .value(name)
                .ok_or_else(|| "was not measured".to_owned()),
        ),
        (None, Some(query)) => (
            format!("`{}`", query.query),
            match measured.answer(query) {
                Some(Answer::Value(value)) => Ok(*value),
                Some(Answer::Unusable(why) | Answer::Unreachable(why)) => {
                    Err(format!("cannot be judged: {why}"))
                }
                None => Err("was not asked".to_owned()),
            },
        ),
        (None, None) => (
            "a metric".to_owned(),
            Err("names no figure; set name or prometheus".to_owned()),
        ),
    };
    let value = match value {
        Ok(value) => value,
        Err(why) => return (Finding::Inconclusive, format!("{name} {why}")),
    };
    let stable = metric.name.and_then(|name| measured.stable.value(name));
    let fixed = |side: Side, bound: Option<f64>| {
        bound.map(|bound| hold_to(value, side, bound, &format!("{} {}", side.field(), figure(bound))))
    };
    let relative = |side: Side, ratio: Option<f64>| {
        let ratio = ratio?;
        let Some(stable) = stable else {
            let words = "and the old revision answered nothing to compare it with";
            return Some((Finding::Inconclusive, words.to_owned()));
        };
        let words = format!("{ratio} times the old revision's {}", figure(stable));
        Some(hold_to(value, side, stable * ratio, &words))
    };
    let bounds = [
        fixed(Side::Most, metric.max),
        fixed(Side::Least, metric.min),
        relative(Side::Most, metric.max_ratio_to_stable),
        relative(Side::Least, metric.min_ratio_to_stable),
    ];
    let bounds: Vec<(Finding, String)> = bounds.into_iter().flatten().collect();
    let finding = worst(bounds.iter().map(|(finding, _)| *finding));
    let said: Vec<String> = bounds.into_iter().map(|(_, said)| said).collect();
    (
        finding,
        format!("{name} is {}, {}", figure(value), said.join(", ")),
    )
}

/// On which side of a bound a figure must be.
#[derive(Clone, Copy, Debug)]
enum Side {
    Most,
    Least,
}

impl Side {
    fn field(self) -> &'static str {
        match self {
            Self::Most => "max",
            Self::Least => "min",
        }
    }
}

/// Whether `value` keeps to a bound, and the bound's `words`.
fn hold_to(value: f64, side: Side, bound: f64, words: &str) -> (Finding, String) {
    let (met, good, bad) = match side {
        Side::Most => (value <= bound, "within", "above"),
        Side::Least => (value >= bound, "at least", "below"),
    };
    if met {
        (Finding::Passed, format!("{good} {words}"))
    } else {
        (Finding::Failed, format!("{bad} {words}"))
    }
}

fn worst(findings: impl Iterator<Item = Finding>) -> Finding {
    findings.fold(Finding::Passed, |worst, next| match (worst, next) {
        (Finding::Failed, _) | (_, Finding::Failed) => Finding::Failed,
        (Finding::Inconclusive, _) | (_, Finding::Inconclusive) => Finding::Inconclusive,
        _ => Finding::Passed,
    })
}

/// Whether the whole interval of the error rate (Wilson) lies above its bound.
fn certainly_missed(metric: &AnalysisMetric, canary: &Figures, min_requests: u64) -> bool {
    let Some(max) = metric
        .max
        .filter(|_| metric.name == Some(RouterMetric::ErrorRate))
    else {
        return false;
    };
    canary.requests >= min_requests && lowest_rate(canary.errors, canary.requests) > max
}

/// Lower end of Wilson's interval.
fn lowest_rate(errors: u64, requests: u64) -> f64 {
    let n = requests as f64;
    let share = errors as f64 / n;
    let z2 = Z * Z;
    let spread = Z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    (share + z2 / (2.0 * n) - spread) / (1.0 + z2 / n)
}

/// Four significant digits, without a tail of noughts.
fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
