//! Takes candidates one after another whose gradients help the validation rows and do not repeat each other.
//!
//! `s_i = eta m_i`, `m_i` the mean inner product of the gradient of candidate i with those of the validation rows; `k` times:
//! take the largest `s_i` left (ties to the lower position), then `s_j -= eta^2 <g_j, g_i>` for all j.
//! Source: GREATS (Wang et al. 2024), greedy of its repository with the identity for the Hessian. Columns: `signal.ghost`,
//! for every candidate its inner products with the candidates of the same batch by position; `signal.ghost_validation`,
//! `m_i`. May not be proposed ahead: gradients are those of the present weights. Cost: k B time after ghost products.

use super::batch::Batch;
use super::running::Method;
use curate_core::kernels::MatRef;
use curate_core::{Algorithm, Column, Ctx, Error, Info, Location, Needs, Result, Selection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of GREATS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Greats {
    /// Learning rate: what a step along a gradient weighs. The larger, the more repetition among the rows of a batch is avoided.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub eta: f64,
}

impl Default for Greats {
    fn default() -> Self {
        Self { eta: 1e-3 }
    }
}

impl Algorithm for Greats {
    const INFO: Info = Info {
        name: "greats",
        summary: "Takes candidates whose gradients help validation rows and do not repeat each other.",
        source: "GREATS (Wang et al. 2024), greedy selection by ghost inner products",
        cost: "k B time after the ghost inner products of the candidates",
    };
}

fn ghost() -> Column {
    Column::signal("ghost")
}

fn validation() -> Column {
    Column::signal("ghost_validation")
}

impl Method for Greats {
    type Memory = ();

    fn needs(&self) -> Needs {
        Needs { before: vec![ghost(), validation()], after: Vec::new() }
    }

    fn choose(&self, _memory: &mut (), batch: &Batch<'_>, k: usize, ctx: &Ctx) -> Result<Selection> {
        let helps = batch.signal(&validation())?;
        let products = batch.vectors(&ghost(), ctx)?;
        let products = products.view()?;
        if products.dim() != batch.len() {
            let (found, wanted) = (products.dim(), batch.len());
            return Err(Error::data("signal/shape", format!("{found} inner products a row for {wanted} candidates"))
                .at(Location::default().column(ghost().as_str()))
                .hint("compute the inner products with the candidates of the same batch"));
        }
        let (order, score) = self.greedy(&helps, products, k);
        Ok(batch.select(
            &order,
            |p| score[p],
            |p| format!("gain {:.3e} when taken; {:.3e} with the validation rows alone", score[p], self.eta * helps[p]),
        ))
    }
}

impl Greats {
    /// Positions in order of choice, and the score of every candidate when it was taken or at the end.
    fn greedy(&self, helps: &[f64], products: MatRef<'_>, k: usize) -> (Vec<usize>, Vec<f64>) {
        let mut score: Vec<f64> = helps.iter().map(|m| self.eta * m).collect();
        let (mut left, mut order): (Vec<usize>, _) = ((0..helps.len()).collect(), Vec::with_capacity(k));
        while order.len() < k {
            let best = |&a: &usize, &b: &usize| score[left[a]].total_cmp(&score[left[b]]).then(b.cmp(&a));
            let Some(at) = (0..left.len()).max_by(best) else { break };
            let taken = left.remove(at);
            order.push(taken);
            for &j in &left {
                score[j] -= self.eta * self.eta * f64::from(products.row(j)[taken]);
            }
        }
        (order, score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows 0 and 1 have the same gradient: after row 0, row 2 gains more than the copy.
    #[test]
    fn a_copy_is_not_taken_twice() {
        let products = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let products = MatRef::new(&products, 3).unwrap();
        let (order, score) = Greats { eta: 1.0 }.greedy(&[2.0, 2.0, 1.5], products, 3);
        assert_eq!((order, score), (vec![0, 2, 1], vec![2.0, 1.0, 1.5]));
        assert_eq!(Greats { eta: 0.0 }.greedy(&[0.0; 3], products, 2).0, [0, 1], "ties by position");
    }
}
