//! Rotary positions.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::kernels::{rows, slice};

/// x [B, T, heads, d], cos and sin [B, T, d/2].
pub(super) struct Rope;

impl CustomOp3 for Rope {
    fn name(&self) -> &'static str {
        "rope"
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
        let (_, _, heads, d) = l1.shape().dims4()?;
        let (x, cos, sin) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let half = d / 2;
        let width = heads * d;
        let y = rows(x.len(), width, |token, out| {
            let x = &x[token * width..][..width];
            let cos = &cos[token * half..][..half];
            let sin = &sin[token * half..][..half];
            for (out, x) in out.chunks_mut(d).zip(x.chunks(d)) {
                let (first, second) = x.split_at(half);
                let (out_first, out_second) = out.split_at_mut(half);
                for index in 0..half {
                    out_first[index] = first[index] * cos[index] - second[index] * sin[index];
                    out_second[index] = second[index] * cos[index] + first[index] * sin[index];
                }
            }
        });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        // A rotation's transpose is the rotation back.
        let back = gradient.contiguous()?.apply_op3_no_bwd(cos, &sin.neg()?, &Self)?;
        Ok((Some(back), None, None))
    }
}
