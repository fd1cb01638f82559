//! A spanning tree of rows and columns with a flow on every arc: the basis of the network simplex.
//!
//! Nodes are the rows, then the columns; an arc belongs to the node below it. Potentials make the cost of every tree arc
//! the sum of its two ends. Source: Ahuja, Magnanti, Orlin 1993, section 11; own layout with lists of children.
//! Cost of a pivot: length of the cycle plus the part of the tree that is hung elsewhere.

/// No node.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: u32,
    depth: u32,
    child: u32,
    next: u32,
    prev: u32,
}

const LONELY: Node = Node { parent: NONE, depth: 0, child: NONE, next: NONE, prev: NONE };

/// The tree.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    rows: usize,
    nodes: Vec<Node>,
    /// Flow on the arc above every node.
    flow: Vec<i64>,
    /// Potentials of rows and columns.
    pub(super) potential: Vec<f64>,
}

/// An arc from a row to a column with its flow.
pub(super) type Arc = (u32, u32, i64);

impl Tree {
    /// The tree of these arcs, hung up at the node with the most of them.
    pub(super) fn new(rows: usize, cols: usize, arcs: &[Arc]) -> Self {
        let n = rows + cols;
        let mut near: Vec<Vec<(u32, i64)>> = vec![Vec::new(); n];
        for &(i, j, flow) in arcs {
            let j = j + rows as u32;
            near[i as usize].push((j, flow));
            near[j as usize].push((i, flow));
        }
        let root = (0..n).max_by_key(|&x| (near[x].len(), n - x)).unwrap_or(0) as u32;
        let mut tree = Self { rows, nodes: vec![LONELY; n], flow: vec![0; n], potential: vec![0.0; n] };
        let mut open = vec![root];
        while let Some(x) = open.pop() {
            for &(y, flow) in &near[x as usize] {
                if y != tree.nodes[x as usize].parent {
                    tree.attach(y, x);
                    tree.nodes[y as usize].depth = tree.nodes[x as usize].depth + 1;
                    tree.flow[y as usize] = flow;
                    open.push(y);
                }
            }
        }
        tree
    }

    /// Number of rows.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    fn is_row(&self, x: u32) -> bool {
        (x as usize) < self.rows
    }

    fn attach(&mut self, x: u32, parent: u32) {
        let first = self.nodes[parent as usize].child;
        let node = &mut self.nodes[x as usize];
        (node.parent, node.next, node.prev) = (parent, first, NONE);
        if first != NONE {
            self.nodes[first as usize].prev = x;
        }
        self.nodes[parent as usize].child = x;
    }

    fn detach(&mut self, x: u32) {
        let Node { parent, next, prev, .. } = self.nodes[x as usize];
        if prev == NONE {
            self.nodes[parent as usize].child = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
    }

    /// Arcs of the tree with their flow, by the node below.
    pub(super) fn arcs(&self) -> impl Iterator<Item = Arc> + '_ {
        (0..self.nodes.len() as u32).filter(|&x| self.nodes[x as usize].parent != NONE).map(|x| {
            let (parent, flow) = (self.nodes[x as usize].parent, self.flow[x as usize]);
            let (i, j) = if self.is_row(x) { (x, parent) } else { (parent, x) };
            (i, j - self.rows as u32, flow)
        })
    }

    /// All potentials anew from the costs of the arcs; the root keeps 0.
    pub(super) fn price(&mut self, cost: impl Fn(usize, usize) -> f64) {
        let Some(root) = (0..self.nodes.len() as u32).find(|&x| self.nodes[x as usize].parent == NONE) else { return };
        self.potential[root as usize] = 0.0;
        self.below(root, |tree, x| {
            let parent = tree.nodes[x as usize].parent;
            if parent != NONE {
                let (i, j) = if tree.is_row(x) { (x, parent) } else { (parent, x) };
                let c = cost(i as usize, j as usize - tree.rows);
                tree.potential[x as usize] = c - tree.potential[parent as usize];
            }
        });
    }

    /// Visit `top` and all below it, parents first.
    fn below(&mut self, top: u32, mut visit: impl FnMut(&mut Self, u32)) {
        let mut x = top;
        loop {
            visit(self, x);
            let child = self.nodes[x as usize].child;
            if child != NONE {
                x = child;
                continue;
            }
            while x != top && self.nodes[x as usize].next == NONE {
                x = self.nodes[x as usize].parent;
            }
            if x == top {
                return;
            }
            x = self.nodes[x as usize].next;
        }
    }

    /// Take the arc `(i, j)` of reduced cost `delta` into the tree and throw out the one that runs empty first.
    pub(super) fn pivot(&mut self, i: usize, j: usize, delta: f64) {
        let (row, col) = (i as u32, (j + self.rows) as u32);
        let (join, leaving, theta) = self.least(row, col);
        self.push(row, join, theta);
        self.push(col, join, theta);
        let (on_row_side, out) = leaving;
        let (top, parent) = if on_row_side { (row, col) } else { (col, row) };
        self.rehang(top, parent, out, theta);
        let sign = if self.is_row(top) { delta } else { -delta };
        self.below(top, |tree, x| {
            let depth = tree.nodes[tree.nodes[x as usize].parent as usize].depth + 1;
            tree.nodes[x as usize].depth = depth;
            tree.potential[x as usize] += if tree.is_row(x) { sign } else { -sign };
        });
    }

    /// Where the two paths to the root meet, which arc runs empty first (on the row's path or not, node below) and its flow.
    fn least(&self, row: u32, col: u32) -> (u32, (bool, u32), i64) {
        let (mut x, mut y) = (row, col);
        let (mut theta, mut out) = (i64::MAX, (true, row));
        while x != y {
            let (above, below) = (self.nodes[x as usize].depth, self.nodes[y as usize].depth);
            if above >= below {
                if self.is_row(x) && self.flow[x as usize] < theta {
                    (theta, out) = (self.flow[x as usize], (true, x));
                }
                x = self.nodes[x as usize].parent;
            }
            if below >= above {
                if !self.is_row(y) && self.flow[y as usize] < theta {
                    (theta, out) = (self.flow[y as usize], (false, y));
                }
                y = self.nodes[y as usize].parent;
            }
        }
        (x, out, theta)
    }

    /// Move `theta` along the path from `end` up to `join`: arcs above nodes of the kind of `end` lose it, the others gain it.
    fn push(&mut self, end: u32, join: u32, theta: i64) {
        let (mut x, mut change) = (end, -theta);
        while x != join {
            self.flow[x as usize] += change;
            change = -change;
            x = self.nodes[x as usize].parent;
        }
    }

    /// Turn the path from `top` up to `out` round and hang it below `parent`.
    fn rehang(&mut self, top: u32, parent: u32, out: u32, theta: i64) {
        let (mut x, mut under, mut flow) = (top, parent, theta);
        loop {
            let (above, old) = (self.nodes[x as usize].parent, self.flow[x as usize]);
            self.detach(x);
            self.attach(x, under);
            self.flow[x as usize] = flow;
            if x == out {
                return;
            }
            (under, flow, x) = (x, old, above);
        }
    }
}
