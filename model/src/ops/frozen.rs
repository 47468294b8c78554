//! Product with a weight that is not trained.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// [n, k] · [k, m], with a gradient for the left side only.
pub(super) struct FrozenMatmul;

fn product<S: BackendStorage>(s1: &S, l1: &Layout, s2: &S, l2: &Layout) -> Result<(S, Shape)> {
    let (n, k) = l1.shape().dims2()?;
    let (_, m) = l2.shape().dims2()?;
    let storage = s1.matmul(s2, (1, n, m, k), l1, l2)?;
    Ok((storage, Shape::from((n, m))))
}

impl CustomOp2 for FrozenMatmul {
    fn name(&self) -> &'static str {
        "frozen-matmul"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        product(s1, l1, s2, l2)
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        product(s1, l1, s2, l2)
    }

    fn bwd(
        &self,
        _x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.matmul(&weight.detach().t()?)?), None))
    }
}
