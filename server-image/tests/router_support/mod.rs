//! A router as a process, and servers behind it.

mod backend;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_contract::{RevisionStats, RouterStats};

pub use backend::Backend;

/// A table with one arm "a", revision "r1" on `stable`, and a canary of it, revision "r2".
pub fn canary_table(stable: &Backend, canary: &Backend, percent: u32, mirror_percent: u32) -> Value {
    json!({"variants": [{
        "name": "a", "weight": 1, "url": stable.url(), "revision": "r1",
        "canary": {
            "url": canary.url(), "revision": "r2", "percent": percent, "mirrorPercent": mirror_percent,
        },
    }]})
}

/// `table`, as a new version of it.
pub fn version(mut table: Value, version: &str) -> Value {
    table["version"] = version.into();
    table
}

/// A running router; killed when dropped.
#[derive(Debug)]
pub struct Router {
    child: Child,
    pub url: String,
    pub metrics: String,
    table: PathBuf,
    folder: tempfile::TempDir,
    generation: usize,
    pub client: reqwest::Client,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Router {
    pub async fn start(table: &Value) -> Self {
        Self::start_with(table, &[]).await
    }

    pub async fn start_with(table: &Value, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listen, metrics) = (free_port(), free_port());
        let path = folder.path().join("routes.yaml");
        let mut router = Self {
            child: Command::new("true").spawn().unwrap(),
            url: format!("http://127.0.0.1:{listen}"),
            metrics: format!("http://127.0.0.1:{metrics}"),
            table: path.clone(),
            folder,
            generation: 0,
            client: reqwest::Client::new(),
        };
        router.child.wait().unwrap();
        router.write(&table.to_string());
        router.child = Command::new(env!("CARGO_BIN_EXE_slipway-router"))
            .arg("--routes")
            .arg(&path)
            .args(["--listen", &format!("127.0.0.1:{listen}")])
            .args(["--metrics-listen", &format!("127.0.0.1:{metrics}")])
            .args(["--shutdown-delay-seconds", "1", "--drain-seconds", "20"])
            .args(arguments)
            .stderr(Stdio::inherit())
            .env("RUST_LOG", "warn")
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !router.is_ready().await {
            assert!(Instant::now() < deadline, "the router did not become ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        router
    }

    pub async fn is_ready(&self) -> bool {
        let response = self.client.get(format!("{}/readyz", self.metrics)).send().await;
        response.is_ok_and(|response| response.status().is_success())
    }

    /// Puts a new table in place as a ConfigMap volume does: a folder of its own, and a symbolic link swapped.
    pub fn write(&mut self, text: &str) {
        self.generation += 1;
        let folder = self.folder.path().join(format!("..{}", self.generation));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("routes.yaml"), text).unwrap();
        let link = self.folder.path().join("..data");
        let beside = self.folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(&folder, &beside).unwrap();
        std::fs::rename(&beside, &link).unwrap();
        if !self.table.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data/routes.yaml"), &self.table).unwrap();
        }
    }

    /// Puts a table with a version of its own in place and waits until it is in force.
    pub async fn apply(&mut self, table: &Value) {
        self.write(&table.to_string());
        eventually("the table is in force", async || {
            self.stats().await.version == table["version"]
        })
        .await;
    }

    pub async fn stats(&self) -> RouterStats {
        let response = reqwest::get(format!("{}/stats", self.metrics)).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    /// What `/stats` says of a revision of the arm "a".
    pub async fn revision(&self, revision: &str) -> RevisionStats {
        let stats = self.stats().await;
        let mut series = stats.series.into_iter();
        series
            .find(|series| (series.variant.as_str(), series.revision.as_str()) == ("a", revision))
            .unwrap()
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    /// The arm that answers a request with `header`.
    pub async fn arm(&self, header: (&str, &str)) -> String {
        let request = self
            .client
            .get(format!("{}/", self.url))
            .header(header.0, header.1);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let arm = response.headers()["x-slipway-variant"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(response.text().await.unwrap(), arm);
        arm
    }

    /// The revision that answers a request for `/` with `headers`.
    pub async fn answers(&self, headers: &[(&str, &str)]) -> String {
        let mut request = self.client.get(&self.url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let revision = response.headers()["x-slipway-revision"]
            .to_str()
            .unwrap()
            .to_owned();
        response.bytes().await.unwrap();
        revision
    }

    /// The value of a sample line of `/metrics`.
    pub async fn sample(&self, line: &str) -> Option<f64> {
        let text = reqwest::get(format!("{}/metrics", self.metrics))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let found = text
            .lines()
            .find_map(|known| known.strip_prefix(line)?.strip_prefix(' '));
        found.map(|value| value.parse().unwrap())
    }

    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end; its exit code.
    pub async fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the router did not end");
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a router that is to fail at once.
pub fn fail(routes: &Path) -> Output {
    let command = &mut Command::new(env!("CARGO_BIN_EXE_slipway-router"));
    command
        .arg("--routes")
        .arg(routes)
        .args(["--listen", "127.0.0.1:0"])
        .output()
        .unwrap()
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(8);
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Six standard deviations of a binomial count.
pub fn bound(n: usize, p: f64) -> f64 {
    6.0 * (n as f64 * p * (1.0 - p)).sqrt()
}
