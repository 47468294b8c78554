//! What a run computes on, as its card names it.

use std::fs;
use std::path::Path;

/// Processor and accelerator of one worker.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hardware {
    /// Model of the processor, or its architecture where the system does not tell.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Model of the GPU, when it computed.
    pub gpu: Option<String>,
}

impl Hardware {
    /// This machine; `gpu`: whether the first NVIDIA GPU computes, and not the processor.
    pub fn here(gpu: bool) -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| model_name(&text));
        Self {
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            gpu: gpu.then(|| {
                first_gpu(Path::new("/proc/driver/nvidia/gpus")).unwrap_or_else(|| "NVIDIA GPU".to_owned())
            }),
        }
    }

    /// `1 × NVIDIA H200, on AMD EPYC 9654, 16 cores`.
    pub fn describe(&self, workers: u32) -> String {
        let processor = format!(
            "{}, {} {}",
            self.processor,
            self.cores,
            if self.cores == 1 { "core" } else { "cores" }
        );
        let each = match &self.gpu {
            Some(gpu) => format!("1 × {gpu}, on {processor}"),
            None => processor,
        };
        if workers > 1 {
            format!("{workers} workers, each with {each}")
        } else {
            each
        }
    }
}

/// The first `model name` of `/proc/cpuinfo`; ARM does not have one.
fn model_name(text: &str) -> Option<String> {
    field(text, "model name")
}

/// The `Model` that the driver names for the GPU with the lowest bus address, which CUDA counts from by default.
fn first_gpu(directory: &Path) -> Option<String> {
    let mut gpus: Vec<_> = fs::read_dir(directory)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    gpus.sort();
    let text = fs::read_to_string(gpus.first()?.join("information")).ok()?;
    field(&text, "Model")
}

fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.split_whitespace().collect::<Vec<_>>().join(" "))
    })?;
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_from_what_linux_and_the_driver_say() {
        let cpuinfo = "processor\t: 0\nvendor_id\t: x\nmodel name\t: AMD EPYC  9654 96-Core Processor\nmodel name\t: other\n";
        assert_eq!(
            model_name(cpuinfo).as_deref(),
            Some("AMD EPYC 9654 96-Core Processor")
        );
        assert_eq!(model_name("processor: 0\nmodel name\t:\n"), None);
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(first_gpu(directory.path()), None);
        for (bus, model) in [("0000:81:00.0", "NVIDIA B"), ("0000:18:00.0", "NVIDIA A")] {
            let gpu = directory.path().join(bus);
            fs::create_dir(&gpu).unwrap();
            fs::write(gpu.join("information"), format!("Model: \t\t {model}\nIRQ: 5\n")).unwrap();
        }
        assert_eq!(first_gpu(directory.path()).as_deref(), Some("NVIDIA A"));
    }

    #[test]
    fn workers_and_gpus_are_named() {
        let mut hardware = Hardware {
            processor: "AMD EPYC 9654".into(),
            cores: 1,
            gpu: None,
        };
        assert_eq!(hardware.describe(1), "AMD EPYC 9654, 1 core");
        hardware.cores = 16;
        hardware.gpu = Some("NVIDIA H200".into());
        assert_eq!(
            hardware.describe(2),
            "2 workers, each with 1 × NVIDIA H200, on AMD EPYC 9654, 16 cores"
        );
    }

    #[test]
    fn this_machine_has_a_processor_and_cores() {
        let here = Hardware::here(false);
        assert!(
            !here.processor.is_empty() && here.cores > 0 && here.gpu.is_none(),
            "{here:?}"
        );
    }
}
