//! Budgets in tokens.

use super::pools::{Row, ctx, pool, rows, shuffled, variants, without};
use curate_core::{Budget, Column, Selection};
use curate_selectors::SELECTORS;
use std::collections::BTreeMap;

fn spent(rows: &[Row], selection: &Selection) -> u64 {
    let tokens: BTreeMap<u64, u32> = rows.iter().map(|r| (r.id, r.tokens)).collect();
    selection.rows().iter().map(|row| u64::from(tokens[row])).sum()
}

#[test]
fn token_budgets_are_used_but_never_exceeded() {
    let rows = rows(90, 20);
    let total: u64 = rows.iter().map(|r| u64::from(r.tokens)).sum();
    let pool = pool(&rows);
    for (name, method) in variants(SELECTORS) {
        let select = |budget| method.select(&pool, budget, &ctx(17)).unwrap();
        for budget in [60, 500, total - 1] {
            let chosen = select(Budget::Tokens(budget));
            let m = chosen.picks.len();
            assert!(spent(&rows, &chosen) <= budget, "{name}: {budget}");
            assert!(m < 90 && spent(&rows, &select(Budget::Rows(m + 1))) > budget, "{name}: one more row does not fit");
            assert_eq!(chosen.rows(), select(Budget::Rows(m)).rows(), "{name}: the same as asking for {m} rows");
        }
        assert_eq!(select(Budget::Tokens(total)).picks.len(), 90, "{name}");
    }
}

#[test]
fn token_budgets_do_not_depend_on_the_order_of_rows() {
    let rows = rows(70, 21);
    for (name, method) in variants(SELECTORS) {
        let select = |rows: &[Row]| method.select(&pool(rows), Budget::Tokens(400), &ctx(5)).unwrap().rows();
        assert_eq!(select(&rows), select(&shuffled(&rows, 4)), "{name}");
    }
}

#[test]
fn token_budgets_that_cannot_be_met_are_refused() {
    let mut rows = rows(20, 22);
    for row in &mut rows {
        row.tokens = 100;
    }
    for (name, method) in variants(SELECTORS) {
        let code = |pool, budget| method.select(&pool, budget, &ctx(0)).unwrap_err().code();
        assert_eq!(code(pool(&rows), Budget::Tokens(99)), "budget/too-small", "{name}");
        assert_eq!(code(without(&rows, &Column::TOKENS), Budget::Tokens(99)), "column/missing", "{name}");
    }
}
