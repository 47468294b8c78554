//! RMS and layer norms over rows.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::kernels::{rows, slice, sum, with_slice};

pub(super) struct RmsNorm {
    pub epsilon: f32,
}

impl RmsNorm {
    fn scale(&self, x: &[f32]) -> f32 {
        let mean = sum(x, |index| x[index] * x[index]) / x.len() as f32;
        1.0 / (mean + self.epsilon).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(s1, l1)?, slice(s2, l2)?);
        let width = weight.len();
        let y = rows(x.len(), width, |row, out| {
            let x = &x[row * width..][..width];
            let scale = self.scale(x);
            for (index, out) in out.iter_mut().enumerate() {
                *out = x[index] * scale * weight[index];
            }
        });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x, w) = (x.detach(), weight.detach());
        let width = w.elem_count();
        // With x̂ = x·s and ĝ = dy·w: dx = s·(ĝ − x̂·mean(ĝ·x̂)), dw = Σ dy·x̂.
        let (dx, normalised) = with_slice(&x, |x| {
            let dx = with_slice(&w, |w| {
                with_slice(gradient, |dy| {
                    Ok(rows(x.len(), width, |row, out| {
                        let x = &x[row * width..][..width];
                        let dy = &dy[row * width..][..width];
                        let scale = self.scale(x);
                        let dot = sum(x, |index| dy[index] * w[index] * x[index]) * scale / width as f32;
                        for (index, out) in out.iter_mut().enumerate() {
                            *out = scale * (dy[index] * w[index] - x[index] * scale * dot);
                        }
                    }))
                })
            })?;
            let normalised = weight.is_variable().then(|| {
                rows(x.len(), width, |row, out| {
                    let x = &x[row * width..][..width];
                    let scale = self.scale(x);
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = x * scale;
                    }
                })
            });
            Ok((dx, normalised))
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dw = normalised
            .map(|values| {
                column_sum(
                    &(Tensor::from_vec(values, x.shape(), x.device())? * gradient)?,
                    width,
                )
            })
            .transpose()?;
        Ok((Some(dx), dw))
    }
}

fn column_sum(x: &Tensor, width: usize) -> Result<Tensor> {
    x.reshape(((), width))?.sum(0)
}

pub(super) struct LayerNorm {
    pub epsilon: f32,
}

impl LayerNorm {
    /// Mean and 1/√(variance + ε).
    fn moments(&self, x: &[f32]) -> (f32, f32) {
        let count = x.len() as f32;
        let mean = sum(x, |index| x[index]) / count;
        let variance = sum(x, |index| (x[index] - mean) * (x[index] - mean)) / count;
        (mean, 1.0 / (variance + self.epsilon).sqrt())
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let width = weight.len();
        let y = rows(x.len(), width, |row, out| {
            let x = &x[row * width..][..width];
            let (mean, scale) = self.moments(x);
            for (index, out) in out.iter_mut().enumerate() {
                *out = (x[index] - mean) * scale * weight[index] + bias[index];
            }
        });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (x, w) = (x.detach(), weight.detach());
        let width = w.elem_count();
        // With x̂ the normalised row, s its scale and ĝ = dy·w: dx = s·(ĝ − mean(ĝ) − x̂·mean(ĝ·x̂)).
        let (dx, normalised) = with_slice(&x, |x| {
            let dx = with_slice(&w, |w| {
                with_slice(gradient, |dy| {
                    Ok(rows(x.len(), width, |row, out| {
                        let x = &x[row * width..][..width];
                        let dy = &dy[row * width..][..width];
                        let (mean, scale) = self.moments(x);
                        let count = width as f32;
                        let average = sum(x, |index| dy[index] * w[index]) / count;
                        let dot = sum(x, |index| dy[index] * w[index] * (x[index] - mean)) * scale / count;
                        for (index, out) in out.iter_mut().enumerate() {
                            *out = scale * (dy[index] * w[index] - average - (x[index] - mean) * scale * dot);
                        }
                    }))
                })
            })?;
            let normalised = weight.is_variable().then(|| {
                rows(x.len(), width, |row, out| {
                    let x = &x[row * width..][..width];
                    let (mean, scale) = self.moments(x);
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = (x - mean) * scale;
                    }
                })
            });
            Ok((dx, normalised))
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dw = normalised
            .map(|values| {
                column_sum(
                    &(Tensor::from_vec(values, x.shape(), x.device())? * gradient)?,
                    width,
                )
            })
            .transpose()?;
        let db = bias
            .is_variable()
            .then(|| column_sum(gradient, width))
            .transpose()?;
        Ok((Some(dx), dw, db))
    }
}
