//! Launches of the networks' kernels: grids, and arguments in the order of the sources.

use super::numbers::{Numbers, Precision};
use crate::KernelError;
use crate::cuda::{Arg, Buffer, Device};

/// Threads of a block.
pub(super) const THREADS: u32 = 256;
/// Rows that one thread adds up for the sum of a column.
const CHUNK: usize = 128;

/// Rows of a matrix inside a buffer: they begin at `at` and lie `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) numbers: &'a Numbers,
    pub(super) at: usize,
    pub(super) stride: usize,
}

/// How a norm cuts its rows: `group` of `width` numbers in each row of the matrix.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) rows: usize,
    pub(super) group: usize,
    pub(super) width: usize,
}

/// Rotary positions of a batch.
pub(super) struct Turn {
    pub(super) cos: Buffer<f32>,
    pub(super) sin: Buffer<f32>,
    pub(super) positions: Buffer<u32>,
    pub(super) head_dim: usize,
}

/// Gain and shift of a layer norm.
pub(super) struct Norm {
    pub(super) gain: Buffer<f32>,
    pub(super) shift: Buffer<f32>,
    pub(super) eps: f32,
}

/// Kernels of one device.
#[derive(Clone, Copy)]
pub(super) struct Ops<'a> {
    pub(super) device: &'a Device,
    pub(super) precision: Precision,
}

pub(super) fn size(n: usize) -> Arg<'static> {
    Arg::U32(n as u32)
}

fn count(n: usize) -> Arg<'static> {
    Arg::U64(n as u64)
}

/// Blocks for so many threads.
fn grid(threads: usize) -> (u32, u32, u32) {
    (threads.div_ceil(THREADS as usize) as u32, 1, 1)
}

/// Blocks for rows of so many threads each.
fn columns(rows: usize, threads: usize) -> (u32, u32, u32) {
    (rows as u32, threads.div_ceil(THREADS as usize) as u32, 1)
}

/// Refuse widths that kernels do not take.
pub(super) fn check_even(widths: &[usize]) -> Result<(), KernelError> {
    match widths.iter().find(|width| !width.is_multiple_of(2)) {
        None => Ok(()),
        Some(odd) => Err(KernelError::Shape {
            op: "network",
            expected: "even widths (use --device cpu)".to_owned(),
            got: odd.to_string(),
        }),
    }
}

/// Blocks for so many warps.
fn warps(count: usize) -> (u32, u32, u32) {
    grid(32 * count)
}

impl<'a> Rows<'a> {
    /// A whole buffer of rows of `stride`.
    pub(super) const fn of(numbers: &'a Numbers, stride: usize) -> Self {
        Self { numbers, at: 0, stride }
    }

    pub(super) const fn arg(&self) -> Arg<'a> {
        self.numbers.at(self.at)
    }

    pub(super) fn stride(&self) -> Arg<'static> {
        size(self.stride)
    }
}

impl Ops<'_> {
    /// Uninitialised activations.
    pub(super) fn fresh(&self, len: usize) -> Result<Numbers, KernelError> {
        Numbers::alloc(self.device, self.precision, len)
    }

    pub(super) fn floats(&self, len: usize) -> Result<Numbers, KernelError> {
        Numbers::alloc(self.device, Precision::F32, len)
    }

    /// A copy of f32 numbers.
    pub(super) fn copy(&self, x: &Numbers, len: usize) -> Result<Numbers, KernelError> {
        let out = self.floats(len)?;
        self.cast(x, &out, len)?;
        Ok(out)
    }

    pub(super) fn cast(&self, x: &Numbers, out: &Numbers, len: usize) -> Result<(), KernelError> {
        if let (Numbers::Wide(x), Numbers::Wide(out)) = (x, out) {
            return self.device.copy_between((x, 0), (out, 0), len);
        }
        let args = [x.arg(), x.half(), count(len), out.arg(), out.half()];
        self.device.launch("net_cast", grid(len), THREADS, 0, &args)
    }

    pub(super) fn rms_norm(
        &self,
        (x, y): (Rows, Rows),
        (gain, eps): (&Buffer<f32>, f32),
        cut: Cut,
        inverse: &Buffer<f32>,
    ) -> Result<(), KernelError> {
        let from = [x.arg(), x.numbers.half(), x.stride(), gain.arg(), Arg::F32(eps)];
        let shape = [count(cut.rows), size(cut.group), size(cut.width)];
        let to = [y.arg(), y.numbers.half(), y.stride(), inverse.arg()];
        self.device.launch("net_rms_norm", warps(cut.rows), THREADS, 0, &[&from[..], &shape, &to].concat())
    }

    /// The gradient of a norm's input, added to `gx` or put there.
    pub(super) fn rms_back(
        &self,
        (x, gy, gx): (Rows, Rows, Rows),
        (gain, inverse): (&Buffer<f32>, &Buffer<f32>),
        cut: Cut,
        add: bool,
    ) -> Result<(), KernelError> {
        let from = [x.arg(), x.numbers.half(), x.stride(), gain.arg(), inverse.arg()];
        let slope = [gy.arg(), gy.numbers.half(), gy.stride()];
        let shape = [count(cut.rows), size(cut.group), size(cut.width)];
        let to = [gx.arg(), gx.stride(), Arg::U32(u32::from(add))];
        self.device.launch("net_rms_back", warps(cut.rows), THREADS, 0, &[&from[..], &slope, &shape, &to].concat())
    }

    /// Add the sum over the rows of `gy`, or of `gy x / r`, to `sums`.
    pub(super) fn column_sums(
        &self,
        gy: Rows,
        of: Option<(Rows, &Buffer<f32>)>,
        cut: Cut,
        sums: Arg<'_>,
    ) -> Result<(), KernelError> {
        let chunks = cut.rows.div_ceil(CHUNK);
        let part = self.device.alloc::<f32>(chunks * cut.width)?;
        let (x, inverse) = of.map_or((gy, part.arg()), |(x, inverse)| (x, inverse.arg()));
        let from = [x.arg(), x.numbers.half(), x.stride(), inverse];
        let slope = [gy.arg(), gy.numbers.half(), gy.stride()];
        let shape = [count(cut.rows), size(cut.group), size(cut.width), size(CHUNK), Arg::U32(u32::from(of.is_some()))];
        let blocks = (grid(cut.width).0, chunks as u32, 1);
        let args = [&from[..], &slope, &shape, &[part.arg()]].concat();
        self.device.launch("net_column_part", blocks, THREADS, 0, &args)?;
        let args = [part.arg(), size(chunks), size(cut.width), sums];
        self.device.launch("net_fold", grid(cut.width), THREADS, 0, &args)
    }

    /// `x = norm(x + y + bias)` as f32 and as `narrow`.
    pub(super) fn residual_norm(
        &self,
        (y, bias): (&Numbers, &Buffer<f32>),
        (x, narrow): (&Buffer<f32>, &Numbers),
        norm: &Norm,
        rows: usize,
    ) -> Result<(), KernelError> {
        let from = [y.arg(), y.half(), bias.arg(), x.arg(), norm.gain.arg(), norm.shift.arg(), Arg::F32(norm.eps)];
        let to = [count(rows), size(norm.gain.len()), narrow.arg()];
        self.device.launch("net_residual_norm", warps(rows), THREADS, 0, &[&from[..], &to].concat())
    }

    /// `x = norm(words[ids] + places[positions])` as f32 and as `narrow`.
    pub(super) fn embed_norm(
        &self,
        (words, ids): (&Numbers, &Buffer<u32>),
        (places, positions): (&Buffer<f32>, &Buffer<u32>),
        norm: &Norm,
        (x, narrow): (&Buffer<f32>, &Numbers),
    ) -> Result<(), KernelError> {
        let from = [words.arg(), words.half(), places.arg(), ids.arg(), positions.arg()];
        let norms = [norm.gain.arg(), norm.shift.arg(), Arg::F32(norm.eps)];
        let to = [count(ids.len()), size(norm.gain.len()), x.arg(), narrow.arg()];
        self.device.launch("net_embed_norm", warps(ids.len()), THREADS, 0, &[&from[..], &norms, &to].concat())
    }

    /// Rows of a table by number, as f32.
    pub(super) fn copy_rows(&self, table: &Numbers, ids: &Buffer<u32>, width: usize) -> Result<Numbers, KernelError> {
        let out = self.floats(ids.len() * width)?;
        let args = [table.arg(), table.half(), ids.arg(), count(ids.len()), size(width), out.arg()];
        self.device.launch("net_copy_rows", warps(ids.len()), THREADS, 0, &args)?;
        Ok(out)
    }

    /// `table[ids[i]] = rows[i]`.
    pub(super) fn put_rows(
        &self,
        rows: &Numbers,
        ids: &Buffer<u32>,
        width: usize,
        table: &Numbers,
    ) -> Result<(), KernelError> {
        let args = [rows.arg(), ids.arg(), count(ids.len()), size(width), table.arg()];
        self.device.launch("net_put_rows", warps(ids.len()), THREADS, 0, &args)
    }

    /// `table[ids[i]] += rows[i]`, in order.
    pub(super) fn scatter_add(
        &self,
        rows: &Numbers,
        ids: &[u32],
        width: usize,
        table: Arg<'_>,
    ) -> Result<(), KernelError> {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|at| ids[*at as usize]);
        let (mut unique, mut starts) = (Vec::new(), Vec::new());
        for (place, at) in order.iter().enumerate() {
            let id = ids[*at as usize];
            if unique.last() != Some(&id) {
                unique.push(id);
                starts.push(place as u32);
            }
        }
        starts.push(order.len() as u32);
        let lists = [self.device.upload(&unique)?, self.device.upload(&starts)?, self.device.upload(&order)?];
        let [ids, starts, order] = lists.each_ref().map(Buffer::arg);
        let args = [rows.arg(), ids, starts, order, count(unique.len()), size(width), table];
        self.device.launch("net_scatter_add", warps(unique.len()), THREADS, 0, &args)
    }

    /// Turn `heads` heads of every row, forward or back.
    pub(super) fn rotate(&self, x: Rows, turn: &Turn, heads: usize, back: bool) -> Result<(), KernelError> {
        let pairs = turn.head_dim / 2;
        let from = [x.arg(), x.numbers.half(), x.stride(), turn.cos.arg(), turn.sin.arg(), turn.positions.arg()];
        let shape = [size(heads), size(pairs), Arg::F32(if back { -1.0 } else { 1.0 })];
        let blocks = columns(turn.positions.len(), heads * pairs);
        self.device.launch("net_rotate", blocks, THREADS, 0, &[&from[..], &shape].concat())
    }

    /// `silu(gate) up` for rows of gates with their ups behind them.
    pub(super) fn swiglu(&self, pairs: &Numbers, rows: usize, width: usize) -> Result<Numbers, KernelError> {
        let out = self.fresh(rows * width)?;
        let args = [pairs.arg(), pairs.half(), size(width), out.arg()];
        self.device.launch("net_swiglu", columns(rows, width / 2), THREADS, 0, &args)?;
        Ok(out)
    }

    /// Gradients of gates and ups in their places.
    pub(super) fn swiglu_back(
        &self,
        gy: &Numbers,
        pairs: &Numbers,
        rows: usize,
        width: usize,
    ) -> Result<(), KernelError> {
        let args = [gy.arg(), gy.half(), size(width), pairs.arg()];
        self.device.launch("net_swiglu_back", columns(rows, width / 2), THREADS, 0, &args)
    }

    /// `y = activation(y + bias)`; kind 0 leaves the sum as it is.
    pub(super) fn bias(&self, y: &Numbers, bias: &Buffer<f32>, rows: usize, kind: u32) -> Result<(), KernelError> {
        let args = [y.arg(), y.half(), bias.arg(), size(bias.len()), Arg::U32(kind)];
        self.device.launch("net_bias", columns(rows, bias.len() / 2), THREADS, 0, &args)
    }
}
