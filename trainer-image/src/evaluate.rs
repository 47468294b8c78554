//! `slipway-trainer evaluate`: its steps in order.

mod endpoint;
mod examples;
mod labels;
mod local;
mod measure;
mod record;
mod report;

use std::time::Instant;

use slipway_contract::{
    EvalConfig, EvalOutcome, EvalTarget, Failure, FailureReason, MetricName, Phase, Task, judge,
};
use slipway_hub::Client;
use slipway_hub::source::Pin;

use self::endpoint::Endpoint;
use self::examples::Examples;
use self::labels::Classes;
use self::local::Local;
use self::measure::Observations;
use crate::data::{DataError, Example};
use crate::host::Host;

/// What a model says about one text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Answer {
    /// The likeliest class.
    class: u32,
    /// How likely, 0 to 1.
    score: f64,
}

/// A model, measured.
#[derive(Debug)]
struct Measured {
    observations: Observations,
    /// Classification only.
    answers: Vec<Answer>,
    /// Names of the classes.
    names: Vec<String>,
    /// The model, when it is on a Hub.
    pin: Option<Pin>,
}

/// Measures as configured.
pub fn run(config: &EvalConfig) -> Result<EvalOutcome, Failure> {
    check(config)?;
    let host = Host::new(config.listen.as_deref())?;
    let outcome = evaluate(config, &host);
    host.terminal.finish();
    if let Ok(outcome) = &outcome {
        host.board.update(|progress| progress.phase = Phase::Done);
        print!("{}", report::table(outcome));
    }
    outcome
}

fn evaluate(config: &EvalConfig, host: &Host) -> Result<EvalOutcome, Failure> {
    let client = host.client(&config.hub)?;
    let dataset = host.fetch_dataset(&config.dataset.source, &client)?;
    let examples = Examples::read(config, &dataset)?;
    let count = examples.items.len();
    host.terminal
        .say(&format!("{count} examples of split `{}`", examples.split));
    if examples.skipped > 0 {
        host.terminal
            .say(&format!("note: {} malformed rows were skipped", examples.skipped));
    }
    let models = 1 + u64::from(config.baseline.is_some());
    let mut progress = Progress::new(count as u64 * models);
    let target = measure_target(config, &examples, host, &client, &mut progress)?;
    let baseline = match &config.baseline {
        Some(baseline) => {
            host.terminal.say("measuring the baseline on the same examples");
            let (local, model) = Local::load(&baseline.model, config, host, &client)?;
            Some(measure_local(
                &local,
                model.identity,
                config,
                &examples,
                host,
                &mut progress,
            )?)
        }
        None => None,
    };
    let results = measure::results(&config.metrics, &target.observations, config.confidence);
    let comparison = config
        .baseline
        .as_ref()
        .zip(baseline.as_ref())
        .map(|(asked, measured)| {
            measure::compare(
                asked,
                &config.metrics,
                &target.observations,
                &measured.observations,
            )
        });
    if let Some(path) = &config.predictions {
        report::predictions(path, &examples, &target, baseline.as_ref())?;
    }
    let (verdict, findings) = judge(&results, &config.thresholds, comparison.as_ref());
    let record = match &config.record {
        Some(asked) => {
            host.board.update(|progress| progress.phase = Phase::Publishing);
            let facts = record::Facts {
                config,
                split: &examples.split,
                dataset: dataset.identity.as_ref(),
                model: target.pin.as_ref(),
                results: &results,
                today: jiff::Zoned::now().date(),
            };
            Some(record::record(&asked.model_card, &facts, host, &client)?)
        }
        None => None,
    };
    Ok(EvalOutcome {
        results,
        comparison,
        verdict,
        findings,
        record,
    })
}

fn measure_target(
    config: &EvalConfig,
    examples: &Examples,
    host: &Host,
    client: &Client,
    progress: &mut Progress,
) -> Result<Measured, Failure> {
    match &config.target {
        EvalTarget::Model(source) => {
            let (local, model) = Local::load(source, config, host, client)?;
            measure_local(&local, model.identity, config, examples, host, progress)
        }
        EvalTarget::Endpoint { url, variant } => {
            let endpoint = Endpoint::new(url, variant.as_deref())?;
            progress.begin(host);
            let (texts, _) = examples.labelled();
            let (answers, classes) = endpoint.classify(&texts, config.batch_size as usize, host, progress)?;
            classified(answers, classes, examples, None)
        }
    }
}

fn measure_local(
    local: &Local,
    pin: Option<Pin>,
    config: &EvalConfig,
    examples: &Examples,
    host: &Host,
    progress: &mut Progress,
) -> Result<Measured, Failure> {
    progress.begin(host);
    if config.task == Task::SequenceClassification {
        let (texts, labels) = examples.labelled();
        // Labels that disagree are told before the time is spent.
        local.classes().resolve(&labels, examples.declared.as_ref())?;
        let answers = local.classify(&texts, host, progress)?;
        return classified(answers, local.classes(), examples, pin);
    }
    let terms = local.likelihoods(examples, host, progress)?;
    if terms.iter().all(|(_, tokens)| *tokens == 0) {
        return Err(DataError::Empty {
            split: examples.split.clone(),
            detail: " with a token to measure within maxSequenceLength".into(),
        }
        .into());
    }
    Ok(Measured {
        observations: Observations::Likelihoods(terms),
        answers: Vec::new(),
        names: Vec::new(),
        pin,
    })
}

fn classified(
    answers: Vec<Answer>,
    classes: Classes,
    examples: &Examples,
    pin: Option<Pin>,
) -> Result<Measured, Failure> {
    let (_, labels) = examples.labelled();
    let truth = classes.resolve(&labels, examples.declared.as_ref())?;
    Ok(Measured {
        observations: Observations::Classes {
            count: classes.names.len(),
            pairs: truth
                .into_iter()
                .zip(answers.iter().map(|answer| answer.class))
                .collect(),
        },
        answers,
        names: classes.names,
        pin,
    })
}

/// Refuses what cannot work whatever model and data are.
fn check(config: &EvalConfig) -> Result<(), Failure> {
    let invalid = |message: String| Err(Failure::new(FailureReason::InvalidConfig, message));
    let task = config.task;
    if task == Task::Embedding {
        return invalid(
            "task Embedding has no metrics; evaluate with task CausalLM or SequenceClassification".into(),
        );
    }
    if matches!(config.target, EvalTarget::Endpoint { .. }) && task != Task::SequenceClassification {
        return invalid(format!(
            "a server is measured by task SequenceClassification only, not {task:?}; name the model instead of the endpoint"
        ));
    }
    if config.metrics.is_empty() {
        let usual = if task == Task::CausalLM {
            "perplexity"
        } else {
            "accuracy"
        };
        return invalid(format!(
            "metrics is empty; name at least one, for instance {{name: {usual}}}"
        ));
    }
    if config.batch_size == 0 || config.max_sequence_length == Some(0) {
        return invalid("batchSize or maxSequenceLength is 0; set it to at least 1".into());
    }
    let mut asked: Vec<MetricName> = config.metrics.iter().map(|spec| spec.name).collect();
    asked.extend(config.baseline.as_ref().map(|baseline| baseline.metric));
    if let Some(name) = asked.iter().find(|name| !name.fits(task)) {
        let fitting = if task == Task::CausalLM {
            "perplexity"
        } else {
            "accuracy, precision, recall and f1"
        };
        return invalid(format!(
            "the metric {} cannot be computed for task {task:?}, which has {fitting}",
            name.as_str()
        ));
    }
    for threshold in &config.thresholds {
        let computed = config.metrics.iter().any(|spec| {
            let kind = spec.average.unwrap_or(slipway_contract::Average::Macro);
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

/// How far the evaluation is, over all models.
#[derive(Debug)]
struct Progress {
    done: u64,
    total: u64,
    started: Option<Instant>,
}

impl Progress {
    fn new(total: u64) -> Self {
        Self {
            done: 0,
            total,
            started: None,
        }
    }

    /// A model is loaded and answers from now on.
    fn begin(&mut self, host: &Host) {
        self.started.get_or_insert_with(Instant::now);
        let (done, total) = (self.done, self.total);
        host.board.update(|progress| {
            progress.phase = Phase::Evaluating;
            (progress.step, progress.total_steps) = (done, total);
        });
    }

    fn advance(&mut self, examples: usize, host: &Host) {
        self.done += examples as u64;
        let (done, total) = (self.done, self.total);
        let seconds = self
            .started
            .map(|started| started.elapsed().as_secs_f64())
            .unwrap_or_default();
        host.board.update(|progress| {
            (progress.step, progress.total_steps) = (done, total);
            progress.estimated_remaining_seconds =
                Some((seconds / done as f64 * (total - done) as f64) as u64);
        });
        host.terminal.step(done, total, "examples");
    }
}

/// The text of an example, for people who look at single predictions.
fn shown(example: &Example) -> Option<&str> {
    match example {
        Example::Labelled { text, .. } | Example::Text(text) => Some(text),
        Example::Completion { prompt, .. } => Some(prompt),
        Example::Conversation(_) => None,
    }
}
