//! The operator's command line: flags, lease, endpoints, and the controllers under them.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::{Args, Parser, Subcommand};
use futures::FutureExt;
use kube::Client;
use kube_lease_manager::LeaseManagerBuilder;
use slipway_operator::{
    context::Context,
    controllers, crd, lineage,
    settings::Settings,
    telemetry::{self, Health, Metrics},
};
use tokio::sync::watch;

/// Slipway's operator: fine-tunes models, measures them, and serves them behind a traffic split.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 stopped as told, 1 failed (the log says why), 2 wrong flags."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the controllers.
    Run(Box<Run>),
    /// Writes the CRDs as YAML, one file a kind.
    Crds {
        /// The folder to write to.
        #[arg(default_value = "crds")]
        folder: PathBuf,
    },
    /// Shows what a pod or an object comes from: revision, model, job, base, data, evaluations.
    Lineage(lineage::Lineage),
}

#[derive(Args, Debug)]
struct Run {
    /// Hub of objects whose spec.hub.endpoint names none.
    #[arg(long, env = "SLIPWAY_HUB_ENDPOINT", default_value = "https://huggingface.co")]
    hub_endpoint: String,
    /// Image of training and evaluation pods.
    #[arg(long, env = "SLIPWAY_TRAINER_IMAGE", default_value = concat!("slipway.dev/slipway-trainer:", env!("CARGO_PKG_VERSION")))]
    trainer_image: String,
    /// Image of servers and routers.
    #[arg(long, env = "SLIPWAY_SERVER_IMAGE", default_value = concat!("slipway.dev/slipway-server:", env!("CARGO_PKG_VERSION")))]
    server_image: String,
    /// When nodes pull those images: Always, IfNotPresent or Never.
    #[arg(long, env = "SLIPWAY_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: String,
    /// Looks at this namespace only. Default: all.
    #[arg(long, env = "SLIPWAY_NAMESPACE")]
    namespace: Option<String>,
    /// Namespace of the Lease that makes one of several operators the leader.
    #[arg(long, env = "SLIPWAY_LEADER_ELECTION_NAMESPACE", default_value = "default")]
    leader_election_namespace: String,
    /// Name of that Lease.
    #[arg(long, default_value = "slipway-operator")]
    lease: String,
    /// Name of this process in Lease and events. Default: HOSTNAME, else a random one.
    #[arg(long, env = "HOSTNAME")]
    identity: Option<String>,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "SLIPWAY_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// What is logged, in the form of RUST_LOG.
    #[arg(long, env = "SLIPWAY_LOG", default_value = "info")]
    log: String,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the filter given to --log is wrong; write it like info,slipway_operator=debug")]
    Log(#[source] tracing_subscriber::filter::ParseError),
    #[error("failed to find or reach the cluster; set KUBECONFIG, or run inside a cluster")]
    Cluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("failed to listen on {address}; choose another address with --listen")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "failed to hold the lease {name}; check that the service account may get, create and patch leases"
    )]
    Lease {
        name: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("lost the lease {0} to another operator; ending so that only one writes")]
    Deposed(String),
    #[error("failed to set up an HTTP client")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("failed to watch for signals")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Crds(#[from] crd::CrdError),
    #[error(transparent)]
    Lineage(#[from] lineage::Error),
}

fn main() -> std::process::ExitCode {
    let outcome = match Cli::parse().command {
        Command::Crds { folder } => crd::write(&folder)
            .map(|paths| paths.iter().for_each(|path| println!("{}", path.display())))
            .map_err(Error::from),
        Command::Run(run) => block_on(start(*run)),
        Command::Lineage(asked) => block_on(lineage::print(&asked)).map_err(Error::from),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slipway-operator: {}", slipway_operator::runner::chain(&error));
            std::process::ExitCode::FAILURE
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads can be started")
        .block_on(work)
}

async fn start(run: Run) -> Result<(), Error> {
    telemetry::init_logs(&run.log).map_err(Error::Log)?;
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let listener = tokio::net::TcpListener::bind(run.listen)
        .await
        .map_err(|source| Error::Listen {
            address: run.listen,
            source,
        })?;
    let health = Health {
        metrics: metrics.clone(),
        ready: ready.clone(),
    };
    // Probes are answered until the process ends, also while it drains.
    tokio::spawn(async move { axum::serve(listener, telemetry::router(health)).await });

    let client = Client::try_default()
        .await
        .map_err(|error| Error::Cluster(error.into()))?;
    let version = client
        .apiserver_version()
        .await
        .map_err(|error| Error::Cluster(error.into()))?;
    tracing::info!(version = %version.git_version, "reached the apiserver");
    ready.store(true, Ordering::Relaxed);

    let (stop, stopped) = watch::channel(false);
    tokio::spawn(stop_on_signal(stop, ready.clone())?);
    lead(run, client, metrics, stopped).await
}

/// A task that tells `stop` when SIGTERM or SIGINT arrives.
fn stop_on_signal(
    stop: watch::Sender<bool>,
    ready: Arc<AtomicBool>,
) -> Result<impl Future<Output = ()> + Send, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop; finishing what is under way");
        ready.store(false, Ordering::Relaxed);
        // Kept open: a closed channel would read as a signal that never came.
        stop.send_replace(true);
        stop.closed().await;
    })
}

/// Resolves when `flag` is `wanted`, or when nobody can turn it any more.
async fn turned(mut flag: watch::Receiver<bool>, wanted: bool) {
    drop(flag.wait_for(|on| *on == wanted).await);
}

/// Waits for the lease, runs the controllers while it is held, and gives it back.
async fn lead(
    run: Run,
    client: Client,
    metrics: Arc<Metrics>,
    stopped: watch::Receiver<bool>,
) -> Result<(), Error> {
    let lease_name = format!("{}/{}", run.leader_election_namespace, run.lease);
    let lease_error = |source: Box<dyn std::error::Error + Send + Sync>| Error::Lease {
        name: lease_name.clone(),
        source,
    };
    let settings = Settings {
        hub_endpoint: run.hub_endpoint,
        trainer_image: run.trainer_image,
        server_image: run.server_image,
        image_pull_policy: run.image_pull_policy,
        namespace: run.namespace,
    };
    let mut builder = LeaseManagerBuilder::new(client.clone(), &run.lease)
        .with_namespace(&run.leader_election_namespace)
        .with_duration(15)
        .with_grace(5);
    if let Some(identity) = &run.identity {
        // Two processes of one host must not take themselves for one another.
        builder = builder.with_identity(format!("{identity}-{}", std::process::id()));
    }
    let manager = builder.build().await.map_err(|error| lease_error(error.into()))?;
    let (held, holder) = manager.watch().await;

    tracing::info!(lease = %lease_name, "waiting for the lease");
    let shutdown = turned(stopped, true).shared();
    let stopped_before = tokio::select! {
        () = turned(held.clone(), true) => false,
        () = shutdown.clone() => true,
    };
    if stopped_before || !*held.borrow() {
        drop(held);
        let ended = holder.await;
        return match ended {
            Ok(Err(error)) if !stopped_before => Err(lease_error(error.into())),
            _ => Ok(()),
        };
    }
    tracing::info!(lease = %lease_name, "leading");
    metrics.lead(true);
    let context = Context::new(client, settings, metrics.clone(), run.identity)
        .map_err(|error| Error::Http(error.into()))?;
    let running = controllers::run(Arc::new(context), shutdown.clone());
    let outcome = tokio::select! {
        () = running => Ok(()),
        () = turned(held.clone(), false) => Err(Error::Deposed(lease_name.clone())),
    };
    metrics.lead(false);
    // Closing the channel makes the manager give the lease back, so that the next leader need not wait.
    drop(held);
    drop(holder.await);
    outcome
}
