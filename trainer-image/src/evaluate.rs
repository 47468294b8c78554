//! `slipway-trainer evaluate`: its steps in order.

mod check;
mod endpoint;
mod examples;
mod labels;
mod local;
mod measure;
mod progress;
mod record;
mod report;

use slipway_contract::{
    EvalConfig, EvalOutcome, EvalTarget, Failure, FailureReason, MetricName, MetricSource, MetricSpec, Phase,
    Task, judge,
};
use slipway_hub::Client;
use slipway_hub::source::Pin;

use self::check::check;
use self::endpoint::Endpoint;
use self::examples::Examples;
use self::labels::Classes;
use self::local::Local;
use self::measure::{Observations, undefined};
use self::progress::Progress;
use crate::data::{DataError, Example};
use crate::host::Host;
use crate::metrics::{Lexicon, RocAuc};

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
    let question = Question::new(config, &examples)?;
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
    if let Some(path) = &config.predictions {
        report::predictions(path, &examples, &target, baseline.as_ref())?;
    }
    let (verdict, findings) = judge(&results, &config.thresholds, comparison.as_ref());
    let recorded = match &config.record {
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
        notes: recorded.notes,
    })
}

impl<'a> Question<'a> {
    fn new(config: &'a EvalConfig, examples: &'a Examples) -> Result<Self, Failure> {
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
        ]
        .into_iter()
        .filter(|&source| self.wants(source))
        .count() as u64
    }
}

fn measure_target(
    question: &Question<'_>,
    host: &Host,
    client: &Client,
    progress: &mut Progress,
) -> Result<Measured, Failure> {
    let config = question.config;
    match &config.target {
        EvalTarget::Model(source) => {
            let (local, model) = Local::load(source, config, host, client)?;
            measure_local(&local, model.identity, question, host, progress)
        }
        EvalTarget::Endpoint {
            url,
            variant,
            revision,
        } => {
            let endpoint = Endpoint::new(url, variant.as_deref(), revision.as_deref())?;
            progress.begin(host);
            let (texts, _) = question.examples.labelled();
            let (answers, classes) = endpoint.classify(&texts, config.batch_size as usize, host, progress)?;
            let unscored = answers
                .iter()
                .position(|answer| answer.scores.iter().any(|score| score.is_nan()));
            if let Some(index) = unscored.filter(|_| question.wants_scores()) {
                return Err(Failure::new(
                    FailureReason::InvalidConfig,
                    format!(
                        "{url} answers to example {} without a score for every class, which rocAuc needs; remove rocAuc, or let the server answer with all classes",
                        index + 1
                    ),
                ));
            }
            classified(answers, classes, question, None)
        }
    }
}

fn measure_local(
    local: &Local,
    pin: Option<Pin>,
    question: &Question<'_>,
    host: &Host,
    progress: &mut Progress,
) -> Result<Measured, Failure> {
    progress.begin(host);
    let examples = question.examples;
    if question.config.task == Task::SequenceClassification {
        let (texts, labels) = examples.labelled();
        // Labels that disagree are told before the time is spent.
        local.classes().resolve(&labels, examples.declared.as_ref())?;
        let answers = local.classify(&texts, host, progress)?;
        return classified(answers, local.classes(), question, pin);
    }
    let likelihoods = if question.wants(MetricSource::Likelihoods) {
        local.likelihoods(examples, host, progress)?
    } else {
        Vec::new()
    };
    if !likelihoods.is_empty() && likelihoods.iter().all(|one| one.tokens == 0) {
        return Err(DataError::Empty {
            split: examples.split.clone(),
            detail: " with a token to measure within maxSequenceLength".into(),
        }
        .into());
    }
    let spoken = if question.wants(MetricSource::Answers) {
        local.answers(examples, question.config.max_new_tokens as usize, host, progress)?
    } else {
        Vec::new()
    };
    let (found, truth): (Vec<&str>, Vec<&str>) = spoken
        .iter()
        .map(|one| (one.answer.as_str(), one.reference.as_str()))
        .unzip();
    let mut answers = Vec::new();
    for spec in &question.specs {
        if let Some(metric) = measure::of_answers(spec.name) {
            let each = metric
                .contributions(&found, &truth, question.lexicon.as_ref())
                .map_err(|why| undefined(spec.name, &why))?;
            answers.push((spec.name, each));
        }
    }
    Ok(Measured {
        observations: Observations::Language { likelihoods, answers },
        answers: Vec::new(),
        spoken,
        names: Vec::new(),
        pin,
    })
}

fn classified(
    answers: Vec<Answer>,
    classes: Classes,
    question: &Question<'_>,
    pin: Option<Pin>,
) -> Result<Measured, Failure> {
    let (_, labels) = question.examples.labelled();
    let truth = classes.resolve(&labels, question.examples.declared.as_ref())?;
    let area = if question.wants_scores() {
        let scores: Vec<Vec<f64>> = answers.iter().map(|answer| answer.scores.clone()).collect();
        let area = RocAuc::new(&truth, &scores);
        Some(area.map_err(|why| undefined(MetricName::RocAuc, &why))?)
    } else {
        None
    };
    Ok(Measured {
        observations: Observations::Classes {
            count: classes.names.len(),
            pairs: truth
                .into_iter()
                .zip(answers.iter().map(|answer| answer.class))
                .collect(),
            area,
        },
        answers,
        spoken: Vec::new(),
        names: classes.names,
        pin,
    })
}

/// The text of an example, for people who look at single predictions.
fn shown(example: &Example) -> Option<&str> {
    match example {
        Example::Labelled { text, .. } | Example::Text(text) => Some(text),
        Example::Completion { prompt, .. } => Some(prompt),
        Example::Conversation(_) => None,
    }
}
