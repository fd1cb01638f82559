//! From row id to slot: an open-addressed table that is free of collisions while ids are dense.
//!
//! Home of an id is its remainder by the capacity, so that consecutive ids lie side by side; a collision steps on by an odd
//! stride that mixes all bits of the id. At most half of the places are taken. Results never depend on the table's order.
//! Most candidates of a large corpus were never heard of: a bit for each remainder by 32 times the capacity says so without a look.
//! Cost: one place a look-up for dense ids, about two otherwise; 20 bytes a place.

/// A place without an id.
const FREE: u32 = u32::MAX;

/// Bits a place.
const BITS: usize = 32;

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    places: Vec<(u64, u32)>,
    /// Ids with an unset bit are not in the table.
    heard: Vec<u64>,
    held: usize,
}

impl Slots {
    /// The slot of an id.
    #[inline]
    pub(crate) fn get(&self, id: u64) -> Option<usize> {
        if self.heard.is_empty() || !self.may_have(id) {
            return None;
        }
        let (_, slot) = self.places[self.place(id)];
        (slot != FREE).then_some(slot as usize)
    }

    /// Where the bit of an id is.
    #[inline]
    fn bit(&self, id: u64) -> (usize, u64) {
        let at = truncated(id) & (64 * self.heard.len() - 1);
        (at / 64, 1 << (at % 64))
    }

    #[inline]
    fn may_have(&self, id: u64) -> bool {
        let (word, bit) = self.bit(id);
        self.heard[word] & bit != 0
    }

    /// The slot of an id, the next free one if it has none yet.
    pub(crate) fn enter(&mut self, id: u64) -> usize {
        if 2 * (self.held + 1) > self.places.len() {
            self.grow();
        }
        let place = self.place(id);
        let slot = &mut self.places[place].1;
        if *slot == FREE {
            *slot = u32::try_from(self.held).unwrap_or(FREE);
            self.places[place].0 = id;
            self.held += 1;
            self.mark(id);
        }
        self.places[place].1 as usize
    }

    /// Where the id is, or where it would be put.
    #[inline]
    fn place(&self, id: u64) -> usize {
        let mask = self.places.len() - 1;
        let mut at = truncated(id) & mask;
        let stride = truncated(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) | 1;
        while self.places[at].1 != FREE && self.places[at].0 != id {
            at = at.wrapping_add(stride) & mask;
        }
        at
    }

    fn mark(&mut self, id: u64) {
        let (word, bit) = self.bit(id);
        self.heard[word] |= bit;
    }

    fn grow(&mut self) {
        let wider = vec![(0, FREE); (2 * self.places.len()).max(64)];
        self.heard = vec![0; wider.len() * BITS / 64];
        let old = std::mem::replace(&mut self.places, wider);
        for entry in old.into_iter().filter(|entry| entry.1 != FREE) {
            let place = self.place(entry.0);
            self.places[place] = entry;
            self.mark(entry.0);
        }
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "only some bits are wanted")]
const fn truncated(bits: u64) -> usize {
    bits as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_every_kind_keep_their_slots() {
        let mut slots = Slots::default();
        assert_eq!(slots.get(0), None);
        let ids: Vec<u64> =
            (0..300).chain((1..300).map(|i| i << 20)).chain((0..300).map(|i| u64::MAX - i * i)).collect();
        for (slot, &id) in ids.iter().enumerate() {
            assert_eq!(slots.enter(id), slot);
            assert_eq!(slots.enter(id), slot, "again");
        }
        assert!(ids.iter().enumerate().all(|(slot, &id)| slots.get(id) == Some(slot)));
        assert_eq!(slots.get(12_345), None);
    }
}
