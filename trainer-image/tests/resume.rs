//! Interrupted runs go on as if nothing had happened.

mod support;

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use support::Bench;

/// A run long enough to be killed many times, with everything that has state: dropout, early stopping, several
/// epochs, accumulation.
fn config(bench: &Bench, run: &str) -> Value {
    let mut config = bench.config(run, "bert", "data");
    config["hyperparameters"] = json!({
        "maxSteps": 400, "batchSize": 4, "gradientAccumulationSteps": 2, "learningRate": 0.005,
        "maxSequenceLength": 32, "scheduler": "Cosine", "warmupSteps": 10, "weightDecay": 0.01,
    });
    config["checkpoint"]["everySteps"] = json!(3);
    config["evaluation"] =
        json!({ "everySteps": 10, "earlyStopping": { "metric": "loss", "patience": 100 } });
    config["dataset"]["validation"] = json!({ "split": "validation" });
    config
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.sentiment("data/train.jsonl", 90);
    bench.sentiment("data/validation.jsonl", 30);
    bench
}

/// How often the run dies before it may end.
const KILLS: u32 = 15;

#[test]
fn killed_again_and_again_it_ends_with_the_same_bits() {
    let bench = bench();
    bench.trained("whole", &config(&bench, "whole"));
    let killed = config(&bench, "killed");
    let newest = || {
        let entries = fs::read_dir(bench.path("killed-checkpoints"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("step-")?.to_owned()))
            .max()
    };
    let mut random = 12345u64;
    for kill in 0..KILLS {
        let before = newest();
        let mut child = bench.spawn("killed", &killed);
        // Every third dies at some moment of its start, the others some time after they wrote a checkpoint: while
        // stepping, evaluating, writing or pruning.
        while kill % 3 != 0 && newest() == before {
            assert!(child.try_wait().unwrap().is_none(), "it ended after {kill} kills");
            sleep(Duration::from_millis(1));
        }
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        sleep(Duration::from_micros((random >> 33) % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = bench.train("killed", &killed);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = "adapter_model.safetensors";
    assert!(
        bench.tensors("whole", file) == bench.tensors("killed", file),
        "the weights differ after {KILLS} kills"
    );
    assert_eq!(bench.losses("whole"), bench.losses("killed"));
}

#[test]
fn a_signal_checkpoints_and_a_retry_goes_on() {
    let bench = bench();
    let mut config = config(&bench, "out");
    config["hyperparameters"]["maxSteps"] = json!(2000);
    config["checkpoint"]["everySteps"] = json!(1_000_000);
    let child = bench.spawn("out", &config);
    sleep(Duration::from_millis(1500));
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(143),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report = bench.report("out");
    assert_eq!(report["failure"]["reason"], "Interrupted");
    let checkpoints: Vec<_> = fs::read_dir(bench.path("out-checkpoints"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(checkpoints.len(), 1, "{report}");
    config["hyperparameters"]["maxSteps"] = json!(2);
    let output = bench.train("out", &config);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("resumed at step"));
}

#[test]
fn another_batch_or_method_is_refused() {
    let bench = bench();
    let mut first = bench.config("out", "bert", "data");
    first["hyperparameters"]["maxSteps"] = json!(4);
    bench.trained("out", &first);
    let mut batch = first.clone();
    batch["hyperparameters"]["batchSize"] = json!(8);
    let message = bench.refused("out", &batch, 3, "CheckpointMismatch");
    assert!(message.contains("batchSize was 4, now 8"), "{message}");
    let mut method = first.clone();
    method["method"] = json!({ "full": {} });
    assert!(
        bench
            .refused("out", &method, 3, "CheckpointMismatch")
            .contains("method was")
    );
    bench.sentiment("data/train.jsonl", 80);
    assert!(
        bench
            .refused("out", &first, 3, "CheckpointMismatch")
            .contains("examples")
    );
}

#[test]
fn a_checkpoint_cut_in_half_gives_way_to_the_one_before() {
    let bench = bench();
    let config = bench.config("out", "bert", "data");
    bench.trained("out", &config);
    let weights = bench
        .path("out-checkpoints")
        .join("step-00000012/weights.safetensors");
    let half = fs::metadata(&weights).unwrap().len() / 2;
    fs::File::options()
        .write(true)
        .open(&weights)
        .unwrap()
        .set_len(half)
        .unwrap();
    let expected = bench.tensors("out", "adapter_model.safetensors");
    let output = bench.train("out", &config);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success()
            && stderr.contains("resumed at step 8 of 12")
            && stderr.contains("is damaged"),
        "{stderr}"
    );
    assert!(expected == bench.tensors("out", "adapter_model.safetensors"));
}

#[test]
fn a_full_disk_keeps_the_checkpoint_before() {
    let bench = bench();
    let mut config = config(&bench, "out");
    config["checkpoint"]["keep"] = json!(1000);
    config["hyperparameters"]["maxSteps"] = json!(100_000);
    let directory = bench.path("out-checkpoints");
    fs::create_dir(&directory).unwrap();
    let trainer = bench.trainer("out", &config);
    let arguments: Vec<_> = trainer.get_args().collect();
    // A disk of its own, in namespaces of its own; what is on it is listed before it goes.
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=400k tmpfs \"$0\" && \"$@\"; code=$?; ls -A \"$0\"; exit $code")
        .arg(&directory)
        .arg(trainer.get_program())
        .args(arguments)
        .output()
        .unwrap();
    let (listed, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert_eq!(bench.report("out")["failure"]["reason"], "OutOfDisk", "{said}");
    assert!(
        listed.contains("step-00000003") && !listed.contains(".writing"),
        "{listed}"
    );
}
