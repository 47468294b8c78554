//! Named tensors as safetensors, written in one pass with their SHA-256.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

/// F32 tensors by name, in an order that does not change.
pub(super) type Tensors = Vec<(String, Tensor)>;

/// What a file held when it was written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Sealed {
    /// Bytes.
    size: u64,
    /// Hexadecimal.
    sha256: String,
}

/// Hashes what passes through.
struct Sealing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Writes and syncs a file through `fill`.
fn sealed(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Sealed> {
    let mut out = Sealing {
        inner: BufWriter::with_capacity(1 << 20, File::create(path)?),
        hash: Sha256::new(),
        size: 0,
    };
    fill(&mut out)?;
    out.flush()?;
    out.inner.get_ref().sync_all()?;
    Ok(Sealed {
        size: out.size,
        sha256: hex(&out.hash.finalize()),
    })
}

/// Writes bytes.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<Sealed> {
    sealed(path, |out| out.write_all(bytes))
}

/// Writes tensors; one at a time is held twice in memory.
pub(super) fn write(path: &Path, tensors: &Tensors) -> io::Result<Sealed> {
    sealed(path, |out| write_to(out, tensors))
}

/// Tensors as safetensors bytes.
pub(super) fn to_bytes(tensors: &Tensors) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_to(&mut bytes, tensors)?;
    Ok(bytes)
}

fn write_to(out: &mut dyn Write, tensors: &Tensors) -> io::Result<()> {
    let mut header = Map::new();
    let mut offset = 0;
    for (name, tensor) in tensors {
        let end = offset + 4 * tensor.elem_count();
        header.insert(
            name.clone(),
            json!({ "dtype": "F32", "shape": tensor.dims(), "data_offsets": [offset, end] }),
        );
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    // The format asks for data aligned to eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, tensor) in tensors {
        out.write_all(&numbers_to_bytes(tensor)?)?;
    }
    Ok(())
}

/// The numbers of an F32 tensor, little-endian, row by row.
pub(super) fn numbers_to_bytes(tensor: &Tensor) -> io::Result<Vec<u8>> {
    let numbers = tensor
        .flatten_all()
        .and_then(|flat| flat.to_vec1::<f32>())
        .map_err(io::Error::other)?;
    Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// The inverse of [`numbers_to_bytes`].
pub(super) fn numbers_from_bytes(bytes: &[u8]) -> Vec<f32> {
    let (fours, _) = bytes.as_chunks::<4>();
    fours.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

/// Reads a file and holds it against what it was when written.
pub(super) fn read_sealed(path: &Path, sealed: &Sealed) -> Result<Vec<u8>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    if bytes.len() as u64 != sealed.size {
        return Err(format!("{} bytes instead of {}", bytes.len(), sealed.size));
    }
    if hex(&Sha256::digest(&bytes)) != sealed.sha256 {
        return Err("another SHA-256 than when it was written".into());
    }
    Ok(bytes)
}

/// Reads F32 tensors, sorted by name as safetensors lists them.
pub(super) fn parse(bytes: &[u8]) -> Result<Tensors, String> {
    let views = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    views
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            if view.dtype() != safetensors::Dtype::F32 {
                return Err(format!("{name} is {:?}, not F32", view.dtype()));
            }
            let numbers = numbers_from_bytes(view.data());
            let tensor =
                Tensor::from_vec(numbers, view.shape(), &Device::Cpu).map_err(|error| error.to_string())?;
            Ok((name, tensor))
        })
        .collect()
}
