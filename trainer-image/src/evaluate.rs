//! `slipway-trainer evaluate`: its steps in order.

mod asked;
mod benchmark;
mod check;
mod collection;
mod endpoint;
mod examples;
mod labels;
mod likelihood;
mod local;
mod measure;
mod numbers;
mod pair;
mod predictions;
mod progress;
mod record;
mod report;

use slipway_contract::{
    Benchmark, EvalConfig, EvalOutcome, Failure, FailureReason, MetricName, MetricSource, MetricSpec, Phase,
    judge,
};
use slipway_hub::source::Pin;

use self::asked::{measure_local, measure_target};
use self::check::check;
use self::examples::Examples;
use self::local::Local;
use self::measure::Observations;
use self::progress::Progress;
use crate::host::Host;
use crate::metrics::Lexicon;

/// What a model says about one text.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    /// The likeliest class.
    class: u32,
    /// How likely each class is, 0 to 1, by its id; NaN where a server does not say.
    scores: Vec<f64>,
}

/// What a model says to one prompt.
#[derive(Clone, Debug, Default, PartialEq)]
struct Spoken {
    answer: String,
    /// What it should have said.
    reference: String,
}

/// What is asked of a model.
#[derive(Debug)]
struct Question<'a> {
    config: &'a EvalConfig,
    /// How rows became questions, where a benchmark says.
    benchmark: Option<&'a Benchmark>,
    examples: &'a Examples,
    /// What to compute, the metric of the comparison included.
    specs: Vec<MetricSpec>,
    /// For METEOR.
    lexicon: Option<Lexicon>,
}

/// A model, measured.
#[derive(Debug)]
struct Measured {
    observations: Observations,
    /// Classification only.
    answers: Vec<Answer>,
    /// Generation only.
    spoken: Vec<Spoken>,
    /// Names of the classes.
    names: Vec<String>,
    /// The model, when it is on a Hub.
    pin: Option<Pin>,
}

/// Measures as configured.
pub fn run(config: &EvalConfig) -> Result<EvalOutcome, Failure> {
    let mut benchmark = match &config.benchmark {
        Some(source) => Some(
            source
                .read()
                .map_err(|error| Failure::new(FailureReason::InvalidConfig, error.to_string()))?,
        ),
        None => None,
    };
    if let (Some(benchmark), Some(shots)) = (&mut benchmark, &config.few_shot) {
        benchmark.few_shot = Some(shots.clone());
    }
    let benchmark = benchmark.as_ref();
    let mut config = config.clone();
    if config.metrics.is_empty() {
        config.metrics = benchmark.map_or(Vec::new(), |benchmark| benchmark.metrics.clone());
    }
    check(&config, benchmark)?;
    let host = Host::new(config.listen.as_deref())?;
    let outcome = evaluate(&config, benchmark, &host);
    host.terminal.finish();
    if let Ok(outcome) = &outcome {
        host.board.update(|progress| progress.phase = Phase::Done);
        print!("{}", report::table(outcome));
    }
    outcome
}

fn evaluate(config: &EvalConfig, benchmark: Option<&Benchmark>, host: &Host) -> Result<EvalOutcome, Failure> {
    let client = host.client(&config.hub)?;
    let dataset = host.fetch_dataset(&config.dataset.source, &client)?;
    let examples = Examples::read(config, benchmark, &dataset)?;
    let count = examples.len();
    host.terminal
        .say(&format!("{count} examples of split `{}`", examples.split));
    if examples.skipped > 0 {
        host.terminal
            .say(&format!("note: {} malformed rows were skipped", examples.skipped));
    }
    let question = Question::new(config, benchmark, &examples)?;
    let models = 1 + u64::from(config.baseline.is_some());
    let mut progress = Progress::new(count as u64 * models * question.passes());
    let target = measure_target(&question, host, &client, &mut progress)?;
    let baseline = match &config.baseline {
        Some(baseline) => {
            host.terminal.say("measuring the baseline on the same examples");
            let (local, model) = Local::load(&baseline.model, config, host, &client)?;
            Some(measure_local(
                &local,
                model.identity,
                &question,
                host,
                &mut progress,
            )?)
        }
        None => None,
    };
    let results = measure::results(&config.metrics, &target.observations, config.confidence)?;
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
        })
        .transpose()?;
    let mut kept = None;
    if config.predictions.is_some() || config.predictions_hub.is_some() {
        let rows = predictions::rows(&examples, &target, baseline.as_ref());
        if let Some(path) = &config.predictions {
            predictions::write(path, &rows)?;
        }
        if let Some(repository) = &config.predictions_hub {
            host.board.update(|progress| progress.phase = Phase::Publishing);
            let facts = predictions::Facts {
                question: &question,
                dataset: dataset.identity.as_ref(),
                model: target.pin.as_ref(),
            };
            kept = Some(predictions::publish(repository, &rows, facts, host, &client)?);
        }
    }
    let (verdict, findings) = judge(&results, &config.thresholds, comparison.as_ref());
    let recorded = match &config.record {
        Some(asked) => {
            host.board.update(|progress| progress.phase = Phase::Publishing);
            let facts = record::Facts {
                config,
                split: &examples.split,
                shots: benchmark
                    .and_then(|benchmark| benchmark.few_shot.as_ref())
                    .map_or(0, |shots| shots.count),
                dataset: dataset.identity.as_ref(),
                model: target.pin.as_ref(),
                results: &results,
                today: jiff::Zoned::now().date(),
            };
            record::record(&asked.model_card, &facts, host, &client)?
        }
        None => record::Recorded::default(),
    };
    for note in &recorded.notes {
        host.terminal.say(&format!("warning: {note}"));
    }
    Ok(EvalOutcome {
        results,
        comparison,
        verdict,
        findings,
        record: recorded.commit,
        predictions: kept,
        notes: recorded.notes,
    })
}

impl<'a> Question<'a> {
    fn new(
        config: &'a EvalConfig,
        benchmark: Option<&'a Benchmark>,
        examples: &'a Examples,
    ) -> Result<Self, Failure> {
        let mut specs = config.metrics.clone();
        if let Some(baseline) = &config.baseline {
            let compared = measure::compared(baseline, &config.metrics);
            if !specs.contains(&compared) {
                specs.push(compared);
            }
        }
        let lexicon = match &config.lexicon {
            Some(folder) if specs.iter().any(|spec| spec.name == MetricName::Meteor) => Some(
                Lexicon::open(folder)
                    .map_err(|error| Failure::new(FailureReason::InvalidConfig, error.to_string()))?,
            ),
            _ => None,
        };
        Ok(Self {
            config,
            benchmark,
            examples,
            specs,
            lexicon,
        })
    }

    fn wants(&self, source: MetricSource) -> bool {
        self.specs.iter().any(|spec| spec.name.source() == source)
    }

    /// Whether it matters how likely each class is.
    fn wants_scores(&self) -> bool {
        self.specs.iter().any(|spec| spec.name == MetricName::RocAuc)
    }

    /// How often each example is computed.
    fn passes(&self) -> u64 {
        [
            MetricSource::Classes,
            MetricSource::Likelihoods,
            MetricSource::Answers,
            MetricSource::Numbers,
            MetricSource::Choices,
            MetricSource::Rankings,
        ]
        .into_iter()
        .filter(|&source| self.wants(source))
        .count() as u64
    }
}
