//! The answers of a real Prometheus server, as an analysis reads them.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use slipway_operator::model_deployment::prometheus::{Answer, answer};

struct Server {
    child: Child,
    address: String,
    folder: PathBuf,
}

impl Server {
    /// A server of its own on loopback, or `None` (said aloud) where none is installed and none is required.
    async fn start() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("slipway-prometheus-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("prometheus.yml"), "scrape_configs: []\n").unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let spawned = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                folder.join("prometheus.yml").display()
            ))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = spawned else {
            assert!(
                std::env::var_os("SLIPWAY_REQUIRE_CLUSTER").is_none(),
                "prometheus is not installed: apt-get install prometheus"
            );
            eprintln!("SKIPPED: install prometheus to run this test");
            return None;
        };
        let server = Self {
            child,
            address: format!("http://127.0.0.1:{port}"),
            folder,
        };
        let http = reqwest::Client::new();
        let ready = async {
            while !http
                .get(format!("{}/-/ready", server.address))
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), ready).await.unwrap();
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[tokio::test]
async fn a_server_is_asked_and_understood() {
    let Some(server) = Server::start().await else {
        return;
    };
    let http = reqwest::Client::new();
    let ask = async |query: &str| answer(&http, &server.address, query).await;
    for (query, value) in [
        ("0.25", 0.25),
        ("vector(3) * 2", 6.0),
        ("count(prometheus_build_info) or vector(0)", 0.0),
    ] {
        assert_eq!(ask(query).await, Answer::Value(value), "{query}");
    }
    for (query, words) in [
        ("nothing_of_this_name", "no series"),
        ("vector(0) / 0", "NaN"),
        (
            r#"vector(1) or label_replace(vector(2), "a", "b", "", "")"#,
            "2 series",
        ),
        ("up[5m]", "no single number"),
        (r#""text""#, "no single number"),
        ("rate(", "refuses the query"),
    ] {
        match ask(query).await {
            Answer::Unusable(why) => assert!(why.contains(words), "{query}: {why}"),
            other => panic!("{query}: {other:?}"),
        }
    }
    let path = format!("{}/somewhere", server.address);
    let elsewhere = answer(&http, &path, "1").await;
    assert!(
        matches!(&elsewhere, Answer::Unreachable(why) if why.contains("check the address")),
        "{elsewhere:?}"
    );
    let nobody = answer(&http, "http://127.0.0.1:9", "1").await;
    assert!(
        matches!(&nobody, Answer::Unreachable(why) if why.contains("refused")),
        "{nobody:?}"
    );
}
