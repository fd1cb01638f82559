//! The optimizer against closed forms and a reference in 64 bits.

use super::*;
use crate::Tensor;
use crate::checkpoint::{self, TensorFile};

fn params(shape: &[usize], values: &[f32]) -> Params {
    let mut params = Params::default();
    params.push(Tensor { name: "w".into(), shape: shape.to_vec(), data: values.to_vec(), trained: true });
    params
}

fn grads(params: &Params, values: &[f32]) -> Grads {
    let mut grads = Grads::zeros(params);
    grads.get_mut(ParamId(0)).unwrap().copy_from_slice(values);
    grads
}

fn config() -> OptimConfig {
    OptimConfig { max_grad_norm: 0.0, ..OptimConfig::default() }
}

/// Three steps as the paper writes them, in f64.
fn reference(p: &mut [f64], gradients: &[[f64; 3]], lr: f64, decay: f64) {
    let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
    for (t, g) in gradients.iter().enumerate() {
        let t = i32::try_from(t).unwrap() + 1;
        for i in 0..3 {
            m[i] = 0.9 * m[i] + 0.1 * g[i];
            v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
            let (hat_m, hat_v) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.999f64.powi(t)));
            p[i] = p[i] * (1.0 - lr * decay) - lr * hat_m / (hat_v.sqrt() + 1e-8);
        }
    }
}

#[test]
fn adamw_equals_a_hand_reference() {
    let gradients = [[0.1, -0.02, 3.0], [-0.5, 0.01, 1.0], [0.2, 0.3, -2.0]];
    let mut exact = [0.5, -0.25, 0.9];
    reference(&mut exact, &gradients, 1e-2, 0.1);
    let mut params = params(&[1, 3], &[0.5, -0.25, 0.9]);
    let mut optimizer = Optimizer::new(&params, OptimConfig { weight_decay: 0.1, ..config() });
    for g in gradients {
        let g = g.map(|x| x as f32);
        let grads = grads(&params, &g);
        optimizer.step(&mut params, &grads, 1e-2);
    }
    let found = &params.get(ParamId(0)).data;
    for (a, b) in found.iter().zip(exact) {
        assert!((f64::from(*a) - b).abs() < 1e-7, "{found:?} {exact:?}");
    }
}

#[test]
fn first_step_is_the_rate_and_decay_spares_vectors() {
    // with one step m / sqrt(v) is the sign of the gradient
    for (shape, expected) in [(&[2][..], [0.9, -0.9]), (&[1, 2][..], [0.9 - 0.05, -0.9 + 0.05])] {
        let mut p = params(shape, &[1.0, -1.0]);
        let mut optimizer = Optimizer::new(&p, OptimConfig { weight_decay: 0.5, ..config() });
        let g = grads(&p, &[4.0, -0.5]);
        optimizer.step(&mut p, &g, 0.1);
        let data = &p.get(ParamId(0)).data;
        assert!(data.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{data:?}");
    }
}

#[test]
fn descent_with_and_without_momentum() {
    for (momentum, expected) in [(0.0, 1.0 - 0.1 - 0.1), (0.5, 1.0 - 0.1 - 0.15)] {
        let mut p = params(&[1], &[1.0]);
        let mut optimizer = Optimizer::new(&p, OptimConfig { rule: Rule::Sgd, momentum, ..config() });
        for _ in 0..2 {
            let g = grads(&p, &[1.0]);
            optimizer.step(&mut p, &g, 0.1);
        }
        assert!((p.get(ParamId(0)).data[0] - expected).abs() < 1e-6);
    }
}

#[test]
fn clips_the_norm_of_all_together() {
    let mut p = params(&[2], &[0.0, 0.0]);
    let mut optimizer = Optimizer::new(&p, OptimConfig { rule: Rule::Sgd, max_grad_norm: 1.0, ..config() });
    let g = grads(&p, &[3.0, 4.0]);
    let report = optimizer.step(&mut p, &g, 1.0);
    assert_eq!((report.grad_norm, report.clipped), (5.0, true));
    let data = &p.get(ParamId(0)).data;
    assert!((data[0] + 0.6).abs() < 1e-6 && (data[1] + 0.8).abs() < 1e-6);
}

#[test]
fn a_gradient_that_is_no_number_changes_nothing() {
    let mut p = params(&[2], &[1.0, 2.0]);
    let mut optimizer = Optimizer::new(&p, config());
    let before = optimizer.clone();
    let g = grads(&p, &[0.0, f32::NAN]);
    let report = optimizer.step(&mut p, &g, 1.0);
    assert_eq!(report.skipped.as_deref(), Some("w"));
    assert_eq!((p.get(ParamId(0)).data.as_slice(), &optimizer), (&[1.0, 2.0][..], &before));
}

#[test]
fn outside_the_mask_nothing_moves_and_moments_are_carried_over() {
    let start = [1.0, 2.0, 3.0, 4.0];
    let mut p = params(&[2, 2], &start);
    let mut optimizer = Optimizer::new(&p, OptimConfig { weight_decay: 0.1, ..config() });
    optimizer.set_mask(&p, ParamId(0), Mask::new(vec![1, 2])).unwrap();
    let g = grads(&p, &[1.0, 1.0, -1.0, 1.0]);
    assert!((optimizer.grad_norm(&g) - 2.0f64.sqrt()).abs() < 1e-12);
    optimizer.step(&mut p, &g, 0.1);
    let data = p.get(ParamId(0)).data.clone();
    assert_eq!((data[0], data[3]), (1.0, 4.0));
    assert!(data[1] < 2.0 && data[2] > 2.9);
    let kept = optimizer.slots[0].as_ref().unwrap().first[1];
    optimizer.set_mask(&p, ParamId(0), Mask::new(vec![0, 2])).unwrap();
    assert_eq!(optimizer.slots[0].as_ref().unwrap().first, [0.0, kept]);
    assert_eq!((optimizer.bytes(), optimizer.steps()), (4 * 6, 1));
    assert_eq!(optimizer.set_mask(&p, ParamId(0), Mask::new(vec![4])).unwrap_err().code(), "mask/range");
}

#[test]
fn a_full_mask_is_no_mask() {
    let values: Vec<f32> = (0..40_000u16).map(|i| f32::from(i).sin()).collect();
    let run = |masked: bool| {
        let mut p = params(&[4, 10_000], &values);
        let mut optimizer = Optimizer::new(&p, OptimConfig { weight_decay: 0.1, ..config() });
        if masked {
            optimizer.set_mask(&p, ParamId(0), Mask::of(40_000, |_| true).unwrap()).unwrap();
        }
        for _ in 0..3 {
            let g = grads(&p, &p.get(ParamId(0)).data.clone());
            optimizer.step(&mut p, &g, 1e-2);
        }
        p.get(ParamId(0)).data.clone()
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn allora_factors() {
    let allora = Allora::default();
    assert!((allora.factor(&[0.0, 0.0]) - 2.0).abs() < 1e-6);
    assert!((allora.factor(&[3.0, 4.0]) - 0.436_435_8).abs() < 1e-6);
    let mut p = Params::default();
    let name = "base_model.model.x.lora_B.weight".to_owned();
    p.push(Tensor { name, shape: vec![2, 2], data: vec![0.0, 0.0, 3.0, 4.0], trained: true });
    let mut optimizer = Optimizer::new(&p, OptimConfig { allora: Some(allora), ..config() });
    let g = grads(&p, &[1.0; 4]);
    optimizer.step(&mut p, &g, 0.1);
    let data = &p.get(ParamId(0)).data;
    let expected = [-0.2, -0.2, 3.0 - 0.043_643_58, 4.0 - 0.043_643_58];
    assert!(data.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{data:?}");
}

#[test]
fn state_survives_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    let mut p = params(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let mut optimizer = Optimizer::new(&p, config());
    optimizer.set_mask(&p, ParamId(0), Mask::new(vec![0, 3])).unwrap();
    let g = grads(&p, &[0.3, 0.1, 0.2, -0.7]);
    optimizer.step(&mut p, &g, 0.01);
    checkpoint::write(&path, &optimizer.entries(&p), None).unwrap();
    let mut other = Optimizer::new(&p, config());
    other.restore(&p, &mut TensorFile::open(&path).unwrap(), 1).unwrap();
    assert_eq!(other, optimizer);
}

#[test]
fn threads_do_not_show() {
    let values: Vec<f32> = (0..100_000u32).map(|i| (i as f32).cos()).collect();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut p = params(&[10, 10_000], &values);
            let mut optimizer = Optimizer::new(&p, OptimConfig::default());
            let g = grads(&p, &values);
            let report = optimizer.step(&mut p, &g, 1e-2);
            (p.get(ParamId(0)).data.clone(), report.grad_norm.to_bits())
        })
    };
    assert_eq!(run(1), run(4));
}
