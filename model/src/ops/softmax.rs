//! Softmax over rows.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::kernels::{rows, slice, sum, with_slice};

pub(super) struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let width = layout.dims().last().copied().unwrap_or(1);
        let y = rows(x.len(), width, |row, out| {
            let x = &x[row * width..][..width];
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (out, x) in out.iter_mut().zip(x) {
                *out = (x - max).exp();
            }
            let scale = 1.0 / sum(out, |index| out[index]);
            for out in out {
                *out *= scale;
            }
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let width = y.dims().last().copied().unwrap_or(1);
        // dx = y · (dy − Σ dy·y)
        let dx = with_slice(y, |y| {
            with_slice(gradient, |dy| {
                Ok(rows(y.len(), width, |row, out| {
                    let y = &y[row * width..][..width];
                    let dy = &dy[row * width..][..width];
                    let dot = sum(y, |index| y[index] * dy[index]);
                    for (index, out) in out.iter_mut().enumerate() {
                        *out = y[index] * (dy[index] - dot);
                    }
                }))
            })
        })?;
        Ok(Some(Tensor::from_vec(dx, y.shape(), y.device())?))
    }
}
