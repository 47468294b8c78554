//! The client: where the Hub is, who asks, and the calls that read about repositories.

use std::fmt;

use slipway_contract::HubAccess;

use crate::{Error, RepoId, RepoInfo, Token};

/// Who a token belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// User or organisation name.
    pub name: String,
    /// The organisations it is a member of.
    pub organizations: Vec<String>,
}

/// A connection pool to one Hub. Cheap to clone.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// A client of the Hub at `endpoint`, for instance `https://huggingface.co`.
    pub fn new(_endpoint: &str, _token: Option<Token>) -> Result<Self, Error> {
        todo!()
    }

    /// A client as configured: the endpoint, else `HF_ENDPOINT`, else `https://huggingface.co`; the token file,
    /// else `HF_TOKEN`, else anonymous.
    pub fn from_access(_access: &HubAccess) -> Result<Self, Error> {
        todo!()
    }

    /// The Hub's address, without a trailing slash.
    pub fn endpoint(&self) -> &str {
        todo!()
    }

    /// Where a person sees the repository.
    pub fn url(&self, _repo: &RepoId) -> String {
        todo!()
    }

    /// What `revision` (a branch, tag, commit or `refs/pr/N`) of `repo` stands for now.
    #[allow(clippy::unused_async)]
    pub async fn resolve(&self, _repo: &RepoId, _revision: &str) -> Result<RepoInfo, Error> {
        todo!()
    }

    /// Whom the token belongs to.
    #[allow(clippy::unused_async)]
    pub async fn whoami(&self) -> Result<Identity, Error> {
        todo!()
    }

    /// Creates `repo`; one that is there already is left as it is. True when it was created now.
    #[allow(clippy::unused_async)]
    pub async fn create_repo(&self, _repo: &RepoId, _private: bool) -> Result<bool, Error> {
        todo!()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
