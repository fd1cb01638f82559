//! Finds a solution by trying everything: take two values, replace them by what one operation makes of them, go on.

use super::super::ratio::Ratio;
use super::combine;

/// Most numbers tried: 6 give about 27 million ways, a second or more.
const MAX_NUMBERS: usize = 6;

/// An expression that uses every number once and has the value `target`; `None` when there is none, or for more than 6
/// numbers.
#[must_use]
pub fn solve(numbers: &[u32], target: u32) -> Option<String> {
    if numbers.is_empty() || numbers.len() > MAX_NUMBERS {
        return None;
    }
    let start: Vec<(Ratio, String)> = numbers.iter().map(|n| (Ratio::whole(i128::from(*n)), n.to_string())).collect();
    search(&start, Ratio::whole(i128::from(target)))
}

fn search(parts: &[(Ratio, String)], target: Ratio) -> Option<String> {
    if let [(value, text)] = parts {
        return (*value == target).then(|| text.clone());
    }
    for i in 0..parts.len() {
        for j in 0..parts.len() {
            let found = if i == j { None } else { join(parts, (i, j), target) };
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// Join parts i and j by every operation; those that commute only one way round.
fn join(parts: &[(Ratio, String)], (i, j): (usize, usize), target: Ratio) -> Option<String> {
    let rest = || parts.iter().enumerate().filter(|(at, _)| *at != i && *at != j).map(|(_, part)| part.clone());
    let ops: &[u8] = if i < j { b"+-*/" } else { b"-/" };
    ops.iter().find_map(|&op| {
        let value = combine(op, parts[i].0, parts[j].0)?;
        let text = format!("({} {} {})", parts[i].1, char::from(op), parts[j].1);
        search(&rest().chain([(value, text)]).collect::<Vec<_>>(), target)
    })
}
