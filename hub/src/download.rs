//! One file from any address.

use std::path::{Path, PathBuf};

use reqwest::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use tokio::io::AsyncWriteExt;
use url::Url;

use crate::digest::Hasher;
use crate::transport::{Call, describe};
use crate::tree::write_atomically;
use crate::{Client, Error, SnapshotProgress};

impl Client {
    /// The file at `url`, in `<cache>/urls/<hash>/<name>`. One that is there is asked for again only if the
    /// server says that it changed. The token goes along only where the address is the Hub's own.
    pub(crate) async fn download(
        &self,
        url: &str,
        cache: &Path,
        mut progress: impl FnMut(SnapshotProgress) + Send,
    ) -> Result<PathBuf, Error> {
        let parsed = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| Error::InvalidUrl { url: url.to_owned() })?;
        let name = file_name(&parsed);
        let folder = cache.join("urls").join(short_hash(url));
        let (target, tag) = (folder.join(&name), folder.join("etag"));
        let action = format!("send {name}");
        let mut call = Call::get(url.to_owned(), action);
        let known = tokio::fs::read(&tag)
            .await
            .ok()
            .and_then(|tag| HeaderValue::from_bytes(&tag).ok());
        if let Some(known) = known
            && target.exists()
        {
            call = call.header(IF_NONE_MATCH, known);
        }
        let mut patience = self.transport.patience(&call);
        let beside = folder.join(format!("{name}.{:016x}", rand::random::<u64>()));
        loop {
            let response = self.transport.open(&call, &mut patience).await?;
            match response.status().as_u16() {
                304 => return Ok(target),
                200 => {}
                404 | 410 => {
                    return Err(Error::UrlNotFound {
                        url: without_query(&parsed),
                        status: response.status().as_u16(),
                    });
                }
                status => {
                    return Err(Error::Rejected {
                        endpoint: without_query(&parsed),
                        action: call.action,
                        status,
                        message: "it did not send the file".into(),
                    });
                }
            }
            let new_tag = response.headers().get(ETAG).cloned();
            tokio::fs::create_dir_all(&folder)
                .await
                .map_err(|error| Error::io("create", &folder, error))?;
            match receive(response, &beside, &name, &mut progress).await {
                Ok(()) => {}
                Err(Broken::Connection(message)) => {
                    patience.failed(message).await?;
                    continue;
                }
                Err(Broken::Disk(error)) => {
                    tokio::fs::remove_file(&beside).await.ok();
                    return Err(Error::io("write", &target, error));
                }
            }
            tokio::fs::rename(&beside, &target)
                .await
                .map_err(|error| Error::io("write", &target, error))?;
            match new_tag {
                Some(value) => write_atomically(&tag, value.as_bytes()).await?,
                None => drop(tokio::fs::remove_file(&tag).await),
            }
            return Ok(target);
        }
    }
}

enum Broken {
    Connection(String),
    Disk(std::io::Error),
}

async fn receive(
    mut response: reqwest::Response,
    path: &Path,
    name: &str,
    progress: &mut (impl FnMut(SnapshotProgress) + Send),
) -> Result<(), Broken> {
    let total = response.content_length().unwrap_or(0);
    let mut file = tokio::fs::File::create(path).await.map_err(Broken::Disk)?;
    let mut done = 0;
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                file.write_all(&chunk).await.map_err(Broken::Disk)?;
                done += chunk.len() as u64;
                progress(SnapshotProgress {
                    file: name.to_owned(),
                    files_done: 0,
                    files_total: 1,
                    bytes_done: done,
                    bytes_total: total.max(done),
                });
            }
            Ok(None) => return file.flush().await.map_err(Broken::Disk),
            Err(error) => return Err(Broken::Connection(describe(&error))),
        }
    }
}

/// The last segment of the path: the reader of the data tells the format from its ending.
fn file_name(url: &Url) -> String {
    let last = url
        .path_segments()
        .and_then(|mut parts| parts.next_back())
        .unwrap_or_default();
    let safe: String = last
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
        .take(120)
        .collect();
    let safe = safe.trim_start_matches('.');
    if safe.is_empty() {
        "data".into()
    } else {
        safe.to_owned()
    }
}

/// The address without what may be a signature.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_username("").ok();
    url.set_password(None).ok();
    url.into()
}

fn short_hash(text: &str) -> String {
    let mut hasher = Hasher::git_blob(text.len() as u64);
    hasher.update(text.as_bytes());
    hasher.hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_keep_their_ending_and_nothing_that_leads_elsewhere() {
        let name = |text: &str| file_name(&Url::parse(text).unwrap());
        assert_eq!(name("https://h/data/train.csv?sig=abc"), "train.csv");
        assert_eq!(name("https://h/a%2fetc"), "a2fetc");
        assert_eq!(name("https://h/"), "data");
        assert_eq!(name("https://h/..a"), "a");
    }

    #[test]
    fn signatures_and_passwords_stay_out_of_messages() {
        let url = Url::parse("https://me:pw@h/x.csv?sig=abc").unwrap();
        assert_eq!(without_query(&url), "https://h/x.csv");
    }
}
