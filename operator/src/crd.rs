//! The three kinds a person applies, and the CRDs generated from them. Pure: no client.
//!
//! What the schema has is what the controllers do: a field that is not implemented is not there, so that strict
//! validation refuses it by name instead of ignoring it.

mod common;
mod eval_rules;
#[allow(clippy::duplicated_attributes, reason = "printer columns share attributes")]
mod eval_run;
mod experiment;
#[allow(clippy::duplicated_attributes, reason = "printer columns share attributes")]
mod fine_tune_job;
mod gateway;
#[allow(clippy::duplicated_attributes, reason = "printer columns share attributes")]
mod model_deployment;
mod scaling;
mod schedule;
mod schema;
mod strategy;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::names::{EVAL_RUN_MANAGER, FINE_TUNE_JOB_MANAGER, MODEL_DEPLOYMENT_MANAGER};

pub use common::{
    ClaimRef, DatasetRef, HubSettings, KeyRef, ModelSource, NamedRef, Quantity, ResolvedSource, Resources,
    TokenSecretRef,
};
pub use eval_rules::{BenchmarkRef, PredictionsClaim, PredictionsRef};
pub use eval_run::{BaselineRef, ComparisonStatus, EvalRun, EvalRunSpec, EvalRunStatus, TargetRef};
pub use experiment::{Experiment, ExperimentRecord, ExperimentStatus, RecordFailure, ScoredBy};
pub use fine_tune_job::{
    AccessMode, CheckpointSpec, CheckpointVolume, FineTuneJob, FineTuneJobSpec, FineTuneJobStatus, OutputSpec,
};
pub use gateway::{GatewayRef, GatewayRoute};
pub use model_deployment::{
    AdapterRef, ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus, Traffic, TrafficMirror, Variant,
    VariantPhase, VariantStatus,
};
pub use scaling::{Scaling, ScalingStatus};
pub use schedule::{
    ActiveRun, Answering, MAX_HISTORY, RunFailure, RunRecord, Schedule, Trigger, cron_pattern,
};
pub use schema::{CrdError, all, write};
pub use strategy::{
    Analysis, AnalysisMetric, Canary, EvalStep, Mirror, OnFailure, Pause, PrometheusQuery, RevisionSources,
    RolloutPhase, RolloutStatus, RouterMetric, Step, Strategy, Weight, WhenNoCapacity,
};

/// The API group of every kind here.
pub const GROUP: &str = "slipway.dev";
/// The version served and stored.
pub const VERSION: &str = "v1alpha1";

/// Longest object name: children append suffixes, and Pod hostnames and Service names end at 63 characters.
pub const MAX_NAME: usize = 50;

/// Implemented by each kind, so that the controllers share what is alike.
pub trait Kind {
    /// What controllers of the kind say of it.
    type Status;
    /// Name of its controller in logs, metrics and events.
    const NAME: &str;
    /// Field manager of its controller.
    const MANAGER: &str;

    /// What was told last.
    fn status(&self) -> Option<&Self::Status>;
    /// The conditions of the status; empty while there is none.
    fn conditions(&self) -> &[Condition];
}

macro_rules! kinds {
    ($($kind:ident $status:ident $manager:ident),+) => {$(
        impl Kind for $kind {
            type Status = $status;
            const NAME: &str = stringify!($kind);
            const MANAGER: &str = $manager;

            fn status(&self) -> Option<&$status> {
                self.status.as_ref()
            }

            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
        }
    )+};
}
kinds!(
    FineTuneJob FineTuneJobStatus FINE_TUNE_JOB_MANAGER,
    EvalRun EvalRunStatus EVAL_RUN_MANAGER,
    ModelDeployment ModelDeploymentStatus MODEL_DEPLOYMENT_MANAGER
);
