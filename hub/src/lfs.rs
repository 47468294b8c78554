//! Large file storage: content goes there before the commit that names it by its SHA-256.

use std::collections::BTreeMap;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, ETAG, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{About, json_payload};
use crate::commit::Content;
use crate::transport::{Answer, Call, Payload};
use crate::{Client, Error, RepoId};

const LFS_JSON: &str = "application/vnd.git-lfs+json";
/// Objects that one batch request may name.
const BATCH: usize = 100;

/// A file on its way into large file storage.
pub(crate) struct LargeFile<'a> {
    pub path: &'a str,
    pub content: &'a Content,
    pub size: u64,
    pub sha256: String,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct ObjectError {
    message: String,
}

impl Client {
    /// Uploads those of `files` that the Hub does not hold yet.
    pub(crate) async fn upload(
        &self,
        repo: &RepoId,
        branch: &str,
        files: &[LargeFile<'_>],
    ) -> Result<(), Error> {
        for chunk in files.chunks(BATCH) {
            let objects: Vec<Value> = chunk
                .iter()
                .map(|file| json!({"oid": file.sha256, "size": file.size}))
                .collect();
            let body = json!({
                "operation": "upload",
                "transfers": ["basic", "multipart"],
                "objects": objects,
                "hash_algo": "sha256",
                "ref": {"name": branch},
            });
            let call = Call::post(
                format!("{}.git/info/lfs/objects/batch", self.url(repo)),
                Payload::Bytes(LFS_JSON, Bytes::from(body.to_string())),
                format!("take large files for the {repo}"),
            )
            .header(ACCEPT, HeaderValue::from_static(LFS_JSON));
            let answer = self.transport.ask(&call).await?;
            let answer = self.check(answer, &call, About::revision(repo, branch))?;
            let batch: Batch = self.parsed(&answer.body, &call)?;
            for file in chunk {
                let Some(object) = batch.objects.iter().find(|object| object.oid == file.sha256) else {
                    return Err(self.nonsense(&call, format!("it said nothing about {}", file.path)));
                };
                self.upload_one(repo, file, object, &call).await?;
            }
        }
        Ok(())
    }

    async fn upload_one(
        &self,
        repo: &RepoId,
        file: &LargeFile<'_>,
        object: &Object,
        batch: &Call,
    ) -> Result<(), Error> {
        if let Some(error) = &object.error {
            return Err(Error::Rejected {
                endpoint: self.endpoint().to_owned(),
                action: format!("take {} for the {repo}", file.path),
                status: 422,
                message: error.message.clone(),
            });
        }
        // Without actions the Hub has that content already.
        let Some(actions) = &object.actions else {
            return Ok(());
        };
        if let Some(upload) = &actions.upload {
            match upload.header.get("chunk_size") {
                Some(size) => {
                    let size = size
                        .as_u64()
                        .or_else(|| size.as_str()?.parse().ok())
                        .filter(|&size| size > 0);
                    let size = size.ok_or_else(|| {
                        self.nonsense(batch, "it gave a chunk size that is no number".into())
                    })?;
                    self.put_parts(repo, file, upload, size).await?;
                }
                None => self.put(repo, file, upload).await?,
            }
        }
        if let Some(verify) = &actions.verify {
            let body = json!({"oid": file.sha256, "size": file.size});
            let call = Call::post(
                verify.href.clone(),
                Payload::Bytes(LFS_JSON, Bytes::from(body.to_string())),
                format!("verify {} of the {repo}", file.path),
            );
            let answer = self.transport.ask(&call).await?;
            self.check(answer, &call, About::default())?;
        }
        Ok(())
    }

    async fn put(&self, repo: &RepoId, file: &LargeFile<'_>, action: &Action) -> Result<(), Error> {
        let mut call = Call::new(
            Method::PUT,
            action.href.clone(),
            part(file.content, 0, file.size),
            format!("take {} for the {repo}", file.path),
        );
        for (name, value) in &action.header {
            if let (Ok(name), Some(Ok(value))) = (
                HeaderName::try_from(name),
                value.as_str().map(HeaderValue::from_str),
            ) {
                call = call.header(name, value);
            }
        }
        self.storage(&call).await.map(drop)
    }

    /// The parts of a large object, each to an address of its own, then the list of their tags.
    async fn put_parts(
        &self,
        repo: &RepoId,
        file: &LargeFile<'_>,
        action: &Action,
        chunk: u64,
    ) -> Result<(), Error> {
        let mut addresses: Vec<(u32, &str)> = action
            .header
            .iter()
            .filter_map(|(name, address)| Some((name.parse().ok()?, address.as_str()?)))
            .collect();
        addresses.sort_unstable();
        let what = format!("take {} for the {repo}", file.path);
        let mut parts = Vec::with_capacity(addresses.len());
        let mut offset = 0;
        for (number, address) in addresses {
            let length = chunk.min(file.size - offset);
            let payload = part(file.content, offset, length);
            let call = Call::new(Method::PUT, address.to_owned(), payload, what.clone());
            let answer = self.storage(&call).await?;
            let tag = answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
            let tag = tag.ok_or_else(|| self.nonsense(&call, "a part came back without its ETag".into()))?;
            parts.push(json!({"partNumber": number, "etag": tag}));
            offset += length;
        }
        let body = json!({"oid": file.sha256, "parts": parts});
        let mut call = Call::post(action.href.clone(), json_payload(&body), what);
        if offset != file.size {
            return Err(self.nonsense(
                &call,
                "it gave too few addresses for the parts of the file".into(),
            ));
        }
        call.headers.insert(ACCEPT, HeaderValue::from_static(LFS_JSON));
        let answer = self.transport.ask(&call).await?;
        self.check(answer, &call, About::default()).map(drop)
    }

    /// Sends to an address that carries its own permission: the token stays here.
    async fn storage(&self, call: &Call) -> Result<Answer, Error> {
        let call = Call {
            authorized: false,
            ..call.clone()
        };
        let answer = self.transport.ask(&call).await?;
        self.check(answer, &call, About::default())
    }

    fn nonsense(&self, call: &Call, message: String) -> Error {
        Error::Protocol {
            endpoint: self.endpoint().to_owned(),
            action: call.action.clone(),
            message,
        }
    }
}

/// A stretch of content, in memory or streamed from its file.
fn part(content: &Content, offset: u64, length: u64) -> Payload {
    match content {
        Content::Bytes(bytes) => Payload::Bytes(
            "application/octet-stream",
            bytes.slice(offset as usize..(offset + length) as usize),
        ),
        Content::File(path) => Payload::File {
            path: path.clone(),
            offset,
            length,
        },
    }
}
