//! What the operator and the images say to each other, and what a person writes to run an image alone.
//!
//! Everything here is data: configuration files read by the images ([`TrainConfig`], [`EvalConfig`],
//! [`ServeConfig`], [`RouteTable`]) and reports written by them ([`Progress`], [`Report`], [`RouterStats`],
//! [`ServerStats`]).
//! Field names are camelCase on the wire. Files may be YAML or JSON.

mod benchmark;
mod config;
mod dataset;
mod eval;
mod eval_task;
pub mod experiment;
mod metric;
mod report;
mod route;
mod schema;
mod serve;
mod server_stats;
mod source;
mod stats;
mod train;

pub use benchmark::{Benchmark, BenchmarkSource, Choices, FewShot, Sampler, Shipped, Target};
pub use config::{ConfigError, parse};
pub use dataset::{Columns, DataFormat, Dataset, DatasetSource, Validation};
pub use eval::{
    Baseline, Comparison, ConfidenceInterval, EvalConfig, EvalTarget, MetricResult, ModelCardRecord,
    PredictionsHub, Record, Threshold, Verdict, judge,
};
pub use eval_task::EvalTask;
pub use metric::{Average, MetricName, MetricSource, MetricSpec};
pub use report::{
    CardCommit, CheckpointMark, EvalOutcome, Failure, FailureReason, Metric, Phase, Progress, Published,
    Report, TrainOutcome, exit,
};
pub use route::{
    ExperimentMetric, FeedbackScore, Hold, RouteCanary, RouteExperiment, RouteFeedback, RouteMirror,
    RouteTable, RouteVariant, Sticky, Success, Within,
};
pub use schema::{strip_formats, union};
pub use serve::{ServeConfig, ServeLimits};
pub use server_stats::ServerStats;
pub use source::{AdapterSource, HubAccess, HubRef, ModelSource};
pub use stats::{ExperimentStats, Histogram, Mirrored, RevisionStats, RouterStats, Scores};
pub use train::{
    Checkpoint, EarlyStopping, Evaluation, Full, Hyperparameters, Lora, Method, Objective, Output, OutputHub,
    Precision, Provenance, Scheduler, Sft, Task, TrainConfig, Workers,
};
