//! What the figures of routers or servers say against the bounds of an analysis. Pure.

use slipway_contract::{Histogram, RevisionStats};

use super::prometheus::Answer;
use crate::crd::{Analysis, AnalysisMetric, PrometheusQuery, RouterMetric};

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
                    })
                    .unwrap_or_default()
            } else {
                canary.map(figures).unwrap_or_default()
            },
            stable: of(stable).map(figures).unwrap_or_default(),
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
    let finding = [Finding::Failed, Finding::Inconclusive]
        .into_iter()
        .find(|worse| held.iter().any(|(found, _)| found == worse))
        .unwrap_or(Finding::Passed);
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

/// One metric: whether its bounds are met, and the figures.
fn hold(metric: &AnalysisMetric, measured: &Measured) -> (Finding, String) {
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
    let mut finding = Finding::Passed;
    let mut said = vec![format!("{name} is {}", figure(value))];
    let mut bound = |met: bool, text: String| {
        said.push(text);
        if !met {
            finding = Finding::Failed;
        }
    };
    if let Some(max) = metric.max {
        let met = value <= max;
        bound(
            met,
            format!("{} max {}", if met { "within" } else { "above" }, figure(max)),
        );
    }
    if let Some(min) = metric.min {
        let met = value >= min;
        bound(
            met,
            format!("{} min {}", if met { "at least" } else { "below" }, figure(min)),
        );
    }
    let stable = metric.name.and_then(|name| measured.stable.value(name));
    match (metric.max_ratio_to_stable, stable) {
        (Some(ratio), Some(stable)) => {
            let met = value <= stable * ratio;
            let word = if met { "within" } else { "above" };
            bound(
                met,
                format!("{word} {ratio} times the old revision's {}", figure(stable)),
            );
        }
        (Some(_), None) => {
            said.push("and the old revision answered nothing to compare it with".into());
            if finding == Finding::Passed {
                finding = Finding::Inconclusive;
            }
        }
        (None, _) => {}
    }
    (finding, said.join(", "))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(json: &str) -> Analysis {
        serde_json::from_str(json).unwrap()
    }

    fn figures(requests: u64, errors: u64, milliseconds: u64) -> Figures {
        let bucket = Histogram::bucket(Duration::from_millis(milliseconds));
        let latency = Histogram {
            buckets: vec![(bucket, requests)],
        };
        Figures {
            requests,
            errors,
            latency: latency.clone(),
            first_byte: latency,
        }
    }

    const ERRORS: &str = r#"{"duration":"1m","minRequests":100,"metrics":[{"name":"errorRate","max":0.01}]}"#;

    #[test]
    fn too_few_requests_are_never_a_pass() {
        let measured = Measured {
            canary: figures(99, 0, 10),
            ..Measured::default()
        };
        let judged = judge(&asked(ERRORS), &measured, true);
        assert_eq!(judged.finding, Finding::Inconclusive);
        assert!(judged.message.contains("only 99 requests"), "{}", judged.message);
    }

    #[test]
    fn the_figures_are_told() {
        let measured = Measured {
            canary: figures(200, 1, 10),
            ..Measured::default()
        };
        assert_eq!(
            judge(&asked(ERRORS), &measured, true),
            Judged {
                finding: Finding::Passed,
                message: "errorRate is 0.005, within max 0.01 (200 requests)".into()
            }
        );
        let measured = Measured {
            canary: figures(200, 3, 10),
            ..Measured::default()
        };
        assert_eq!(judge(&asked(ERRORS), &measured, true).finding, Finding::Failed);
    }

    #[test]
    fn only_a_certain_failure_ends_an_analysis_early() {
        let sick = Measured {
            canary: figures(100, 40, 10),
            ..Measured::default()
        };
        assert_eq!(judge(&asked(ERRORS), &sick, false).finding, Finding::Failed);
        let unlucky = Measured {
            canary: figures(100, 2, 10),
            ..Measured::default()
        };
        assert_eq!(judge(&asked(ERRORS), &unlucky, false).finding, Finding::Measuring);
        let early = Measured {
            canary: figures(20, 20, 10),
            ..Measured::default()
        };
        assert_eq!(judge(&asked(ERRORS), &early, false).finding, Finding::Measuring);
    }

    #[test]
    fn failures_that_nobody_counted_are_never_a_pass() {
        let uncounted = Some("a server of the new revision ended".to_owned());
        let measured = |errors| Measured {
            canary: figures(200, errors, 10),
            uncounted: uncounted.clone(),
            ..Measured::default()
        };
        let judged = judge(&asked(ERRORS), &measured(0), true);
        assert_eq!(
            (judged.finding, Some(judged.message)),
            (Finding::Inconclusive, uncounted.clone())
        );
        assert_eq!(judge(&asked(ERRORS), &measured(9), true).finding, Finding::Failed);
    }

    #[test]
    fn the_old_revision_over_the_same_time_is_a_bound_too() {
        let relative = asked(
            r#"{"duration":"1m","minRequests":10,"metrics":[{"name":"latencyP95Seconds","maxRatioToStable":1.5}]}"#,
        );
        let slower = Measured {
            canary: figures(50, 0, 200),
            stable: figures(50, 0, 100),
            ..Measured::default()
        };
        let judged = judge(&relative, &slower, true);
        assert_eq!(judged.finding, Finding::Failed);
        assert!(
            judged.message.contains("above 1.5 times the old revision's"),
            "{}",
            judged.message
        );
        let like = Measured {
            canary: figures(50, 0, 110),
            stable: figures(50, 0, 100),
            ..Measured::default()
        };
        assert_eq!(judge(&relative, &like, true).finding, Finding::Passed);
        let alone = Measured {
            canary: figures(50, 0, 110),
            ..Measured::default()
        };
        assert_eq!(judge(&relative, &alone, true).finding, Finding::Inconclusive);
    }

    #[test]
    fn copies_are_looked_at_while_there_is_no_share() {
        let json = r#"[{"variant":"a","revision":"new","requests":0,"mirrored":{"requests":7,"errors":2}},
                       {"variant":"a","revision":"old","requests":9},{"variant":"b","revision":"new","requests":1}]"#;
        let series: Vec<RevisionStats> = serde_json::from_str(json).unwrap();
        let measured = Measured::of(&series, "a", "new", "old", true);
        assert_eq!(
            (
                measured.canary.requests,
                measured.canary.errors,
                measured.stable.requests
            ),
            (7, 2, 9)
        );
        assert_eq!(Measured::of(&series, "a", "new", "old", false).canary.requests, 0);
    }

    #[test]
    fn a_prometheus_answer_is_held_against_its_bounds_once_it_is_there() {
        let asked = asked(
            r#"{"duration":"1m","minRequests":10,"metrics":[{"prometheus":{"address":"http://p:9090","query":"up"},"min":0.5,"max":2}]}"#,
        );
        let query = asked.metrics[0].prometheus.clone().unwrap();
        let answered = |answer: Option<Answer>| Measured {
            canary: figures(50, 0, 10),
            answers: answer.into_iter().map(|answer| (query.clone(), answer)).collect(),
            ..Measured::default()
        };
        for (answer, finding, said) in [
            (
                Some(Answer::Value(1.0)),
                Finding::Passed,
                "within max 2, at least min 0.5",
            ),
            (Some(Answer::Value(3.0)), Finding::Failed, "above max 2"),
            (Some(Answer::Value(0.1)), Finding::Failed, "below min 0.5"),
            (
                Some(Answer::Unusable("no series".into())),
                Finding::Inconclusive,
                "no series",
            ),
            (
                Some(Answer::Unreachable("refused".into())),
                Finding::Measuring,
                "refused",
            ),
            (None, Finding::Measuring, "waits for the answer"),
        ] {
            let judged = judge(&asked, &answered(answer), true);
            assert_eq!(judged.finding, finding, "{}", judged.message);
            assert!(judged.message.contains(said), "{}", judged.message);
        }
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [0.0, 0.005, 0.123_456, 12.0, 1234.5].map(figure),
            ["0", "0.005", "0.1235", "12", "1234"]
        );
    }
}
