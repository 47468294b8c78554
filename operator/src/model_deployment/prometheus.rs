//! Step: what Prometheus servers say of a new revision, where an analysis asks them.

use std::time::Duration as Span;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Deserialize;

use super::plan;
use crate::{
    context::Context,
    crd::{Analysis, ModelDeployment, PrometheusQuery, RolloutPhase, RolloutStatus, Step},
};

/// What became of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One number.
    Value(f64),
    /// An answer that is no number; asking again would bring the same.
    Unusable(String),
    /// No answer, which may mend itself.
    Unreachable(String),
}

/// Asks the queries of the analysis that the arm's rollout is at, once it has ended; nothing before.
pub async fn ask(
    context: &Context,
    object: &ModelDeployment,
    variant: &str,
    now: Timestamp,
) -> Vec<(PrometheusQuery, Answer)> {
    let rollout = plan::known(object, variant).and_then(|known| known.rollout.as_ref());
    let Some((rollout, analysis)) = rollout.and_then(|rollout| Some((rollout, due(object, rollout, now)?)))
    else {
        return Vec::new();
    };
    let mut answers = Vec::new();
    for query in analysis
        .metrics
        .iter()
        .filter_map(|metric| metric.prometheus.as_ref())
    {
        let filled = fill(&query.query, object, variant, rollout, analysis);
        let answer = answer(&context.http, &query.address, &filled).await;
        answers.push((query.clone(), answer));
    }
    answers
}

/// Asks the server at `address` one instant query.
pub async fn answer(http: &reqwest::Client, address: &str, query: &str) -> Answer {
    let url = format!("{}/api/v1/query", address.trim_end_matches('/'));
    let url = match reqwest::Url::parse_with_params(&url, [("query", query)]) {
        Ok(url) => url,
        Err(error) => return Answer::Unusable(format!("its address is no URL: {error}")),
    };
    match http.get(url).send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            match answer.bytes().await {
                Ok(body) => read(status, &body),
                Err(error) => Answer::Unreachable(cause(&error)),
            }
        }
        Err(error) => Answer::Unreachable(cause(&error)),
    }
}

/// The innermost cause: the outer ones say only that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The analysis under way, if it has ended.
fn due<'a>(object: &'a ModelDeployment, rollout: &RolloutStatus, now: Timestamp) -> Option<&'a Analysis> {
    let step = object
        .spec
        .strategy
        .canary
        .as_ref()?
        .steps
        .get(rollout.step as usize)?;
    let Step::Analysis(analysis) = step else {
        return None;
    };
    let length = SignedDuration::try_from(Span::from(analysis.duration)).ok()?;
    let ended = now.duration_since(rollout.step_started.0) >= length;
    (ended && rollout.phase == RolloutPhase::Progressing).then_some(analysis)
}

fn fill(
    query: &str,
    object: &ModelDeployment,
    variant: &str,
    rollout: &RolloutStatus,
    analysis: &Analysis,
) -> String {
    let seconds = Span::from(analysis.duration).as_secs().max(1);
    [
        ("namespace", object.namespace().unwrap_or_default()),
        ("name", object.name_any()),
        ("variant", variant.to_owned()),
        ("revision", rollout.revision.clone()),
        ("stableRevision", rollout.from.clone()),
        ("duration", format!("{seconds}s")),
    ]
    .into_iter()
    .fold(query.to_owned(), |query, (name, value)| {
        query.replace(&format!("{{{{{name}}}}}"), &value)
    })
}

/// The answer of `/api/v1/query` (<https://prometheus.io/docs/prometheus/latest/querying/api/>).
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Body {
    Success { data: Data },
    Error { error: String },
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar(Sample),
    Vector(Vec<Series>),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

/// Seconds since 1970, and a number as text: JSON has no NaN.
type Sample = (f64, String);

#[derive(Deserialize)]
struct Series {
    value: Sample,
}

/// What an answer comes to. Pure.
fn read(status: u16, body: &[u8]) -> Answer {
    let data = match serde_json::from_slice(body) {
        Ok(Body::Success { data }) => data,
        // 400 and 422: the query itself is refused. Anything else may mend itself.
        Ok(Body::Error { error }) if [400, 422].contains(&status) => {
            return Answer::Unusable(format!("Prometheus refuses the query: {error}"));
        }
        Ok(Body::Error { error }) => return Answer::Unreachable(error),
        Err(_) => {
            return Answer::Unreachable(format!(
                "status {status}, and no answer of Prometheus' query API; check the address"
            ));
        }
    };
    let text = match data {
        Data::Scalar((_, text)) => text,
        Data::Vector(series) => match <[Series; 1]>::try_from(series) {
            Ok([Series { value: (_, text) }]) => text,
            Err(series) if series.is_empty() => {
                return Answer::Unusable("the query found no series; check its labels".into());
            }
            Err(series) => {
                return Answer::Unusable(format!(
                    "the query comes to {} series; aggregate them to one",
                    series.len()
                ));
            }
        },
        Data::Matrix(_) | Data::String(_) => {
            return Answer::Unusable("the query comes to no single number; write one that does".into());
        }
    };
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Answer::Value(value),
        _ => Answer::Unusable(format!("the query comes to {text}, such as a share of nothing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_an_answer() {
        let scalar =
            br#"{"status":"success","data":{"resultType":"scalar","result":[1435781451.781,"0.25"]}}"#;
        assert_eq!(read(200, scalar), Answer::Value(0.25));
        let vector = br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"job":"a"},"value":[1.5,"3"]}]}}"#;
        assert_eq!(read(200, vector), Answer::Value(3.0));
    }

    #[test]
    fn what_is_no_number_says_why() {
        let vector = |result: &str| {
            format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#)
                .into_bytes()
        };
        let series = r#"{"metric":{},"value":[1,"1"]}"#;
        for (status, body, words) in [
            (200, vector(""), "no series"),
            (200, vector(&format!("{series},{series}")), "2 series"),
            (200, vector(r#"{"metric":{},"value":[1,"NaN"]}"#), "NaN"),
            (
                200,
                br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#.to_vec(),
                "no single number",
            ),
            (
                400,
                br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_vec(),
                "parse error",
            ),
        ] {
            let Answer::Unusable(why) = read(status, &body) else {
                panic!("{}", String::from_utf8_lossy(&body))
            };
            assert!(why.contains(words), "{why}");
        }
        let busy = br#"{"status":"error","errorType":"timeout","error":"query timed out"}"#;
        assert_eq!(read(503, busy), Answer::Unreachable("query timed out".into()));
        assert!(matches!(read(200, b"<html>"), Answer::Unreachable(_)));
    }
}
