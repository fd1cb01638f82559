//! The method of a plan as an online selector: from the table of online methods, or any selector.

use super::plan::OnlinePlan;
use curate_core::{Budget, Column, Ctx, Error, Once, OnlineSelector, Pool, Result, Selection, Selector, find};
use curate_selectors::{ONLINE, SELECTORS};

/// A selector by reference, so that [`Once`] takes one out of the table.
struct Boxed(Box<dyn Selector>);

impl Selector for Boxed {
    fn needs(&self) -> Vec<Column> {
        self.0.needs()
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        self.0.select(pool, budget, ctx)
    }
}

/// Find and build the method.
///
/// # Errors
/// `method/unknown`, `params/*`, `online/target` for a method that wants a target.
pub(crate) fn open(plan: &OnlinePlan) -> Result<Box<dyn OnlineSelector>> {
    if !SELECTORS.iter().any(|entry| entry.info.name == plan.name) {
        return find(ONLINE, &plan.name, "online method")?.build(&plan.params);
    }
    let selector = find(SELECTORS, &plan.name, "method")?.build(&plan.params)?;
    if !selector.target_needs().is_empty() {
        return Err(Error::usage("online/target", format!("{} needs a target, and a stream has none", plan.name))
            .hint("choose rows with it first (--method and --target), or take another method for --online"));
    }
    Ok(Box::new(Once(Boxed(selector))))
}
