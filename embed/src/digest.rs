//! Digests of everything that decides a vector.

/// Bumped when the arithmetic changes in a way that changes vectors beyond rounding.
const ARITHMETIC: &str = "curate-embed 1";

/// Collects named parts; the order of parts matters, their boundaries cannot be confused.
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn new() -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.part("arithmetic", ARITHMETIC.as_bytes());
        digest
    }

    pub(crate) fn part(&mut self, name: &str, bytes: &[u8]) {
        for piece in [name.as_bytes(), bytes] {
            self.0.update(&(piece.len() as u64).to_le_bytes()).update(piece);
        }
    }

    pub(crate) fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_by_hand() {
        assert_eq!(hex(&[0, 0x1f, 0xa0]), "001fa0");
    }

    #[test]
    fn boundaries_count() {
        let of = |parts: &[(&str, &str)]| {
            let mut digest = Digest::new();
            for (name, bytes) in parts {
                digest.part(name, bytes.as_bytes());
            }
            digest.finish()
        };
        assert_eq!(of(&[("a", "bc")]), of(&[("a", "bc")]));
        assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]));
    }
}
