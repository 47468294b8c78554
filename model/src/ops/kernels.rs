//! Access to F32 numbers on the CPU, and loops over rows shared among threads.

use candle_core::{CpuStorage, DType, Error, Layout, Result, Storage, Tensor};
use rayon::prelude::*;

/// The numbers of a contiguous F32 tensor's storage.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::RequiresContiguous { op: "row kernel" }.bt())?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Calls `f` with the numbers of a tensor on the CPU.
pub(super) fn with_slice<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => Err(Error::Msg("a CPU kernel met a tensor on another device".into())),
    }
}

/// Rows per task: about 16 K numbers, so that small tensors stay on one thread.
fn grain(width: usize) -> usize {
    (16_384 / width.max(1)).max(1)
}

/// Fills a new vector of `length` row by row: `f(row number, output row)`.
pub(super) fn rows(length: usize, width: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut output = vec![0f32; length];
    if width > 0 {
        let grain = grain(width);
        let task = |(block, out): (usize, &mut [f32])| {
            for (row, out) in out.chunks_mut(width).enumerate() {
                f(block * grain + row, out);
            }
        };
        if length <= grain * width {
            output.chunks_mut(grain * width).enumerate().for_each(task);
        } else {
            output.par_chunks_mut(grain * width).enumerate().for_each(task);
        }
    }
    output
}

/// Sum of a row in eight lanes, which vectorises and whose order does not depend on threads.
pub(super) fn sum(row: &[f32], f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; 8];
    let whole = row.len() / 8 * 8;
    for start in (0..whole).step_by(8) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += f(start + lane);
        }
    }
    let mut total: f32 = lanes.iter().sum();
    for index in whole..row.len() {
        total += f(index);
    }
    total
}
