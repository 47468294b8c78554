//! Names that more than one controller or a person relies on. Pure: no client.

/// Field manager of the FineTuneJob controller.
pub const FINE_TUNE_JOB_MANAGER: &str = "slipway-fine-tune-job";
/// Field manager of the EvalRun controller.
pub const EVAL_RUN_MANAGER: &str = "slipway-eval-run";
/// Field manager of the ModelDeployment controller.
pub const MODEL_DEPLOYMENT_MANAGER: &str = "slipway-model-deployment";

/// Label that names the FineTuneJob a child belongs to.
pub const FINE_TUNE_JOB_LABEL: &str = "slipway.dev/fine-tune-job";
/// Label that names the EvalRun a child belongs to.
pub const EVAL_RUN_LABEL: &str = "slipway.dev/eval-run";
/// Label that names the ModelDeployment a child belongs to.
pub const MODEL_DEPLOYMENT_LABEL: &str = "slipway.dev/model-deployment";
/// Label that names the variant a child belongs to.
pub const VARIANT_LABEL: &str = "slipway.dev/variant";
/// Label that tells an arm's own pods (`stable`) from those of a revision that is being rolled in (`canary`).
pub const TRACK_LABEL: &str = "slipway.dev/track";
/// Label that names the revision a child belongs to.
pub const REVISION_LABEL: &str = "slipway.dev/revision";

/// Name of the Job of a FineTuneJob; an operator that was restarted finds it again by it.
pub fn train_job(fine_tune_job: &str) -> String {
    format!("{fine_tune_job}-train")
}

/// Name of the PersistentVolumeClaim of a FineTuneJob.
pub fn checkpoint_claim(fine_tune_job: &str) -> String {
    format!("{fine_tune_job}-checkpoints")
}

/// Where the result is within that claim.
pub const OUTPUT_PATH: &str = "output";

/// Name of the Job of an EvalRun.
pub fn eval_job(eval_run: &str) -> String {
    format!("{eval_run}-eval")
}

/// Annotation of an EvalRun with a schedule: start a run now. With the value `reference` it becomes the reference.
pub const RUN_NOW_ANNOTATION: &str = "slipway.dev/run-now";

/// Name of the Job of one run of an EvalRun's schedule. `number` is of the time: minutes since 1970 where it was due,
/// as a CronJob names its Jobs, seconds where it was asked for; the pod's hostname then has at most 63 characters.
pub fn scheduled_job(eval_run: &str, number: i64) -> String {
    format!("{eval_run}-{number}")
}

/// The Service of a ModelDeployment, as clients of the cluster call it.
pub fn deployment_url(model_deployment: &str, namespace: &str) -> String {
    format!("http://{model_deployment}.{namespace}.svc")
}

/// Where `port` of a pod answers, once the pod has an address.
pub fn pod_url(pod: &k8s_openapi::api::core::v1::Pod, port: u16) -> Option<String> {
    let ip = pod.status.as_ref()?.pod_ip.as_deref()?;
    Some(if ip.contains(':') {
        format!("http://[{ip}]:{port}")
    } else {
        format!("http://{ip}:{port}")
    })
}

/// Sixteen hexadecimal digits that stand for `value`: equal content, equal digest, in every version of Rust.
pub fn digest<T: serde::Serialize>(value: &T) -> String {
    use sha2::{Digest, Sha256};
    let bytes = serde_json::to_vec(value).expect("plain data");
    hexadecimal(&Sha256::digest(&bytes)[..8])
}

/// Two digits a byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
