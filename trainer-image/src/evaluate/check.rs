//! What cannot work whatever model and data are. Pure.

use slipway_contract::{
    Average, Benchmark, EvalConfig, EvalTarget, EvalTask, Failure, FailureReason, MetricName,
};

/// Refuses it. `benchmark` is the one that it names.
pub(super) fn check(config: &EvalConfig, benchmark: Option<&Benchmark>) -> Result<(), Failure> {
    let task = config.task;
    check_benchmark(task, benchmark)?;
    check_shots(config)?;
    if matches!(config.target, EvalTarget::Endpoint { .. }) {
        check_endpoint(config)?;
    }
    if config.batch_size == 0 || config.max_sequence_length == Some(0) || config.max_new_tokens == 0 {
        return invalid("batchSize, maxSequenceLength or maxNewTokens is 0; set it to at least 1".into());
    }
    check_metrics(config)?;
    check_thresholds(config)?;
    for confidence in
        std::iter::once(config.confidence).chain(config.baseline.iter().map(|other| other.confidence))
    {
        if !(0.5..1.0).contains(&confidence) {
            return invalid(format!(
                "confidence is {confidence}; set it from 0.5 up to, but not including, 1"
            ));
        }
    }
    Ok(())
}

fn check_endpoint(config: &EvalConfig) -> Result<(), Failure> {
    let task = config.task;
    if matches!(task, EvalTask::Regression | EvalTask::Retrieval) {
        return invalid(format!(
            "a server is measured by task SequenceClassification, CausalLM or MultipleChoice, not {task:?}; name the model instead of the endpoint"
        ));
    }
    Ok(())
}

fn check_benchmark(task: EvalTask, benchmark: Option<&Benchmark>) -> Result<(), Failure> {
    let Some(benchmark) = benchmark else {
        if task == EvalTask::MultipleChoice {
            return invalid(
                "task MultipleChoice needs a benchmark, which says what the question and the choices are; set benchmark"
                    .into(),
            );
        }
        return Ok(());
    };
    let (fits, kind) = match benchmark.choices {
        Some(_) => (EvalTask::MultipleChoice, "has choices"),
        None => (EvalTask::CausalLM, "has no choices"),
    };
    if task == fits {
        return Ok(());
    }
    invalid(format!(
        "benchmark {} {kind}, which is for task {fits:?}, not {task:?}; set task to {fits:?}",
        benchmark.name
    ))
}

fn check_shots(config: &EvalConfig) -> Result<(), Failure> {
    match &config.few_shot {
        Some(_) if config.benchmark.is_none() => invalid(
            "fewShot shows questions of a benchmark with their answers, and there is no benchmark; set benchmark, or remove fewShot"
                .into(),
        ),
        Some(shots) if shots.count == 0 => {
            invalid("fewShot.count is 0; set it to at least 1, or remove fewShot".into())
        }
        _ => Ok(()),
    }
}

fn check_metrics(config: &EvalConfig) -> Result<(), Failure> {
    let task = config.task;
    let fitting: Vec<&str> = task.metrics().map(MetricName::as_str).collect();
    if config.metrics.is_empty() {
        return invalid(format!(
            "metrics is empty; name at least one, for instance {{name: {}}}",
            fitting[0]
        ));
    }
    let mut asked: Vec<MetricName> = config.metrics.iter().map(|spec| spec.name).collect();
    asked.extend(config.baseline.as_ref().map(|baseline| baseline.metric));
    if let Some(name) = asked.iter().find(|name| !name.fits(task)) {
        return invalid(format!(
            "the metric {} cannot be computed for task {task:?}, which has {}",
            name.as_str(),
            fitting.join(", ")
        ));
    }
    if asked.contains(&MetricName::Meteor) && config.lexicon.is_none() {
        return invalid(
            "meteor needs WordNet and Punkt; set lexicon to a folder with nltk's data: python -m nltk.downloader -d FOLDER wordnet punkt_tab".into(),
        );
    }
    let binary = config
        .metrics
        .iter()
        .any(|spec| spec.average == Some(Average::Binary));
    if binary && matches!(config.target, EvalTarget::Endpoint { .. }) {
        return invalid(
            "average binary needs to know which class is the second, which a server does not tell; choose macro, micro or weighted, or name the model instead of the endpoint".into(),
        );
    }
    Ok(())
}

fn check_thresholds(config: &EvalConfig) -> Result<(), Failure> {
    for threshold in &config.thresholds {
        let computed = config.metrics.iter().any(|spec| {
            let kind = spec.average.unwrap_or(Average::Macro);
            spec.name == threshold.metric && threshold.average.is_none_or(|average| average == kind)
        });
        if !computed {
            return invalid(format!(
                "a threshold is set on {}, which is not computed that way; add it to metrics",
                threshold.metric.as_str()
            ));
        }
        if threshold.min.is_none() && threshold.max.is_none() {
            return invalid(format!(
                "the threshold on {} has no bound; set min, max or both",
                threshold.metric.as_str()
            ));
        }
    }
    Ok(())
}

fn invalid(message: String) -> Result<(), Failure> {
    Err(Failure::new(FailureReason::InvalidConfig, message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is wrong with a configuration, given what is particular about it.
    fn refused(particular: &Value) -> String {
        let mut config = json!({
            "target": { "model": { "path": "model" } },
            "task": "CausalLM",
            "dataset": { "source": { "path": "data" } },
            "metrics": [{ "name": "bleu" }],
        });
        let fields = particular.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(fields);
        let config: EvalConfig = serde_json::from_value(config).unwrap();
        let benchmark = config.benchmark.as_ref().map(|source| source.read().unwrap());
        check(&config, benchmark.as_ref()).map_or_else(|failure| failure.message, |()| String::new())
    }

    #[test]
    fn metrics_that_fit_the_task_are_computed() {
        for task in EvalTask::ALL {
            let metrics = task.metrics().map(|name| json!({ "name": name.as_str() }));
            let mut particular = json!({
                "task": task.as_str(), "metrics": metrics.collect::<Vec<_>>(), "lexicon": "nltk_data",
            });
            if task == EvalTask::MultipleChoice {
                particular["benchmark"] = json!({ "name": "arc_easy" });
            }
            assert_eq!(refused(&particular), "");
        }
    }

    #[test]
    fn what_cannot_be_computed_is_refused_with_what_can() {
        for (particular, sentence) in [
            (
                json!({ "metrics": [{ "name": "rocAuc" }] }),
                "the metric rocAuc cannot be computed for task CausalLM, which has perplexity, bitsPerByte,",
            ),
            (
                json!({ "baseline": { "model": { "path": "other" }, "metric": "accuracy" } }),
                "the metric accuracy cannot be computed",
            ),
            (
                json!({ "metrics": [{ "name": "meteor" }] }),
                "meteor needs WordNet and Punkt; set lexicon",
            ),
            (
                json!({ "thresholds": [{ "metric": "chrf", "min": 50.0 }] }),
                "a threshold is set on chrf, which is not computed",
            ),
            (json!({ "metrics": [] }), "for instance {name: perplexity}"),
            (
                json!({ "task": "MultipleChoice", "metrics": [{ "name": "acc" }] }),
                "task MultipleChoice needs a benchmark",
            ),
            (
                json!({ "benchmark": { "name": "piqa" } }),
                "benchmark piqa has choices, which is for task MultipleChoice, not CausalLM",
            ),
            (
                json!({ "task": "Regression", "metrics": [{ "name": "acc" }] }),
                "for task Regression, which has mse, rmse,",
            ),
            (
                json!({ "fewShot": { "count": 2 } }),
                "there is no benchmark; set benchmark",
            ),
            (
                json!({ "task": "MultipleChoice", "benchmark": { "name": "piqa" }, "metrics": [], "fewShot": { "count": 0 } }),
                "fewShot.count is 0",
            ),
            (json!({ "maxNewTokens": 0 }), "set it to at least 1"),
            (
                json!({
                    "target": { "endpoint": { "url": "http://server" } },
                    "task": "SequenceClassification",
                    "metrics": [{ "name": "f1", "average": "binary" }],
                }),
                "which a server does not tell",
            ),
            (
                json!({
                    "target": { "endpoint": { "url": "http://server" } }, "task": "Regression", "metrics": [{ "name": "mse" }],
                }),
                "SequenceClassification, CausalLM or MultipleChoice, not Regression",
            ),
        ] {
            let found = refused(&particular);
            assert!(found.contains(sentence), "{found}");
        }
    }
}
