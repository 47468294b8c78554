//! What the run is doing, for `GET /progress`, `/metrics` and `/healthz`.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use slipway_contract::{Failure, FailureReason, Progress};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The current [`Progress`]. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Progress>>);

impl Board {
    /// Changes it; the percentage and the time follow.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut progress);
        if let Some(percentage) = (100 * progress.step).checked_div(progress.total_steps) {
            progress.percentage = percentage.min(100) as u32;
        }
        progress.last_updated_time = Some(Timestamp::now());
    }

    /// The progress now.
    pub fn now(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves it at `address`, for instance `0.0.0.0:8080`, until the process ends. Returns the address bound.
    pub fn serve(&self, address: &str, runtime: &Runtime) -> Result<std::net::SocketAddr, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(
                FailureReason::InvalidConfig,
                format!("failed to listen on `{address}`: {error}; set listen to a free host:port"),
            )
        };
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let routes = Router::new()
            .route(
                "/progress",
                get(|State(board): State<Self>| async move { Json(board.now()) }),
            )
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .with_state(self.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Ok(bound)
    }
}

async fn metrics(State(board): State<Board>) -> impl IntoResponse {
    let text = render(&board.now(), resident_bytes());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Prometheus' text format.
fn render(progress: &Progress, resident: Option<u64>) -> String {
    let figures = [
        (
            "slipway_trainer_step",
            "Optimizer steps (or examples, when evaluating) done.",
            Some(progress.step as f64),
        ),
        (
            "slipway_trainer_steps",
            "Steps planned.",
            Some(progress.total_steps as f64),
        ),
        (
            "slipway_trainer_loss",
            "Training loss of the last step.",
            progress.loss,
        ),
        (
            "slipway_trainer_eval_loss",
            "Loss on the validation split.",
            progress.eval_loss,
        ),
        (
            "slipway_trainer_learning_rate",
            "Learning rate of the last step.",
            progress.learning_rate,
        ),
        (
            "slipway_trainer_tokens_per_second",
            "Tokens a second over the last steps.",
            progress.tokens_per_second,
        ),
        (
            "slipway_trainer_remaining_seconds",
            "Estimated seconds until the last step.",
            progress.estimated_remaining_seconds.map(|seconds| seconds as f64),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory.",
            resident.map(|bytes| bytes as f64),
        ),
    ];
    let mut text = String::new();
    for (name, help, value) in figures {
        if let Some(value) = value {
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
            );
        }
    }
    text
}

/// Resident memory by `/proc`; None elsewhere.
pub fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// The most resident memory this process ever had, by `/proc`; None elsewhere.
pub fn peak_bytes() -> Option<u64> {
    status("VmHWM:")
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_follows_the_steps() {
        let board = Board::default();
        board.update(|progress| progress.step = 3);
        assert_eq!(board.now().percentage, 0);
        board.update(|progress| progress.total_steps = 4);
        assert_eq!(board.now().percentage, 75);
        assert!(board.now().last_updated_time.is_some());
    }

    #[test]
    fn metrics_leave_out_what_is_unknown() {
        let progress = Progress {
            step: 7,
            loss: Some(0.25),
            ..Progress::default()
        };
        let text = render(&progress, Some(4096));
        assert!(
            text.contains("\nslipway_trainer_step 7\n") && text.contains("\nslipway_trainer_loss 0.25\n"),
            "{text}"
        );
        assert!(
            text.contains("\nprocess_resident_memory_bytes 4096\n") && !text.contains("eval_loss"),
            "{text}"
        );
    }
}
