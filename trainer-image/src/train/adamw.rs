//! AdamW with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), equal to `torch.optim.AdamW`.

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, Var};
use rayon::prelude::*;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Numbers a task works on at once: small enough for a core's cache, large enough to pay for the task.
const CHUNK: usize = 1 << 14;

/// One trained tensor with its moments, all of one shape, F32.
#[derive(Debug)]
pub(super) struct Parameter {
    /// Its PEFT or Hugging Face name.
    pub name: String,
    /// The weights.
    pub value: Var,
    /// Moving average of the gradient.
    pub first: Tensor,
    /// Moving average of the squared gradient.
    pub second: Tensor,
}

impl Parameter {
    /// A parameter that has seen no gradient.
    pub fn new(name: String, value: Var) -> Result<Self> {
        Ok(Self {
            name,
            first: value.zeros_like()?,
            second: value.zeros_like()?,
            value,
        })
    }

    /// Biases and the scales of norms, which have one dimension, are not decayed.
    fn decays(&self) -> bool {
        self.value.dims().len() > 1
    }

    /// One step. `gradient` is multiplied by `scale` first; `number` counts optimizer steps from 1.
    pub fn step(
        &mut self,
        gradient: &Tensor,
        scale: f64,
        rate: f64,
        weight_decay: f64,
        number: u64,
    ) -> Result<()> {
        let gradient = gradient.contiguous()?;
        let decay = if self.decays() {
            1.0 - rate * weight_decay
        } else {
            1.0
        };
        let power = i32::try_from(number).unwrap_or(i32::MAX);
        let correction1 = 1.0 - BETA1.powi(power);
        let correction2 = (1.0 - BETA2.powi(power)).sqrt();
        if self.value.device().is_cpu() {
            let average = |beta, squared| Average { beta, scale, squared };
            self.first
                .inplace_op3(&gradient, &gradient, &average(BETA1, false))?;
            self.second
                .inplace_op3(&gradient, &gradient, &average(BETA2, true))?;
            let update = Update {
                decay: decay as f32,
                rate: (rate / correction1) as f32,
                correction2: correction2 as f32,
            };
            return self.value.inplace_op3(&self.first, &self.second, &update);
        }
        let gradient = (gradient * scale)?;
        self.first = ((&self.first * BETA1)? + (&gradient * (1.0 - BETA1))?)?;
        self.second = ((&self.second * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
        let denominator = ((self.second.sqrt()? / correction2)? + EPSILON)?;
        let change = ((&self.first * (rate / correction1))? / denominator)?;
        self.value.set(&((self.value.as_tensor() * decay)? - change)?)
    }
}

/// `average = beta · average + (1 − beta) · g` with g the scaled gradient or its square.
struct Average {
    beta: f64,
    scale: f64,
    squared: bool,
}

/// `value = decay · value − rate · first / (√second / correction2 + ε)`.
struct Update {
    decay: f32,
    rate: f32,
    correction2: f32,
}

impl InplaceOp3 for Average {
    fn name(&self) -> &'static str {
        "adamw-average"
    }

    fn cpu_fwd(
        &self,
        average: &mut CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<()> {
        let average = numbers_mut(average, layout)?;
        let gradient = numbers(gradient, gradient_layout)?;
        let (beta, rest, scale) = (self.beta as f32, (1.0 - self.beta) as f32, self.scale as f32);
        average
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .for_each(|(average, gradient)| {
                for (average, gradient) in average.iter_mut().zip(gradient) {
                    let g = gradient * scale;
                    *average = beta * *average + rest * if self.squared { g * g } else { g };
                }
            });
        Ok(())
    }
}

impl InplaceOp3 for Update {
    fn name(&self) -> &'static str {
        "adamw-update"
    }

    fn cpu_fwd(
        &self,
        value: &mut CpuStorage,
        layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<()> {
        let value = numbers_mut(value, layout)?;
        let first = numbers(first, first_layout)?.par_chunks(CHUNK);
        let second = numbers(second, second_layout)?.par_chunks(CHUNK);
        let (decay, rate, correction2, epsilon) = (self.decay, self.rate, self.correction2, EPSILON as f32);
        value
            .par_chunks_mut(CHUNK)
            .zip(first)
            .zip(second)
            .for_each(|((value, first), second)| {
                for ((value, first), second) in value.iter_mut().zip(first).zip(second) {
                    *value = decay * *value - rate * first / (second.sqrt() / correction2 + epsilon);
                }
            });
        Ok(())
    }
}

fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(numbers), Some((start, end))) => Ok(&numbers[start..end]),
        _ => candle_core::bail!("AdamW needs contiguous F32 tensors"),
    }
}

fn numbers_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(numbers), Some((start, end))) => Ok(&mut numbers[start..end]),
        _ => candle_core::bail!("AdamW needs contiguous F32 tensors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    // Expected values: torch 2.15, torch.optim.AdamW([p], lr=0.1, weight_decay=0.01) on p = [[1, -2]] with the
    // gradients [[0.5, -1]], [[0.25, 2]], [[-1, 0]]; for the vector weight_decay=0.
    #[test]
    fn three_steps_are_those_of_torch() {
        let gradients = [[0.5f32, -1.0], [0.25, 2.0], [-1.0, 0.0]];
        let run = |shape: &[usize]| {
            let value = Var::from_vec(vec![1.0f32, -2.0], shape, &Device::Cpu).unwrap();
            let mut parameter = Parameter::new("p".into(), value).unwrap();
            for (gradient, number) in gradients.iter().zip(1..) {
                // Given twice as large and scaled by a half: what clipping and averaging do.
                let gradient =
                    Tensor::from_vec(gradient.map(|g| 2.0 * g).to_vec(), shape, &Device::Cpu).unwrap();
                parameter.step(&gradient, 0.5, 0.1, 0.01, number).unwrap();
            }
            parameter.value.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_close(&run(&[1, 2]), &[0.824_713_885_784_149_2, -1.959_079_623_222_351]);
        assert_close(&run(&[2]), &[0.827_417_790_889_74, -1.964_910_268_783_569_3]);
    }

    fn assert_close(found: &[f32], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-6,
                "{found} is not {expected}"
            );
        }
    }
}
