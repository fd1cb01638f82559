//! Small dense linear algebra in double precision: solving with a symmetric positive definite matrix.

/// Lower triangle `L` with `L L^T = A`, row-major, and the matrix itself for refinement.
pub(crate) struct Cholesky {
    n: usize,
    matrix: Vec<f64>,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factor `matrix + damping I`, or none when that is not positive definite within rounding.
    pub(crate) fn new(mut matrix: Vec<f64>, n: usize, damping: f64) -> Option<Self> {
        (0..n).for_each(|i| matrix[i * n + i] += damping);
        let largest = (0..n).map(|i| matrix[i * n + i]).fold(0.0, f64::max);
        let least = largest * f64::EPSILON * usize_f64(n);
        let mut lower = vec![0.0; n * n];
        for i in 0..n {
            let (above, row) = lower.split_at_mut(i * n);
            for j in 0..i {
                let other = &above[j * n..=j * n + j];
                row[j] = (matrix[i * n + j] - dot(&row[..j], &other[..j])) / other[j];
            }
            let pivot = matrix[i * n + i] - dot(&row[..i], &row[..i]);
            if pivot.is_nan() || pivot <= least {
                return None;
            }
            row[i] = pivot.sqrt();
        }
        Some(Self { n, matrix, lower })
    }

    /// `A^-1 b`, refined twice with the residual.
    pub(crate) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = self.substitute(b);
        for _ in 0..2 {
            let residual: Vec<f64> = b.iter().zip(self.times(&x)).map(|(b, ax)| b - ax).collect();
            self.substitute(&residual).iter().zip(&mut x).for_each(|(d, x)| *x += d);
        }
        x
    }

    /// `A x`.
    pub(crate) fn times(&self, x: &[f64]) -> Vec<f64> {
        self.matrix.chunks_exact(self.n).map(|row| dot(row, x)).collect()
    }

    fn substitute(&self, b: &[f64]) -> Vec<f64> {
        let (n, mut x) = (self.n, b.to_vec());
        for i in 0..n {
            let row = &self.lower[i * n..=i * n + i];
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
        for i in (0..n).rev() {
            x[i] /= self.lower[i * n + i];
            let known = x[i];
            x[..i].iter_mut().zip(&self.lower[i * n..i * n + i]).for_each(|(x, l)| *x -= l * known);
        }
        x
    }
}

/// Inner product over four lanes, then the rest.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (heads, tail) = a.as_chunks::<4>();
    let (others, rest) = b.as_chunks::<4>();
    let mut lanes = [0.0; 4];
    for (x, y) in heads.iter().zip(others) {
        (0..4).for_each(|l| lanes[l] += x[l] * y[l]);
    }
    let last: f64 = tail.iter().zip(rest).map(|(x, y)| x * y).sum();
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]) + last
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
pub(crate) const fn usize_f64(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_by_two_by_hand() {
        let a = Cholesky::new(vec![3.0, 1.0, 1.0, 2.0], 2, 1.0).unwrap();
        let x = a.solve(&[9.0, 5.0]);
        assert!((x[0] - 2.0).abs() < 1e-15 && (x[1] - 1.0).abs() < 1e-15, "{x:?}");
        assert!(Cholesky::new(vec![1.0, 1.0, 1.0, 1.0], 2, 0.0).is_none());
        assert!(Cholesky::new(vec![1.0, 0.0, 0.0, -1.0], 2, 0.5).is_none());
    }

    #[test]
    fn a_system_of_nine_is_solved_to_rounding() {
        let n = 9;
        let entry = |at: usize| 1.0 / usize_f64(at / n + at % n + 1) + f64::from(u8::from(at / n == at % n));
        let a = Cholesky::new((0..n * n).map(entry).collect(), n, 0.0).unwrap();
        let x: Vec<f64> = (0..n).map(usize_f64).collect();
        let back = a.solve(&a.times(&x));
        assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-13), "{back:?}");
    }
}
