//! The kernels against the same operations from differentiable parts: results and gradients.

use candle_core::{Device, Tensor, Var};

use super::{composed, layer_norm, rms_norm, rope, softmax};

fn var(shape: &[usize]) -> Var {
    Var::from_tensor(&Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()).unwrap()
}

fn same(inputs: &[&Var], ours: &Tensor, theirs: &Tensor) {
    let weights = Tensor::randn(0f32, 1.0, ours.shape(), &Device::Cpu).unwrap();
    let gradients = |y: &Tensor| (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let (left, right) = (gradients(ours), gradients(theirs));
    let close = |a: &Tensor, b: &Tensor| {
        let difference = (a - b)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap();
        let difference = difference.to_scalar::<f32>().unwrap();
        assert!(difference < 2e-4, "differ by {difference}");
    };
    close(ours, theirs);
    for input in inputs {
        close(left.get(input).unwrap(), right.get(input).unwrap());
    }
}

// 37 is no multiple of the eight lanes, and 900 rows are shared among threads.
#[test]
fn norms() {
    let (x, w, b) = (var(&[900, 37]), var(&[37]), var(&[37]));
    same(
        &[&x, &w],
        &rms_norm(&x, &w, 1e-5, true).unwrap(),
        &composed::rms_norm(&x, &w, 1e-5).unwrap(),
    );
    same(
        &[&x, &w, &b],
        &layer_norm(&x, &w, &b, 1e-5, true).unwrap(),
        &composed::layer_norm(&x, &w, &b, 1e-5).unwrap(),
    );
}

#[test]
fn softmax_with_masked_places() {
    let x = var(&[2, 3, 150, 37]);
    let mut mask = vec![0f32; 37];
    mask[5..20].fill(f32::NEG_INFINITY);
    let masked = x
        .broadcast_add(&Tensor::new(mask, &Device::Cpu).unwrap())
        .unwrap();
    same(
        &[&x],
        &softmax(&masked, true).unwrap(),
        &composed::softmax(&masked).unwrap(),
    );
}

#[test]
fn rotary_positions() {
    let x = var(&[2, 5, 3, 8]);
    let angles = Tensor::randn(0f32, 3.0, (2, 5, 4), &Device::Cpu).unwrap();
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    same(
        &[&x],
        &rope(&x, &cos, &sin).unwrap(),
        &composed::rope(&x, &cos, &sin).unwrap(),
    );
}

// What serves without gradients on other devices: candle's own.
#[test]
fn kernels_are_candles_fused_ones() {
    let (x, w, b) = (var(&[40, 37]), var(&[37]), var(&[37]));
    let close = |a: Tensor, b: Tensor| {
        let difference = (a - b)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-5);
    };
    close(
        rms_norm(&x, &w, 1e-5, false).unwrap(),
        candle_nn::ops::rms_norm(&x, &w, 1e-5).unwrap(),
    );
    close(
        layer_norm(&x, &w, &b, 1e-5, false).unwrap(),
        candle_nn::ops::layer_norm(&x, &w, &b, 1e-5).unwrap(),
    );
    close(
        softmax(&x, false).unwrap(),
        candle_nn::ops::softmax_last_dim(&x).unwrap(),
    );
}
