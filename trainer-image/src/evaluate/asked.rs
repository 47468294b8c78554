//! Models asked what the examples ask, and what they say as observations.

use slipway_contract::{EvalTarget, EvalTask, Failure, FailureReason, MetricName, MetricSource};
use slipway_hub::Client;
use slipway_hub::source::Pin;

use super::benchmark::ChoiceQuestion;
use super::endpoint::Endpoint;
use super::examples::Items;
use super::labels::Classes;
use super::likelihood::Likelihood;
use super::local::Local;
use super::measure::{self, Chosen, Observations, undefined};
use super::{Answer, Measured, Progress, Question, Spoken};
use crate::data::DataError;
use crate::host::Host;
use crate::metrics::RocAuc;

pub(super) fn measure_target(
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
            match (&question.examples.items, config.task) {
                (Items::Choices { delimiter, questions }, _) => {
                    let likelihoods = endpoint.choose(questions, delimiter, host, progress)?;
                    return chosen(questions, likelihoods, None);
                }
                (_, EvalTask::CausalLM) => {
                    let examples = question.examples;
                    let mut likelihoods = Vec::new();
                    if question.wants(MetricSource::Likelihoods) {
                        likelihoods = endpoint.likelihoods(examples, config, host, progress)?;
                    }
                    let mut spoken = Vec::new();
                    if question.wants(MetricSource::Answers) {
                        let most = (config.max_new_tokens, config.batch_size as usize);
                        spoken = endpoint.answers(examples, question.benchmark, most, host, progress)?;
                    }
                    return language(question, likelihoods, spoken, None);
                }
                _ => {}
            }
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

pub(super) fn measure_local(
    local: &Local,
    pin: Option<Pin>,
    question: &Question<'_>,
    host: &Host,
    progress: &mut Progress,
) -> Result<Measured, Failure> {
    progress.begin(host);
    let examples = question.examples;
    match &examples.items {
        Items::Choices { delimiter, questions } => {
            let likelihoods = local.choose(questions, delimiter, host, progress)?;
            return chosen(questions, likelihoods, pin);
        }
        Items::Numbers(numbers) => {
            let (texts, truth): (Vec<&str>, Vec<f64>) = numbers
                .iter()
                .map(|(text, number)| (text.as_str(), *number))
                .unzip();
            let found = local.numbers(&texts, host, progress)?;
            return Ok(plain(Observations::Numbers { truth, found }, pin));
        }
        Items::Collection(collection) => {
            let rankings = local.retrieve(collection, host, progress)?;
            return Ok(plain(Observations::Rankings(rankings), pin));
        }
        Items::Examples(_) => {}
    }
    if question.config.task == EvalTask::SequenceClassification {
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
    let spoken = if question.wants(MetricSource::Answers) {
        local.answers(
            examples,
            question.benchmark,
            question.config.max_new_tokens as usize,
            host,
            progress,
        )?
    } else {
        Vec::new()
    };
    language(question, likelihoods, spoken, pin)
}

/// The observations of a task that has nothing else to show.
fn plain(observations: Observations, pin: Option<Pin>) -> Measured {
    Measured {
        observations,
        answers: Vec::new(),
        spoken: Vec::new(),
        names: Vec::new(),
        pin,
    }
}

fn chosen(
    questions: &[ChoiceQuestion],
    likelihoods: Vec<Vec<f64>>,
    pin: Option<Pin>,
) -> Result<Measured, Failure> {
    are_numbers(likelihoods.iter().map(|each| each.iter().sum()))?;
    let each = questions.iter().zip(likelihoods);
    let each = each.map(|(one, nats)| Chosen::new(&one.choices, nats, one.right));
    Ok(plain(Observations::Choices(each.collect()), pin))
}

/// Refuses log-likelihoods that are none: a model whose weights are spoiled has no figure, not a bad one.
fn are_numbers(mut each: impl Iterator<Item = f64>) -> Result<(), Failure> {
    match each.position(|nats| !nats.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Failure::new(
            FailureReason::InvalidModel,
            format!(
                "the model's log-likelihood of example {} is not a number, as after a training that diverged; choose another revision or model",
                index + 1
            ),
        )),
    }
}

fn language(
    question: &Question<'_>,
    likelihoods: Vec<Likelihood>,
    spoken: Vec<Spoken>,
    pin: Option<Pin>,
) -> Result<Measured, Failure> {
    are_numbers(likelihoods.iter().map(|one| one.nats))?;
    if !likelihoods.is_empty() && likelihoods.iter().all(|one| one.tokens == 0) {
        return Err(DataError::Empty {
            split: question.examples.split.clone(),
            detail: " with a token to measure within maxSequenceLength".into(),
        }
        .into());
    }
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
