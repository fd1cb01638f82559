//! A method's state as bytes, for a journal or a cursor.

use crate::online::state::{files, read_files};
use curate_core::{Error, Result, State};

/// Pack a state; the same state gives the same bytes, and floats keep their bits.
///
/// # Errors
/// `json` or `arrow` for what cannot be written.
pub fn pack_state(state: &State) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    for (name, bytes) in files(state)? {
        for part in [name.as_bytes(), &bytes] {
            packed.extend((part.len() as u64).to_le_bytes());
            packed.extend(part);
        }
    }
    Ok(packed)
}

/// Read back what [`pack_state`] gave.
///
/// # Errors
/// `checkpoint/broken` for other bytes.
pub fn unpack_state(packed: &[u8]) -> Result<State> {
    let (mut rest, mut found) = (packed, Vec::new());
    while !rest.is_empty() {
        let name = String::from_utf8_lossy(part(&mut rest)?).into_owned();
        found.push((name, part(&mut rest)?.to_vec()));
    }
    read_files(&|wanted| {
        let named = found.iter().find(|(name, _)| name == wanted);
        named.map(|(_, bytes)| bytes.clone()).ok_or_else(|| broken(&format!("{wanted} is missing")))
    })
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let short = || broken("it ends early");
    let (len, tail) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| short())?;
    let (own, tail) = tail.split_at_checked(len).ok_or_else(short)?;
    *rest = tail;
    Ok(own)
}

fn broken(what: &str) -> Error {
    Error::data("checkpoint/broken", format!("the state of the selector cannot be read: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bytes_come_back_and_damage_is_seen() {
        let scalars = json!({"a": 0.1 + 0.2, "n": 3}).as_object().unwrap().clone();
        let state = State { version: 1, scalars, tables: Vec::new() };
        let packed = pack_state(&state).unwrap();
        assert_eq!(unpack_state(&packed).unwrap().scalars, state.scalars);
        assert_eq!(unpack_state(&packed[..packed.len() - 1]).unwrap_err().code(), "checkpoint/broken");
        assert_eq!(unpack_state(&[]).unwrap_err().code(), "checkpoint/broken");
    }
}
