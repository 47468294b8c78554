//! Checksums as the Hub counts them: SHA-256 for large files, git's blob id for the others.

use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;

use crate::tree::Digest;

/// A checksum in the making.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    /// A hasher of the same kind as `digest`, for content of `size` bytes (git hashes the size first).
    pub(crate) fn like(digest: &Digest, size: u64) -> Self {
        match digest {
            Digest::Sha256(_) => Self::sha256(),
            Digest::GitBlob(_) => Self::git_blob(size),
        }
    }

    pub(crate) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    pub(crate) fn git_blob(size: u64) -> Self {
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {size}\0"));
        Self::GitBlob(hasher)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::GitBlob(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn hex(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::GitBlob(hasher) => hex(&hasher.finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// Feeds a file to `hasher` in pieces, `limit` bytes at most; returns how many it were.
pub(crate) async fn feed_file(hasher: &mut Hasher, path: &Path, limit: u64) -> std::io::Result<u64> {
    let mut file = tokio::fs::File::open(path).await?.take(limit);
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok(total);
        }
        hasher.update(&buffer[..read]);
        total += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blob_id_is_gits() {
        let mut hasher = Hasher::git_blob(6);
        hasher.update(b"hello\n");
        // `echo hello | git hash-object --stdin`
        assert_eq!(hasher.hex(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
