//! The operator against a real apiserver: the cluster of KUBECONFIG.

mod fine_tune_job;
mod schema;
mod support;
