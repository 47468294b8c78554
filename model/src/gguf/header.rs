//! The header of a GGUF file: metadata and where each tensor lies.
//!
//! Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. A GGUF file comes from strangers, so
//! every length is held against the bytes that are left before anything is allocated for it.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use candle_core::quantized::GgmlDType;

/// Alignment of the tensor data where `general.alignment` names no other, in bytes.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Most dimensions a tensor has (`GGML_MAX_DIMS`).
const MAX_DIMENSIONS: u32 = 4;

/// Most elements of one metadata array; the largest vocabularies have 2^18.
const MAX_ELEMENTS: usize = 1 << 22;

/// A metadata value. Integers are widened: writers disagree about widths.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    /// The shortest decimal that reads back as the stored number: 1e-5 and not 0.0000099999997.
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
}

/// Where a tensor lies and what it holds.
#[derive(Clone, Debug)]
pub(super) struct TensorInfo {
    /// Outermost dimension first, as in PyTorch.
    pub shape: Vec<usize>,
    pub dtype: GgmlDType,
    /// From the start of the file, in bytes.
    pub offset: u64,
    pub bytes: usize,
}

/// Metadata and tensors of one file.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// What is wrong with the file, and at which byte.
pub(super) type Damage = String;

struct Reader<R> {
    inner: R,
    position: u64,
    length: u64,
}

impl<R: Read> Reader<R> {
    fn fixed<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Damage> {
        let mut buffer = [0; N];
        self.inner
            .read_exact(&mut buffer)
            .map_err(|_| format!("it ends at byte {} inside {what}", self.length))?;
        self.position += N as u64;
        Ok(buffer)
    }

    fn u32(&mut self, what: &str) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.fixed(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.fixed(what)?))
    }

    /// Reads a count of things that take at least `smallest` bytes each.
    fn count(&mut self, what: &str, smallest: u64) -> Result<usize, Damage> {
        let at = self.position;
        let count = self.u64(what)?;
        let left = self.length - self.position;
        if count.saturating_mul(smallest) > left {
            return Err(format!(
                "{what} at byte {at} is {count}, more than the {left} bytes after it can hold"
            ));
        }
        Ok(count as usize)
    }

    fn text(&mut self, what: &str) -> Result<String, Damage> {
        let length = self.count(&format!("the length of {what}"), 1)?;
        let at = self.position;
        let mut bytes = vec![0; length];
        self.inner
            .read_exact(&mut bytes)
            .map_err(|_| format!("it ends at byte {} inside {what}", self.length))?;
        self.position += length as u64;
        String::from_utf8(bytes).map_err(|_| format!("{what} at byte {at} is not UTF-8"))
    }

    fn value(&mut self, key: &str) -> Result<Value, Damage> {
        let kind = self.u32(key)?;
        if kind == 9 {
            let kind = self.u32(key)?;
            return self.array(kind, key);
        }
        self.scalar(kind, key)
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value, Damage> {
        Ok(match kind {
            0 => Value::Unsigned(u64::from(self.fixed::<1>(key)?[0])),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.fixed(key)?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.fixed(key)?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.fixed(key)?))),
            4 => Value::Unsigned(u64::from(self.u32(key)?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.fixed(key)?))),
            6 => Value::Float(shortest(f32::from_le_bytes(self.fixed(key)?))),
            7 => match self.fixed::<1>(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => {
                    return Err(format!(
                        "{key} is the truth value {other}, which is neither 0 nor 1"
                    ));
                }
            },
            8 => Value::Text(self.text(key)?),
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.fixed(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.fixed(key)?)),
            other => {
                return Err(format!(
                    "{key} has the value type {other}, which GGUF does not have"
                ));
            }
        })
    }

    fn array(&mut self, kind: u32, key: &str) -> Result<Value, Damage> {
        let smallest = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(format!("{key} is an array of arrays, which no known model has")),
            other => {
                return Err(format!(
                    "{key} has the value type {other}, which GGUF does not have"
                ));
            }
        };
        let count = self.count(&format!("the length of the array {key}"), smallest)?;
        if count > MAX_ELEMENTS {
            return Err(format!(
                "the array {key} has {count} elements; at most {MAX_ELEMENTS} are read"
            ));
        }
        (0..count)
            .map(|_| self.scalar(kind, key))
            .collect::<Result<_, _>>()
            .map(Value::List)
    }
}

fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

impl Header {
    /// Reads the header of a file of `length` bytes, and proves that each tensor lies inside the file.
    pub fn read(mut file: impl Read + Seek) -> Result<Self, Damage> {
        let length = file
            .seek(SeekFrom::End(0))
            .and_then(|length| file.rewind().map(|()| length))
            .map_err(|error| format!("its length cannot be told: {error}"))?;
        let mut reader = Reader {
            inner: std::io::BufReader::with_capacity(1 << 20, file),
            position: 0,
            length,
        };
        if reader.fixed::<4>("the first four bytes")? != *b"GGUF" {
            return Err("its first four bytes are not GGUF".into());
        }
        match reader.u32("the version")? {
            2 | 3 => {}
            version if version.swap_bytes() == 3 => {
                return Err("it is a big-endian GGUF file; convert it to little-endian".into());
            }
            version => {
                return Err(format!(
                    "it has GGUF version {version}; versions 2 and 3 are read"
                ));
            }
        }
        // The smallest tensor entry: name length, dimensions, type, offset. The smallest pair: key length,
        // type, one byte.
        let tensors = reader.count("the number of tensors", 8 + 4 + 4 + 8)?;
        let pairs = reader.count("the number of metadata entries", 8 + 4 + 1)?;
        let mut metadata = BTreeMap::new();
        for index in 0..pairs {
            let key = reader.text(&format!("the key of metadata entry {index}"))?;
            let value = reader.value(&key)?;
            metadata.insert(key, value);
        }
        let mut entries = BTreeMap::new();
        for index in 0..tensors {
            let (name, info) = tensor_entry(&mut reader, index)?;
            entries.insert(name, info);
        }
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Unsigned(value)) if (1..=1 << 20).contains(value) => *value,
            Some(other) => {
                return Err(format!(
                    "general.alignment is {other:?}, not a number from 1 to 1048576"
                ));
            }
        };
        let start = reader.position.div_ceil(alignment) * alignment;
        for (name, info) in &mut entries {
            info.offset = info.offset.saturating_add(start);
            let end = info.offset.saturating_add(info.bytes as u64);
            if end > length {
                return Err(format!(
                    "tensor {name} ends at byte {end}, but the file has {length} bytes: it is cut short"
                ));
            }
        }
        Ok(Self {
            metadata,
            tensors: entries,
        })
    }
}

/// Reads one tensor's entry; its offset still counts from the start of the tensor data.
fn tensor_entry<R: Read>(reader: &mut Reader<R>, index: usize) -> Result<(String, TensorInfo), Damage> {
    let name = reader.text(&format!("the name of tensor {index}"))?;
    let dimensions = reader.u32(&name)?;
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(format!(
            "tensor {name} has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}"
        ));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(reader.u64(&name)? as usize);
    }
    shape.reverse();
    let kind = reader.u32(&name)?;
    let dtype = quantization(kind).ok_or_else(|| {
        format!("tensor {name} has the quantization type {kind}; F32, F16, BF16, Q4_0 to Q8_0 and the K types are read")
    })?;
    let offset = reader.u64(&name)?;
    let elements = shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .filter(|&count| count > 0)
        .ok_or_else(|| format!("tensor {name} has the impossible shape {shape:?}"))?;
    let row = shape.last().copied().unwrap_or(0);
    if !row.is_multiple_of(dtype.block_size()) {
        return Err(format!(
            "tensor {name} has rows of {row} elements, which {dtype:?} cannot store: its blocks hold {}",
            dtype.block_size()
        ));
    }
    let bytes = (elements / dtype.block_size())
        .checked_mul(dtype.type_size())
        .ok_or_else(|| format!("tensor {name} has the impossible shape {shape:?}"))?;
    Ok((
        name,
        TensorInfo {
            shape,
            dtype,
            offset,
            bytes,
        },
    ))
}

/// The number types of `ggml_type` that candle dequantizes.
fn quantization(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}
