//! A linear layer with adapters beside it.

use candle_core::{DType, Tensor};

use crate::ModelError;
use crate::adapter::Adapter;
use crate::ops;
use crate::param::{Loader, Param};
use crate::pass::{Pass, Selection};

/// y = x·Wᵀ + b, plus what an adapter adds.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub weight: Param,
    pub bias: Option<Param>,
    /// Index among the network's linear layers, by which an adapter knows it.
    pub site: usize,
}

impl Linear {
    /// Reads `name.weight` [outputs, inputs] and, with `bias`, `name.bias`.
    pub fn load(
        loader: &mut Loader,
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self, ModelError> {
        let weight = loader.param(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = bias
            .then(|| loader.param(&format!("{name}.bias"), &[outputs]))
            .transpose()?;
        Ok(Self::number(loader, weight, bias))
    }

    /// As [`Self::load`] for a part of a head, which may be drawn instead.
    pub fn load_head(
        loader: &mut Loader,
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self, ModelError> {
        let weight = loader.head_param(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = bias
            .then(|| loader.head_param(&format!("{name}.bias"), &[outputs]))
            .transpose()?;
        Ok(Self::number(loader, weight, bias))
    }

    fn number(loader: &mut Loader, weight: Param, bias: Option<Param>) -> Self {
        let site = loader.linears;
        loader.linears += 1;
        Self { weight, bias, site }
    }

    /// Name of the module, without `.weight`.
    pub fn name(&self) -> &str {
        self.weight
            .name
            .strip_suffix(".weight")
            .unwrap_or(&self.weight.name)
    }

    /// [outputs, inputs].
    pub fn dims(&self) -> (usize, usize) {
        let dims = self.weight.tensor.dims();
        (dims[0], dims[1])
    }

    /// [.., inputs] to [.., outputs]; for grouped adapters the leading dimensions are those of the pass's tokens.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, ModelError> {
        let bias = self.bias.as_ref().map(|bias| bias.get(pass));
        let y = ops::linear(x, &self.weight.get(pass), bias.as_ref())?;
        match &pass.selection {
            Selection::Base => Ok(y),
            Selection::All(adapter) => match self.delta(x, adapter, pass)? {
                Some(delta) => Ok((y + delta)?),
                None => Ok(y),
            },
            Selection::Groups(groups) => {
                let shape = y.shape().clone();
                let (outputs, inputs) = self.dims();
                let flat = x.reshape(((), inputs))?;
                let mut y = y.reshape(((), outputs))?;
                for group in groups {
                    if group.adapter.lora(self.site).is_none() {
                        continue;
                    }
                    let rows = flat.index_select(&group.tokens, 0)?;
                    if let Some(delta) = self.delta(&rows, group.adapter, pass)? {
                        y = y.index_add(&group.tokens, &delta, 0)?;
                    }
                }
                Ok(y.reshape(shape)?)
            }
        }
    }

    /// scale · B(A(dropout(x))), in the adapter's own number type.
    fn delta(&self, x: &Tensor, adapter: &Adapter, pass: &Pass) -> Result<Option<Tensor>, ModelError> {
        let Some(lora) = adapter.lora(self.site) else {
            return Ok(None);
        };
        let (a, b) = (lora.a.get(pass), lora.b.get(pass));
        let wide = x.to_dtype(a.dtype())?;
        let dropped = pass.drop(&wide, adapter.dropout, self.site as u64)?;
        let inner = (ops::linear(&dropped, &a, None)? * lora.scale)?;
        Ok(Some(ops::linear(&inner, &b, None)?.to_dtype(x.dtype())?))
    }

    /// Adds an adapter's update to the weight.
    pub fn merge(&mut self, adapter: &Adapter) -> Result<(), ModelError> {
        if let Some(lora) = adapter.lora(self.site) {
            let update = (lora.b.tensor.detach().matmul(&lora.a.tensor.detach())? * lora.scale)?;
            let merged =
                (self.weight.tensor.detach().to_dtype(DType::F32)? + update.to_dtype(DType::F32)?)?;
            self.weight.tensor = merged.to_dtype(self.weight.tensor.dtype())?;
        }
        Ok(())
    }

    /// Visits the weights in a fixed order.
    pub fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Param)) {
        visit(&self.weight);
        if let Some(bias) = &self.bias {
            visit(bias);
        }
    }

    /// Visits the weights in the order of [`Self::visit`].
    pub fn visit_mut(
        &mut self,
        visit: &mut dyn FnMut(&mut Param) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        visit(&mut self.weight)?;
        self.bias.as_mut().map_or(Ok(()), visit)
    }
}
