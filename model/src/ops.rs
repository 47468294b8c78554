//! The operations both network kinds are made of, in one place because candle's fused ones carry no gradient.
//!
//! On the CPU in F32 our own kernels serve both modes. Elsewhere a pass that needs gradients takes compositions of
//! differentiable operations, and one that does not takes candle's fused kernels.

pub(crate) mod composed;
mod frozen;
mod kernels;
mod norm;
mod rope;
mod softmax;

use candle_core::{DType, Result, Tensor};

/// Whether our own kernels can run on `x`.
fn on_cpu(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// x·Wᵀ + b over the last dimension: [.., in] and [out, in] to [.., out]. A weight that is no variable gets no gradient
/// computed, which saves a third of the backward pass.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let (outputs, inputs) = weight.dims2()?;
    let flat = x.reshape(((), inputs))?;
    let transposed = weight.t()?;
    let y = if weight.is_variable() || !x.track_op() {
        flat.matmul(&transposed)?
    } else {
        flat.apply_op2(&transposed, frozen::FrozenMatmul)?
    };
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    y.reshape(shape)
}

/// x / √(mean(x²) + ε) · w over the last dimension.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64, gradients: bool) -> Result<Tensor> {
    let x = x.contiguous()?;
    if on_cpu(&x) {
        x.apply_op2(
            weight,
            norm::RmsNorm {
                epsilon: epsilon as f32,
            },
        )
    } else if gradients {
        composed::rms_norm(&x, weight, epsilon)
    } else {
        candle_nn::ops::rms_norm(&x, weight, epsilon as f32)
    }
}

/// (x − mean(x)) / √(var(x) + ε) · w + b over the last dimension.
pub(crate) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
    gradients: bool,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    if on_cpu(&x) {
        x.apply_op3(
            weight,
            bias,
            norm::LayerNorm {
                epsilon: epsilon as f32,
            },
        )
    } else if gradients {
        composed::layer_norm(&x, weight, bias, epsilon)
    } else {
        candle_nn::ops::layer_norm(&x, weight, bias, epsilon as f32)
    }
}

/// Softmax over the last dimension. A row of −∞ alone has none: callers leave each row something to see.
pub(crate) fn softmax(x: &Tensor, gradients: bool) -> Result<Tensor> {
    let x = x.contiguous()?;
    if on_cpu(&x) {
        x.apply_op1(softmax::Softmax)
    } else if gradients {
        composed::softmax(&x)
    } else {
        candle_nn::ops::softmax_last_dim(&x)
    }
}

/// Rotary positions on [B, T, heads, d], halves rotated against each other as `transformers` does; `cos` and `sin` are
/// [B, T, d/2].
pub(crate) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    if on_cpu(&x) {
        x.apply_op3(cos, sin, rope::Rope)
    } else {
        composed::rope(&x, cos, sin)
    }
}

#[cfg(test)]
mod tests;
