//! Confidence intervals.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use slipway_contract::ConfidenceInterval;

/// Resamples of a bootstrap.
pub const DRAWS: usize = 1000;
/// Every bootstrap draws the same examples, so that repeating a run repeats its intervals.
const SEED: u64 = 0x0051_11b0_07ed;

/// Wilson's score interval of `right` out of `all`, two-sided at `confidence`.
pub fn wilson(right: u64, all: u64, confidence: f64) -> ConfidenceInterval {
    let (n, p) = (all as f64, right as f64 / all as f64);
    let z = normal_quantile(0.5 + confidence / 2.0);
    let scale = 1.0 + z * z / n;
    let middle = (p + z * z / (2.0 * n)) / scale;
    let half = z / scale * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    // At 0 and at all the ends are exact; rounding must not push them past.
    ConfidenceInterval {
        low: if right == 0 { 0.0 } else { (middle - half).max(0.0) },
        high: if right == all {
            1.0
        } else {
            (middle + half).min(1.0)
        },
    }
}

/// The percentile bootstrap of several figures at once over `examples` examples: each of [`DRAWS`] times as many are drawn
/// with replacement, and `figures` computes from their indices. Figures computed together are paired. A figure is NaN for
/// a draw in which it has no value; such draws do not count, and where they are most there is no interval.
pub fn bootstrap(
    examples: usize,
    confidence: f64,
    figures: impl Fn(&[u32]) -> Vec<f64> + Sync,
) -> Vec<Option<ConfidenceInterval>> {
    let draws: Vec<Vec<f64>> = (0..DRAWS)
        .into_par_iter()
        .map(|draw| {
            // A stream a draw: the result does not depend on how many threads there are.
            let mut random = ChaCha8Rng::seed_from_u64(SEED);
            random.set_stream(draw as u64);
            let indices: Vec<u32> = (0..examples)
                .map(|_| ((u128::from(random.next_u64()) * examples as u128) >> 64) as u32)
                .collect();
            figures(&indices)
        })
        .collect();
    let count = draws.first().map_or(0, Vec::len);
    (0..count)
        .map(|figure| {
            let mut values: Vec<f64> = draws
                .iter()
                .map(|draw| draw[figure])
                .filter(|value| !value.is_nan())
                .collect();
            values.sort_by(f64::total_cmp);
            let tail = (1.0 - confidence) / 2.0;
            (2 * values.len() > DRAWS).then(|| ConfidenceInterval {
                low: percentile(&values, tail),
                high: percentile(&values, 1.0 - tail),
            })
        })
        .collect()
}

/// The quantile of sorted values, linear between neighbours as `numpy.quantile`.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, rest) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + rest * (sorted[above] - sorted[below])
}

/// The inverse of the normal distribution function, for 0 < `p` < 1: Wichura's algorithm AS 241 (PPND16), which is
/// exact to about 16 digits.
pub fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 8] = [
        3.387_132_872_796_366_5,
        1.331_416_678_917_843_8e2,
        1.971_590_950_306_551_3e3,
        1.373_169_376_550_946e4,
        4.592_195_393_154_987e4,
        6.726_577_092_700_87e4,
        3.343_057_558_358_813e4,
        2.509_080_928_730_122_7e3,
    ];
    const B: [f64; 8] = [
        1.0,
        4.231_333_070_160_091e1,
        6.871_870_074_920_579e2,
        5.394_196_021_424_751e3,
        2.121_379_430_158_659_7e4,
        3.930_789_580_009_271e4,
        2.872_908_573_572_194_3e4,
        5.226_495_278_852_854e3,
    ];
    const C: [f64; 8] = [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        2.417_807_251_774_506e-1,
        2.272_384_498_926_918_4e-2,
        7.745_450_142_783_414e-4,
    ];
    const D: [f64; 8] = [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        6.897_673_349_851e-1,
        1.481_039_764_274_800_8e-1,
        1.519_866_656_361_645_7e-2,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ];
    const E: [f64; 8] = [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        2.965_605_718_285_048_7e-1,
        2.653_218_952_657_612_4e-2,
        1.242_660_947_388_078_4e-3,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ];
    const F: [f64; 8] = [
        1.0,
        5.998_322_065_558_88e-1,
        1.369_298_809_227_358e-1,
        1.487_536_129_085_061_5e-2,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ];
    let fraction = |above: &[f64; 8], below: &[f64; 8], x: f64| {
        let horner = |terms: &[f64; 8]| terms.iter().rev().fold(0.0, |sum, term| sum * x + term);
        horner(above) / horner(below)
    };
    let centre = p - 0.5;
    if centre.abs() <= 0.425 {
        return centre * fraction(&A, &B, 0.180_625 - centre * centre);
    }
    let tail = (-p.min(1.0 - p).ln()).sqrt();
    let magnitude = if tail <= 5.0 {
        fraction(&C, &D, tail - 1.6)
    } else {
        fraction(&E, &F, tail - 5.0)
    };
    magnitude.copysign(centre)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: scipy.stats.norm.ppf.
    #[test]
    fn normal_quantiles_are_those_of_scipy() {
        for (p, expected) in [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.95, 1.644_853_626_951_472_2),
            (0.995, 2.575_829_303_548_900_4),
            (0.01, -2.326_347_874_040_840_8),
            (1e-15, -7.941_345_326_170_998),
        ] {
            assert!(
                (normal_quantile(p) - expected).abs() < 1e-9,
                "{p}: {}",
                normal_quantile(p)
            );
        }
    }

    // Expected values: scipy.stats.binomtest(8, 10).proportion_ci(0.95, "wilson").
    #[test]
    fn wilsons_interval_is_that_of_scipy() {
        let found = wilson(8, 10, 0.95);
        assert!((found.low - 0.490_162_471_536_641_9).abs() < 1e-9, "{found:?}");
        assert!((found.high - 0.943_317_848_545_624_7).abs() < 1e-9, "{found:?}");
        let (none, all) = (wilson(0, 5, 0.95), wilson(5, 5, 0.95));
        assert_eq!((none.low, all.high), (0.0, 1.0));
        assert!(none.high < 0.5 && all.low > 0.5);
    }

    #[test]
    fn a_bootstrap_of_a_mean_agrees_with_theory_and_repeats_itself() {
        let values: Vec<f64> = (0..400).map(|n| f64::from(n % 2)).collect();
        let mean = |indices: &[u32]| {
            let sum: f64 = indices.iter().map(|&index| values[index as usize]).sum();
            vec![sum / indices.len() as f64, 1.0]
        };
        let found = bootstrap(values.len(), 0.95, mean);
        let (of_mean, of_one) = (found[0].unwrap(), found[1].unwrap());
        let theory = 1.96 * 0.5 / 20.0;
        assert!((of_mean.low - (0.5 - theory)).abs() < 0.01 && (of_mean.high - (0.5 + theory)).abs() < 0.01);
        assert_eq!((of_one.low, of_one.high), (1.0, 1.0));
        assert_eq!(found, bootstrap(values.len(), 0.95, mean));
    }

    #[test]
    fn draws_without_a_value_do_not_count_until_they_are_most() {
        let unless = |first: fn(u32) -> bool| {
            bootstrap(10, 0.9, |indices| {
                vec![if first(indices[0]) {
                    f64::NAN
                } else {
                    f64::from(indices[0])
                }]
            })[0]
        };
        assert!(unless(|index| index < 3).unwrap().low >= 3.0);
        assert_eq!(unless(|index| index < 8), None);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let found = (percentile(&[1.0, 2.0, 4.0], 0.75), percentile(&[7.0], 0.1));
        assert_eq!(found, (3.0, 7.0));
    }
}
