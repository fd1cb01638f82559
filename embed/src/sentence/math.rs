//! The elementwise parts of a transformer on plain slices, written so that the compiler vectorises them.
//!
//! Formula: softmax p = exp(a x + b - max) / sum; layer norm y = g (x - mean) / sqrt(var + eps) + c; gelu(x) = x (1 + erf(x/sqrt 2)) / 2.
//! Source: the definitions; exp by 2^n with a Taylor polynomial of degree 7 on |r| <= ln2/2, erf by a rational fit of degree 13/8 of ours
//! (weighted least squares, |error| < 4e-8 before rounding). Deviation: f32 throughout; measured error of erf below 4e-7, of exp
//! below 2e-7 relative. Sums run over 16 fixed lanes in fixed order, so that equal input gives equal bits.
//! Cost: about 2 ns an element for gelu and softmax without AVX.
#![expect(clippy::excessive_precision, clippy::unreadable_literal, reason = "fitted constants, as printed by the fit")]

const LANES: usize = 16;

/// exp(x) for x <= 0; inputs below -87 give about 1e-38.
fn exp_negative(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693359375) - n * -2.12194440e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * scale
}

fn erf(x: f32) -> f32 {
    const LIMIT: f32 = 3.92;
    let x = if x < LIMIT { x } else { LIMIT };
    let x = if x > -LIMIT { x } else { -LIMIT };
    let u = x * x;
    let p = 1.9921433391800747e-08 * u - 1.994304057006957e-06;
    let p = p * u + 0.00014898755762260407;
    let p = p * u + 0.003972920123487711;
    let p = p * u + 0.05139736086130142;
    let p = p * u + 0.20611484348773956;
    let p = p * u + 1.1283787488937378;
    let q = 0.0010241311974823475 * u + 0.014889271929860115;
    let q = q * u + 0.11756481975317001;
    let q = q * u + 0.5159932971000671;
    let q = q * u + 1.0;
    x * p / q
}

/// Activation between the two feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    Gelu,
    /// The tanh form.
    GeluTanh,
    Relu,
}

/// `row = activation(row + bias)`.
pub(super) fn bias_activation(row: &mut [f32], bias: &[f32], activation: Activation) {
    let each = row.iter_mut().zip(bias);
    match activation {
        Activation::Gelu => each.for_each(|(x, b)| *x = gelu(*x + b)),
        Activation::GeluTanh => each.for_each(|(x, b)| *x = gelu_tanh(*x + b)),
        Activation::Relu => each.for_each(|(x, b)| *x = if *x + b > 0.0 { *x + b } else { 0.0 }),
    }
}

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

fn gelu_tanh(x: f32) -> f32 {
    let y = 0.7978845608 * (x + 0.044715 * x * x * x);
    // tanh by exp of a number <= 0, so that nothing overflows.
    let e = exp_negative(-2.0 * y.abs());
    0.5 * x * (1.0 + ((1.0 - e) / (1.0 + e)).copysign(y))
}

/// `row = row + bias`.
pub(super) fn add(row: &mut [f32], bias: &[f32]) {
    row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
}

/// Sum over fixed lanes in fixed order of `f(x)`.
fn lane_sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (blocks, tail) = row.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, x)| *lane += f(*x));
    }
    lanes.iter().sum::<f32>() + tail.iter().map(|x| f(*x)).sum::<f32>()
}

fn lane_max(row: &[f32]) -> f32 {
    let (blocks, tail) = row.as_chunks::<LANES>();
    let mut lanes = [f32::MIN; LANES];
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, x)| *lane = if *x > *lane { *x } else { *lane });
    }
    lanes.iter().chain(tail).fold(f32::MIN, |max, x| max.max(*x))
}

/// `row = softmax(scale * row)` in place.
pub(super) fn softmax(row: &mut [f32], scale: f32) {
    let max = lane_max(row);
    for x in row.iter_mut() {
        *x = exp_negative(scale * (*x - max));
    }
    let inverse = 1.0 / lane_sum(row, |x| x);
    for x in row.iter_mut() {
        *x *= inverse;
    }
}

/// Gain, shift and epsilon of a layer norm.
pub(super) struct Norm<'a> {
    pub(super) gain: &'a [f32],
    pub(super) shift: &'a [f32],
    pub(super) eps: f32,
}

impl Norm<'_> {
    /// Normalise one row in place.
    #[expect(clippy::cast_precision_loss, reason = "widths are small")]
    pub(super) fn apply(&self, row: &mut [f32]) {
        let inverse_n = 1.0 / row.len() as f32;
        let mean = lane_sum(row, |x| x) * inverse_n;
        let variance = lane_sum(row, |x| (x - mean) * (x - mean)) * inverse_n;
        let scale = 1.0 / (variance + self.eps).sqrt();
        for ((x, gain), shift) in row.iter_mut().zip(self.gain).zip(self.shift) {
            *x = (*x - mean) * scale * gain + shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_erf_stay_within_their_bounds() {
        for i in 0u16..60_000 {
            let x = -0.001_45 * f32::from(i);
            let expected = f64::from(x).exp();
            assert!((f64::from(exp_negative(x)) / expected - 1.0).abs() < 2e-7, "exp({x})");
        }
        assert!(exp_negative(-1000.0) < 1e-37 && exp_negative(f32::NEG_INFINITY) < 1e-37);
        // erf from its Taylor series in f64, which converges well up to 4.
        for i in -400i16..=400 {
            let short = f32::from(i) / 100.0;
            let x = f64::from(short);
            let (mut term, mut sum) = (x, x);
            for n in 1..120 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            let expected = sum * 2.0 / std::f64::consts::PI.sqrt();
            assert!((f64::from(erf(short)) - expected).abs() < 5e-7, "erf({x})");
        }
    }

    #[test]
    fn activations_by_hand() {
        let of = |activation, x: f32| {
            let mut row = [x];
            bias_activation(&mut row, &[0.5], activation);
            row[0]
        };
        assert!((of(Activation::Gelu, 0.5) - 0.841_344_75).abs() < 1e-6);
        assert!((of(Activation::GeluTanh, 0.5) - 0.841_192).abs() < 1e-6);
        assert!((of(Activation::GeluTanh, -1.5) + 0.158_808).abs() < 1e-6);
        assert_eq!((of(Activation::Relu, -1.0), of(Activation::Relu, 1.0)), (0.0, 1.5));
    }

    #[test]
    fn softmax_and_norm_by_hand() {
        let mut row = [0.0, 2.0 * 3f32.ln(), 0.0];
        softmax(&mut row, 0.5);
        assert!(row.iter().zip([0.2, 0.6, 0.2]).all(|(a, b)| (a - b).abs() < 1e-6), "{row:?}");
        let mut row = [1.0, 3.0];
        Norm { gain: &[2.0, 2.0], shift: &[0.0, 1.0], eps: 0.0 }.apply(&mut row);
        assert!((row[0] + 2.0).abs() < 1e-6 && (row[1] - 3.0).abs() < 1e-6, "{row:?}");
    }
}
