//! Fast named random streams, and exact normal, gamma and Beta variates from them.
//!
//! A stream is `SplitMix64` (Steele, Lea, Flood 2014) started at a hash of (key, row); the key comes from the context (seed,
//! label path), so that a row's draw depends on nothing else. Normal: ziggurat of 128 layers (Marsaglia and Tsang 2000 in
//! Doornik's form, position and layer from different bits). Gamma: Marsaglia and Tsang 2000. Beta: `x / (x + y)` of two gammas, in logarithms where a parameter is
//! below 1. Cost: two normals, two or three uniforms and a logarithm now and then for a Beta.
//!
//! Most Betas of shapes above 1 are accepted at the first try of both gammas, without a logarithm. [`Chance::betas`] makes that try for
//! many rows at once, and the others one by one from the start of their streams: the same bits as one by one.

#![allow(
    clippy::many_single_char_names,  // reason: names are those of the formulas
    clippy::needless_bitwise_bool    // reason: a branch would keep lanes from being worked at together
)]

use crate::nn::wide;
use std::sync::LazyLock;

/// Layers of the ziggurat.
pub(crate) const LAYERS: usize = 128;
/// Where the lowest layer's tail begins.
const TAIL: f64 = 3.442_619_855_899;
/// Area of a layer.
const AREA: f64 = 9.912_563_035_262_17e-3;

/// Step of a stream's state.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Odd, so that no two rows of a key start alike.
const STRIDE: u64 = 0xD134_2543_DE82_EF95;

/// Edges of the layers, and for each the part of its width that lies wholly under the curve.
struct Ziggurat {
    edge: [f64; LAYERS + 1],
    inner: [f64; LAYERS],
}

static ZIGGURAT: LazyLock<Ziggurat> = LazyLock::new(|| {
    let density = |x: f64| (-0.5 * x * x).exp();
    let mut edge = [0.0; LAYERS + 1];
    edge[0] = AREA / density(TAIL);
    edge[1] = TAIL;
    for i in 2..LAYERS {
        edge[i] = (-2.0 * (AREA / edge[i - 1] + density(edge[i - 1])).ln()).sqrt();
    }
    let mut inner = [0.0; LAYERS];
    for (i, part) in inner.iter_mut().enumerate() {
        *part = edge[i + 1] / edge[i];
    }
    Ziggurat { edge, inner }
});

/// Streams of one key.
#[derive(Clone, Copy)]
pub struct Chance {
    key: u64,
    ziggurat: &'static Ziggurat,
}

/// The stream of one row.
pub struct Stream {
    state: u64,
    ziggurat: &'static Ziggurat,
}

impl Chance {
    /// Streams under a key of 64 random bits.
    #[must_use]
    pub fn new(key: u64) -> Self {
        Self { key, ziggurat: &ZIGGURAT }
    }

    /// A draw from the law of every row, as [`Stream::beta`] gives it.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn betas(&self, rows: &[u64], laws: &[Beta], draws: &mut [f64]) {
        assert_eq!((rows.len(), laws.len()), (draws.len(), draws.len()), "a row, a law and a place for every draw");
        let mut tries = Tries { draws: [0.0; LANES], taken: [0; LANES] };
        let blocks = rows.chunks(LANES).zip(laws.chunks(LANES)).zip(draws.chunks_mut(LANES));
        for ((rows, laws), draws) in blocks {
            match (rows.as_array(), laws.as_array()) {
                (Some(rows), Some(laws)) => first_tries(self.key, self.ziggurat, rows, laws, &mut tries),
                _ => tries.taken = [0; LANES],
            }
            for (lane, ((draw, row), law)) in draws.iter_mut().zip(rows).zip(laws).enumerate() {
                *draw = if tries.taken[lane] == 1 { tries.draws[lane] } else { self.of(*row).beta(law) };
            }
        }
    }

    /// The stream of `row`.
    #[inline]
    #[must_use]
    pub const fn of(&self, row: u64) -> Stream {
        Stream { state: mix(self.key.wrapping_add(row.wrapping_mul(STRIDE))), ziggurat: self.ziggurat }
    }
}

/// Whether the exact test of a gamma is surely passed. Its right side is `h = d (9 z^2 / 2 + 1 - (1 + z)^3 + 3 ln(1 + z))`, that is
/// `-3 d (z^4 / 4 - z^5 / 5 + z^6 / 6 ...)`: for `z >= 0` at least its first three terms, for `z >= -4/5` at least five terms less
/// `5/3 |z|^5` for the rest (`3/9 |z|^5 / (1 - |z|)`). `u < 1 + h + h^2 / 2 + h^3 / 6 <= e^h` for `h <= 0` ends it.
#[inline(always)]
fn surely(z: f64, d: f64, u: f64) -> bool {
    let t = z.min(0.0);
    let below = 0.75 - t * (0.6 - t * (0.5 - t * (3.0 / 7.0 - t * (0.375 - t * (5.0 / 3.0)))));
    let above = 0.75 - z * (0.6 - z * 0.5);
    let square = z * z;
    let h = -d * square * square * if z < 0.0 { below } else { above };
    (z >= -0.8) & (u < 1.0 + h * (1.0 + h * (0.5 + h * (1.0 / 6.0))))
}

/// Edges and inner parts of the ziggurat's layers, for a device.
pub(crate) fn tables() -> Vec<f64> {
    [&ZIGGURAT.edge[..], &ZIGGURAT.inner].concat()
}

/// Rows whose first tries are made together.
const LANES: usize = 64;

/// What came of the first tries.
struct Tries {
    draws: [f64; LANES],
    /// 1 where both gammas were taken.
    taken: [u64; LANES],
}

wide! {
    /// What [`Stream::beta`] does when nothing is refused and no logarithm is needed.
    fn first_tries(key: u64, ziggurat: &Ziggurat, rows: &[u64; LANES], laws: &[Beta; LANES], tries: &mut Tries) {
        for lane in 0..LANES {
            let (start, law) = (mix(key.wrapping_add(rows[lane].wrapping_mul(STRIDE))), &laws[lane]);
            let [a, b] = law.shape;
            let (mut gamma, mut taken) = ([0.0; 2], (a >= 1.0) & (b >= 1.0));
            let flat = taken & (a + b <= 2.0);
            for (of, gamma) in gamma.iter_mut().enumerate() {
                let bits = mix(start.wrapping_add(GOLDEN.wrapping_mul(2 * of as u64 + 1)));
                let uniform = open(mix(start.wrapping_add(GOLDEN.wrapping_mul(2 * of as u64 + 2))));
                let layer = (bits % LAYERS as u64) as usize;
                let u = 2.0 * open(bits) - 1.0;
                let (d, z) = (law.shape[of] - 1.0 / 3.0, law.width[of] * (u * ziggurat.edge[layer]));
                let root = 1.0 + z;
                *gamma = d * (root * root * root);
                taken &= (u.abs() < ziggurat.inner[layer]) & surely(z, d, uniform);
            }
            let uniform = open(mix(start.wrapping_add(GOLDEN)));
            tries.draws[lane] = if flat { uniform } else { gamma[0] / (gamma[0] + gamma[1]) };
            tries.taken[lane] = u64::from(taken | flat);
        }
    }
}

/// The finaliser of `SplitMix64`: a bijection of 64 bits.
#[inline]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Stream {
    /// 64 uniform bits.
    #[inline]
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform in the open interval (0, 1).
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        open(self.bits())
    }

    /// Standard normal.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
    fn normal(&mut self) -> f64 {
        loop {
            let bits = self.bits();
            let layer = bits as usize % LAYERS;
            let u = 2.0 * open(bits) - 1.0;
            if u.abs() < self.ziggurat.inner[layer] {
                return u * self.ziggurat.edge[layer];
            }
            if let Some(x) = self.edge(layer, u) {
                return x;
            }
        }
    }

    /// The rare part of the normal: the tail, or the wedge of a layer, which may refuse.
    #[cold]
    fn edge(&mut self, layer: usize, u: f64) -> Option<f64> {
        if layer == 0 {
            return Some(self.tail().copysign(u));
        }
        let edge = &self.ziggurat.edge;
        let x = u * edge[layer];
        let over = |edge: f64| (-0.5 * (edge * edge - x * x)).exp();
        let (low, high) = (over(edge[layer]), over(edge[layer + 1]));
        (high + self.uniform() * (low - high) < 1.0).then_some(x)
    }

    fn tail(&mut self) -> f64 {
        loop {
            let x = -self.uniform().ln() / TAIL;
            if -2.0 * self.uniform().ln() >= x * x {
                return TAIL + x;
            }
        }
    }

    /// Gamma of a shape of at least 1, `width = 1 / sqrt(9 shape - 3)`.
    ///
    /// With `z = width x` the exact test is `ln u < x^2 / 2 + d (1 - (1 + z)^3 + 3 ln(1 + z))`; [`surely`] saves nearly all
    /// logarithms.
    #[inline]
    fn gamma(&mut self, shape: f64, width: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        loop {
            let x = self.normal();
            let (z, u) = (width * x, self.uniform());
            let root = 1.0 + z;
            let cube = root * root * root;
            if surely(z, d, u) {
                return d * cube;
            }
            if root > 0.0 && u.ln() < 0.5 * x * x + d * (1.0 - cube + cube.ln()) {
                return d * cube;
            }
        }
    }

    /// Logarithm of a gamma of any shape above 0.
    fn ln_gamma(&mut self, shape: f64) -> f64 {
        if shape >= 1.0 {
            return self.gamma(shape, width(shape)).ln();
        }
        self.gamma(shape + 1.0, width(shape + 1.0)).ln() + self.uniform().ln() / shape
    }

    /// A draw from a Beta distribution.
    #[inline]
    pub fn beta(&mut self, law: &Beta) -> f64 {
        let [a, b] = law.shape;
        if a < 1.0 || b < 1.0 {
            let (x, y) = (self.ln_gamma(a), self.ln_gamma(b));
            return 1.0 / (1.0 + (y - x).exp());
        }
        if a + b <= 2.0 {
            return self.uniform();
        }
        let (x, y) = (self.gamma(a, law.width[0]), self.gamma(b, law.width[1]));
        x / (x + y)
    }
}

/// A Beta distribution, with what its draws need again and again.
#[derive(Clone, Copy, Debug)]
pub struct Beta {
    /// Alpha and beta, above 0.
    pub shape: [f64; 2],
    width: [f64; 2],
}

impl Beta {
    /// The distribution of this alpha and beta.
    pub fn new(shape: [f64; 2]) -> Self {
        Self { shape, width: shape.map(width) }
    }

    /// Its mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.shape[0] / (self.shape[0] + self.shape[1])
    }
}

/// Width of the normal variate within the gamma variate.
fn width(shape: f64) -> f64 {
    1.0 / (9.0 * shape - 3.0).sqrt()
}

/// The upper 53 bits as a number in the open interval (0, 1).
#[inline]
#[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64")]
const fn open(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 40_000;

    /// Mean, variance and the share of draws below `cut`.
    fn figures(cut: f64, draw: impl Fn(&mut Stream) -> f64) -> (f64, f64, f64) {
        let chance = Chance::new(99);
        let all: Vec<f64> = (0..u64::from(DRAWS)).map(|row| draw(&mut chance.of(row))).collect();
        let mean = all.iter().sum::<f64>() / f64::from(DRAWS);
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(DRAWS);
        let below = all.iter().map(|&x| f64::from(u8::from(x < cut))).sum::<f64>() / f64::from(DRAWS);
        (mean, variance, below)
    }

    fn assert_near(got: (f64, f64, f64), told: (f64, f64, f64)) {
        for (got, told) in [(got.0, told.0), (got.1, told.1), (got.2, told.2)] {
            assert!((got - told).abs() < 0.02 * told.max(0.5), "{got} is not {told}");
        }
    }

    #[test]
    fn normals_are_normal() {
        assert_near(figures(1.0, Stream::normal), (0.0, 1.0, 0.841_345));
        let beyond = figures(-TAIL, Stream::normal).2;
        assert!((0.000_1..0.000_6).contains(&beyond), "{beyond} of 0.000288 lie in the lower tail");
    }

    #[test]
    fn betas_below_one_are_betas() {
        assert_near(figures(0.5, |s| s.beta(&Beta::new([0.5, 0.5]))), (0.5, 0.125, 0.5));
        assert_near(figures(0.25, |s| s.beta(&Beta::new([0.5, 0.5]))), (0.5, 0.125, 1.0 / 3.0));
        assert_near(
            figures(0.5, |s| s.beta(&Beta::new([0.25, 3.0]))),
            (1.0 / 13.0, 0.75 / (3.25 * 3.25 * 4.25), 0.967_3),
        );
        assert!(Chance::new(1).of(0).beta(&Beta::new([1e-3; 2])).is_finite());
    }

    /// Small shapes take the logarithms often, large ones hardly ever.
    #[test]
    fn betas_above_one_are_betas() {
        assert_near(figures(0.5, |s| s.beta(&Beta::new([1.0, 2.0]))), (1.0 / 3.0, 1.0 / 18.0, 0.75));
        assert_near(figures(0.5, |s| s.beta(&Beta::new([2.0, 2.0]))), (0.5, 0.05, 0.5));
        assert_near(figures(0.25, |s| s.beta(&Beta::new([2.0, 2.0]))), (0.5, 0.05, 0.156_25));
        assert_near(figures(0.9, |s| s.beta(&Beta::new([9.0, 1.0]))), (0.9, 0.9 / 110.0, 0.387_42));
    }

    #[test]
    fn saturated_posteriors_stay_finite() {
        let mut stream = Chance::new(3).of(1);
        assert!((stream.beta(&Beta::new([1e12; 2])) - 0.5).abs() < 1e-5);
        assert!((0.999..=1.0).contains(&stream.beta(&Beta::new([1e9, 1.0]))));
    }

    /// What is accepted without a logarithm would have been accepted with it.
    #[test]
    fn the_squeeze_lies_below_the_test() {
        for d in [2.0 / 3.0, 1.0, 5.0, 1e3, 1e9] {
            for i in 0..4000 {
                let z = f64::from(i) / 1000.0 - 1.0;
                let right = d * (4.5 * z * z + 1.0 - (1.0 + z).powi(3) + 3.0 * (1.0 + z).ln());
                for u in [1e-9, 0.1, 0.5, 0.9, 0.999].into_iter().chain([right.exp() * (1.0 + 1e-9) + 1e-15]) {
                    assert!(!surely(z, d, u) || u.ln() < right + 1e-12 * (1.0 + d), "{z} {d} {u}");
                }
            }
        }
        assert!(surely(-0.7, 1.0, 0.3) && surely(0.4, 2.0 / 3.0, 0.98) && !surely(-0.81, 1.0, 1e-9));
    }

    #[test]
    fn many_at_once_are_those_one_by_one() {
        let chance = Chance::new(5);
        let rows: Vec<u64> = (0..1000).map(|i| i * i).collect();
        let shapes = [0.3, 0.999, 1.0, 1.5, 2.0, 7.0, 1e3, 1e12];
        let laws: Vec<Beta> = (0..1000).map(|i| Beta::new([shapes[i % 8], shapes[i / 8 % 8]])).collect();
        let mut draws = vec![0.0; 1000];
        for len in [0, 1, 63, 64, 65, 1000] {
            chance.betas(&rows[..len], &laws[..len], &mut draws[..len]);
            let one = |i: usize| chance.of(rows[i]).beta(&laws[i]);
            assert!((0..len).all(|i| draws[i].to_bits() == one(i).to_bits()), "{len}");
        }
    }

    #[test]
    fn a_stream_depends_on_key_and_row() {
        let bits = |key, row| Chance::new(key).of(row).bits();
        assert_eq!(bits(1, 2), bits(1, 2));
        assert!(bits(1, 2) != bits(1, 3) && bits(1, 2) != bits(2, 2) && bits(1, 2) != bits(2, 1));
    }
}
