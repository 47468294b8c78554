//! Whether what a run would publish may be published: asked before it trains.

use slipway_contract::{Failure, FailureReason, Method, TrainConfig};
use slipway_hub::license::{License, may_publish};
use slipway_hub::source::{LocalModel, Pin};
use slipway_hub::{Client, RepoId, RepoType};

use super::local_license;
use crate::host::Host;

/// Refuses to publish whole weights that derive from a model whose licence does not permit it, or which is
/// gated, unless the configuration names that licence. An adapter holds none of the base's weights, and what
/// stays on this machine is not passed on: both are free.
pub fn check(config: &TrainConfig, model: &LocalModel, host: &Host, client: &Client) -> Result<(), Failure> {
    let whole = config.output.merge || matches!(config.method, Method::Full(_));
    if config.output.hub.is_none() || !whole {
        return Ok(());
    }
    let accepted = config.output.accept_license.as_deref();
    let mut parts = vec![(&model.base, &model.base_identity)];
    // An adapter to start from becomes part of the weights.
    parts.extend(model.adapter.iter().map(|adapter| (adapter, &model.identity)));
    for (path, identity) in parts {
        let folder = if path.is_file() {
            path.parent()
        } else {
            Some(path.as_path())
        };
        let (name, license, gated) = match identity {
            Some(pin) => (
                pin.repo.clone(),
                folder.map(local_license).unwrap_or_default(),
                is_gated(pin, host, client)?,
            ),
            // A single file of one's own stands beside anything.
            None if path.is_file() => (path.display().to_string(), License::default(), false),
            None => (path.display().to_string(), local_license(path), false),
        };
        may_publish(&name, &license, gated, accepted)
            .map_err(|message| Failure::new(FailureReason::LicenseNotAccepted, message))?;
    }
    Ok(())
}

fn is_gated(pin: &Pin, host: &Host, client: &Client) -> Result<bool, Failure> {
    let failure = |error: slipway_hub::Error| error.failure(RepoType::Model);
    let repo = RepoId::model(&pin.repo).map_err(failure)?;
    host.wait(async { Ok(client.resolve(&repo, &pin.commit).await.map_err(failure)?.gated) })
}
