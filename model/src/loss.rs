//! Cross-entropy over large vocabularies without holding all scores.

use candle_core::{D, DType, Tensor};

use crate::ModelError;

/// Rows of scores held at once: 256 by a vocabulary of 49,152 in F32 is 50 MB.
const CHUNK: usize = 256;

/// Sum of −log softmax(h·Wᵀ)[target] over rows: `hidden` [N, H], `weight` [V, H], `targets` [N] of u32. Gives a scalar in F32.
///
/// Where gradients are asked for they are computed along with the loss, chunk by chunk, since scores are not kept. A graph of
/// one product each carries them: the gradient of Σ h∘g with respect to h is g.
pub(crate) fn cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
) -> Result<Tensor, ModelError> {
    let rows = hidden.dim(0)?;
    let (states, frozen) = (hidden.detach(), weight.detach());
    let (for_hidden, for_weight) = (hidden.track_op(), weight.is_variable());
    let mut total = Tensor::zeros((), DType::F32, hidden.device())?;
    let mut hidden_gradients = Vec::new();
    let mut weight_gradient: Option<Tensor> = None;
    for start in (0..rows).step_by(CHUNK) {
        let size = CHUNK.min(rows - start);
        let chunk = states.narrow(0, start, size)?.contiguous()?;
        let targets = targets.narrow(0, start, size)?.contiguous()?.unsqueeze(1)?;
        let scores = chunk.matmul(&frozen.t()?)?.to_dtype(DType::F32)?;
        let shifted = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?;
        let exponentials = shifted.exp()?;
        let sums = exponentials.sum_keepdim(D::Minus1)?;
        let losses = (sums.log()? - shifted.gather(&targets, 1)?)?;
        total = (total + losses.sum_all()?)?;
        if !for_hidden && !for_weight {
            continue;
        }
        // d loss / d scores = softmax − one-hot of the target.
        let ones = Tensor::ones((size, 1), DType::F32, hidden.device())?.neg()?;
        let gradient = exponentials
            .broadcast_div(&sums)?
            .scatter_add(&targets, &ones, 1)?
            .to_dtype(states.dtype())?;
        if for_hidden {
            hidden_gradients.push(gradient.matmul(&frozen)?);
        }
        if for_weight {
            let part = gradient.t()?.matmul(&chunk)?;
            weight_gradient = Some(match weight_gradient {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
    }
    let mut carriers = Vec::new();
    if !hidden_gradients.is_empty() {
        let gradient = Tensor::cat(&hidden_gradients, 0)?;
        carriers.push((hidden * gradient)?.sum_all()?.to_dtype(DType::F32)?);
    }
    if let Some(gradient) = weight_gradient {
        carriers.push((weight * gradient)?.sum_all()?.to_dtype(DType::F32)?);
    }
    // Each carrier minus its own value is exactly zero.
    for carrier in carriers {
        total = (total + (&carrier - carrier.detach())?)?;
    }
    Ok(total)
}
