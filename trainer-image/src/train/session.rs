//! The training loop: step, evaluate, checkpoint, stop.

use std::collections::HashMap;
use std::time::Instant;

use jiff::Timestamp;
use slipway_contract::{CheckpointMark, Failure, FailureReason, Phase, TrainConfig};

use super::adamw::Parameter;
use super::checkpoint::{Snapshot, Store};
use super::compute::{Sums, clip, failure};
use super::exact;
use super::group::{Group, Next, Reduced};
use super::plan::Plan;
use super::prepare::Prepared;
use super::schedule::Schedule;
use super::state::{LogLine, RunState};
use super::stopping::Stopping;
use super::tensors::{self, Tensors};
use super::validation;
use crate::host::Host;
use crate::stop::interrupted;

/// A run under way.
#[derive(Debug)]
pub(super) struct Session<'a> {
    host: &'a Host,
    config: &'a TrainConfig,
    pub prepared: Prepared,
    pub plan: Plan,
    schedule: Schedule,
    parameters: Vec<Parameter>,
    pub group: Group,
    /// Rank 0 only.
    store: Option<Store>,
    stopping: Option<Stopping>,
    pub state: RunState,
    best: Option<Tensors>,
    /// The step of the newest checkpoint.
    saved: Option<u64>,
    /// Whether another worker was told to stop.
    stop_heard: bool,
    pace: Pace,
    /// How long it takes, for the card.
    clock: Clock,
}

/// Seconds of a run over every restart.
#[derive(Debug)]
struct Clock {
    since: Instant,
    before: f64,
}

impl Clock {
    /// Goes on from `before` seconds.
    fn from(before: f64) -> Self {
        Self {
            since: Instant::now(),
            before,
        }
    }

    fn seconds(&self) -> f64 {
        self.before + self.since.elapsed().as_secs_f64()
    }
}

impl<'a> Session<'a> {
    /// A run at its first step.
    pub fn new(
        host: &'a Host,
        config: &'a TrainConfig,
        prepared: Prepared,
        group: Group,
        store: Option<Store>,
    ) -> Result<Self, Failure> {
        let plan = Plan::new(
            prepared.corpora.training.rows(),
            &config.hyperparameters,
            config.workers.count,
        );
        let schedule = Schedule {
            scheduler: config.hyperparameters.scheduler,
            peak: config.hyperparameters.learning_rate,
            warmup: config.hyperparameters.warmup_steps,
            total: plan.total_steps,
        };
        let parameters = prepared
            .network
            .trainable()
            .into_iter()
            .map(|(name, value)| Parameter::new(name, value));
        let parameters = parameters.collect::<Result<Vec<_>, _>>().map_err(failure)?;
        let stopping = config.evaluation.early_stopping.as_ref();
        let stopping = stopping
            .map(|stopping| Stopping::new(stopping, config.task))
            .transpose()?;
        host.board
            .update(|progress| progress.total_steps = plan.total_steps);
        Ok(Self {
            host,
            config,
            prepared,
            plan,
            schedule,
            parameters,
            group,
            store,
            stopping,
            state: RunState::default(),
            best: None,
            saved: None,
            stop_heard: false,
            pace: Pace::default(),
            clock: Clock::from(0.0),
        })
    }

    /// Numbers that are trained.
    pub fn trainable(&self) -> usize {
        self.parameters
            .iter()
            .map(|parameter| parameter.value.elem_count())
            .sum()
    }

    /// One line that says what is about to happen.
    pub fn summary(&self) -> String {
        let corpora = &self.prepared.corpora;
        let validation = corpora.validation.as_ref().map_or(String::new(), |validation| {
            format!(", validating on {}", validation.examples())
        });
        format!(
            "training {} numbers on {} examples in {} rows{validation}: {} steps, {} a pass over the data",
            self.trainable(),
            corpora.training.examples(),
            corpora.training.rows(),
            self.plan.total_steps,
            self.plan.steps_per_epoch
        )
    }

    /// Goes on from the newest checkpoint, where there is one. All workers start from what rank 0 has.
    pub fn resume(&mut self) -> Result<(), Failure> {
        if let Some(store) = &self.store {
            let terminal = &self.host.terminal;
            if let Some(snapshot) =
                store.newest(&mut |warning| terminal.say(&format!("warning: {warning}")))?
            {
                self.restore(snapshot)?;
                terminal.say(&format!(
                    "resumed at step {} of {}",
                    self.state.step, self.plan.total_steps
                ));
            }
        }
        let snapshot = Snapshot {
            best: None,
            ..self.snapshot()
        };
        if let Some(bytes) = self.group.share(|| snapshot.to_bytes())? {
            let start = Snapshot::from_bytes(&bytes);
            self.restore(start.map_err(|message| Failure::new(FailureReason::WorkerLost, message))?)?;
        }
        Ok(())
    }

    /// Takes steps until there is nothing left to do.
    pub fn run(&mut self) -> Result<(), Failure> {
        loop {
            let decision = if self.group.leads() {
                self.between_steps()?
            } else {
                Next::Step
            };
            match self.group.agree(decision)? {
                Next::Step => self.step()?,
                Next::Finished => break,
                Next::Interrupted => {
                    return Err(interrupted(&match self.saved {
                        Some(step) => format!("the checkpoint of step {step} is written"),
                        None if self.group.leads() => "no step was taken yet".into(),
                        None => "worker 0 wrote the checkpoint".into(),
                    }));
                }
            }
        }
        if let Some(best) = self.best.take() {
            self.set_weights(best)?;
        }
        Ok(())
    }

    /// What is due between two steps, and whether another one follows.
    fn between_steps(&mut self) -> Result<Next, Failure> {
        let told = |session: &Self| session.stop_heard || session.host.stop.told();
        if !told(self) && self.evaluation_due() {
            self.evaluate()?;
        }
        let step = self.state.step;
        let finished = step >= self.plan.total_steps || self.state.stopped_early;
        let due = finished || step.is_multiple_of(self.config.checkpoint.every_steps);
        if step > 0 && self.saved != Some(step) && (due || told(self)) {
            self.save()?;
        }
        Ok(if told(self) && (!finished || self.evaluation_due()) {
            Next::Interrupted
        } else if finished {
            Next::Finished
        } else {
            Next::Step
        })
    }

    fn step(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let hyper = &self.config.hyperparameters;
        let mut sums = Sums::new(self.parameters.len());
        for rows in self.plan.step(self.state.step, self.group.rank()) {
            let batch = self.prepared.corpora.training.batch(&rows.indices);
            self.prepared.network.set_training(hyper.seed, rows.number);
            sums.add(
                &self.prepared.network,
                &self.parameters,
                &batch,
                &self.prepared.device,
            )?;
        }
        let shapes: Vec<Vec<usize>> = self
            .parameters
            .iter()
            .map(|one| one.value.dims().to_vec())
            .collect();
        let Reduced { sums, stop } =
            self.group
                .reduce(sums, self.host.stop.told(), &shapes, &self.prepared.device)?;
        self.stop_heard |= stop;
        let loss = sums.loss / sums.count.max(1) as f64;
        let norm = sums.norm()?;
        if !loss.is_finite() || !norm.is_finite() {
            return Err(self.not_finite(loss));
        }
        let rate = self.schedule.rate(self.state.step);
        let scale = clip(norm, hyper.max_gradient_norm) / sums.count.max(1) as f64;
        self.state.step += 1;
        for (parameter, gradient) in self.parameters.iter_mut().zip(&sums.gradients) {
            if let Some(gradient) = gradient {
                let done = parameter.step(gradient, scale, rate, hyper.weight_decay, self.state.step);
                done.map_err(failure)?;
            }
        }
        self.record(&sums, loss, norm, rate, started.elapsed().as_secs_f64());
        Ok(())
    }

    fn record(&mut self, sums: &Sums, loss: f64, norm: f64, rate: f64, seconds: f64) {
        let (step, total) = (self.state.step, self.plan.total_steps);
        self.state.tokens += sums.tokens;
        self.state.seconds += seconds;
        if RunState::logs(step, total) {
            self.state.log.push(LogLine {
                step,
                loss: Some(loss),
                learning_rate: Some(rate),
                gradient_norm: Some(norm),
                tokens: Some(sums.tokens),
                evaluation: None,
            });
        }
        self.pace.add(seconds, sums.tokens);
        let remaining = self.pace.seconds * total.saturating_sub(step) as f64;
        self.host.board.update(|progress| {
            progress.step = step;
            progress.loss = Some(loss);
            progress.learning_rate = Some(rate);
            progress.tokens_per_second = Some(self.pace.tokens_per_second());
            progress.estimated_remaining_seconds = Some(remaining.ceil() as u64);
        });
        if self.group.leads() {
            let message = format!(
                "loss {loss:.4}, learning rate {rate:.3e}, {:.0} tokens/s",
                self.pace.tokens_per_second()
            );
            self.host.terminal.step(step, total, &message);
        }
    }

    fn not_finite(&self, loss: f64) -> Failure {
        let kept = match self.saved {
            Some(step) => format!("the checkpoint of step {step} is kept"),
            None => "no checkpoint was written yet".into(),
        };
        Failure::new(
            FailureReason::LossNotFinite,
            format!(
                "the loss or its gradient became {} at step {}; {kept}: lower hyperparameters.learningRate, or set maxGradientNorm",
                if loss.is_finite() {
                    "infinite".to_owned()
                } else {
                    loss.to_string()
                },
                self.state.step + 1
            ),
        )
    }

    fn evaluation_due(&self) -> bool {
        let step = self.state.step;
        let done = self
            .state
            .evaluated
            .as_ref()
            .is_some_and(|(evaluated, _)| *evaluated == step);
        let due = match self.config.evaluation.every_steps {
            Some(every) => step.is_multiple_of(every),
            None => self.plan.ends_epoch(step),
        };
        self.prepared.corpora.validation.is_some()
            && step > 0
            && !done
            && (due || step >= self.plan.total_steps)
    }

    fn evaluate(&mut self) -> Result<(), Failure> {
        let Some(validation) = &self.prepared.corpora.validation else {
            return Ok(());
        };
        let host = self.host;
        host.board.update(|progress| progress.phase = Phase::Evaluating);
        let scores = validation::evaluate(
            &mut self.prepared.network,
            validation,
            self.config.hyperparameters.batch_size as usize,
            self.prepared.corpora.labels.len(),
            &self.prepared.device,
            &host.stop,
        )?;
        host.board.update(|progress| progress.phase = Phase::Training);
        // None: a signal came. The checkpoint is written first, and a resumed run evaluates again.
        let Some(scores) = scores else {
            return Ok(());
        };
        if !scores.loss.is_finite() {
            return Err(self.not_finite(scores.loss));
        }
        let step = self.state.step;
        host.terminal.say(&format!("step {step}: validation {scores}"));
        host.board
            .update(|progress| progress.eval_loss = Some(scores.loss));
        if let Some(stopping) = &self.stopping {
            if stopping.observe(&mut self.state.best, step, &scores) {
                let copies = self
                    .parameters
                    .iter()
                    .map(|one| Ok((one.name.clone(), one.value.copy()?.detach())));
                self.best = Some(copies.collect::<Result<_, _>>().map_err(failure)?);
            } else if stopping.stops(&self.state.best) {
                self.state.stopped_early = true;
                host.terminal
                    .say("no more improvement: stopping early, with the best weights seen");
            }
        }
        match self.state.log.last_mut().filter(|line| line.step == step) {
            Some(line) => line.evaluation = Some(scores.clone()),
            None => self.state.log.push(LogLine {
                step,
                evaluation: Some(scores.clone()),
                ..LogLine::default()
            }),
        }
        self.state.evaluated = Some((step, scores));
        Ok(())
    }

    fn save(&mut self) -> Result<(), Failure> {
        self.state.elapsed = self.clock.seconds();
        let Some(store) = &self.store else {
            return Ok(());
        };
        store.write(&self.snapshot())?;
        let step = self.state.step;
        self.saved = Some(step);
        self.host.board.update(|progress| {
            progress.last_checkpoint = Some(CheckpointMark {
                step,
                time: Timestamp::now(),
            });
        });
        self.host
            .terminal
            .say(&format!("step {step}: checkpoint written"));
        Ok(())
    }

    /// Everything that changes, sharing memory with the run: to be written before the next step.
    fn snapshot(&self) -> Snapshot {
        let named = |prefix: &str, tensor: fn(&Parameter) -> &candle_core::Tensor| -> Tensors {
            self.parameters
                .iter()
                .map(|one| (format!("{prefix}{}", one.name), tensor(one).detach()))
                .collect()
        };
        let mut moments = named("first.", |one| &one.first);
        moments.extend(named("second.", |one| &one.second));
        Snapshot {
            state: self.state.clone(),
            weights: named("", |one| one.value.as_tensor()),
            moments,
            best: self.best.clone(),
        }
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), Failure> {
        self.set_weights(snapshot.weights)?;
        let mut moments: HashMap<String, candle_core::Tensor> = snapshot.moments.into_iter().collect();
        for parameter in &mut self.parameters {
            for (prefix, moment) in [
                ("first.", &mut parameter.first),
                ("second.", &mut parameter.second),
            ] {
                let name = format!("{prefix}{}", parameter.name);
                let tensor = moments
                    .remove(&name)
                    .filter(|tensor| tensor.dims() == moment.dims());
                let tensor = tensor.ok_or_else(|| foreign(&name))?;
                *moment = tensor.to_device(&self.prepared.device).map_err(failure)?;
            }
        }
        self.state = snapshot.state;
        self.clock = Clock::from(self.state.elapsed);
        self.best = snapshot.best;
        self.saved = Some(self.state.step).filter(|step| *step > 0);
        let step = self.state.step;
        self.host.board.update(|progress| {
            progress.step = step;
            progress.eval_loss = self.state.evaluated.as_ref().map(|(_, scores)| scores.loss);
        });
        Ok(())
    }

    fn set_weights(&mut self, weights: Tensors) -> Result<(), Failure> {
        let mut weights: HashMap<String, candle_core::Tensor> = weights.into_iter().collect();
        for parameter in &self.parameters {
            let tensor = weights
                .remove(&parameter.name)
                .filter(|tensor| tensor.dims() == parameter.value.dims());
            let tensor = tensor.ok_or_else(|| foreign(&parameter.name))?;
            let tensor = tensor.to_device(&self.prepared.device).map_err(failure)?;
            parameter.value.set(&tensor).map_err(failure)?;
        }
        Ok(())
    }
}

fn foreign(name: &str) -> Failure {
    Failure::new(
        FailureReason::CheckpointMismatch,
        format!(
            "the checkpoint has no tensor {name} of the right shape; point checkpoint.directory at an empty directory"
        ),
    )
}

impl Snapshot {
    /// State, weights and moments, each after its length (8 bytes, little-endian).
    fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let parts = [
            exact::to_vec(&self.state)?,
            tensors::to_bytes(&self.weights)?,
            tensors::to_bytes(&self.moments)?,
        ];
        for part in parts {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes;
        let mut part = || -> Option<&[u8]> {
            let (length, tail) = rest.split_first_chunk::<8>()?;
            let (part, tail) = tail.split_at_checked(u64::from_le_bytes(*length) as usize)?;
            rest = tail;
            Some(part)
        };
        let short = || "worker 0 sent a damaged start".to_owned();
        Ok(Self {
            state: exact::from_slice(part().ok_or_else(short)?).map_err(|error| error.to_string())?,
            weights: tensors::parse(part().ok_or_else(short)?)?,
            moments: tensors::parse(part().ok_or_else(short)?)?,
            best: None,
        })
    }
}

/// Moving averages over the last steps.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Seconds a step.
    seconds: f64,
    /// Tokens a step.
    tokens: f64,
}

impl Pace {
    /// Weight of the newest step once a few are in.
    const WEIGHT: f64 = 0.1;

    fn add(&mut self, seconds: f64, tokens: u64) {
        let weight = if self.seconds == 0.0 { 1.0 } else { Self::WEIGHT };
        self.seconds += weight * (seconds - self.seconds);
        self.tokens += weight * (tokens as f64 - self.tokens);
    }

    fn tokens_per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.tokens / self.seconds
        } else {
            0.0
        }
    }
}
