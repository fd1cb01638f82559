//! What `curate run --help` says of plan files: an example, and every key as the plan itself declares it.

use curate_api::Plan;

const EXAMPLE: &str = r#"A plan:
  seed = 17
  quality = "mtld"

  [input]
  paths = ["corpus/*.parquet"]

  [[filter]]
  use = "semantic-dedup"
  epsilon = 0.05

  [select]
  use = "kmeans-quality"
  budget = "5%"
  k = 100

  [output]
  path = "picks.parquet"

Parameters of a method, filter or scorer stand beside its 'use': see 'curate methods NAME'.
Other options of [train]: 'curate train --options'. [compare] holds the flags of 'curate compare'."#;

/// Widest line, and where the meaning of a key begins.
const WIDTH: usize = 96;
const COLUMN: usize = 18;

/// The text below the flags.
pub(crate) fn text() -> String {
    let sections = Plan::sections();
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    let mut text = EXAMPLE.to_owned();
    for (name, keys) in &sections {
        text.extend(if name.is_empty() { ["\n\nKeys:", "", "\n"] } else { ["\n[", name, "]\n"] });
        for key in keys.iter().filter(|key| !(name.is_empty() && names.contains(&key.name.as_str()))) {
            text += &entry(&key.name, &key.doc);
        }
    }
    text.trim_end().to_owned()
}

/// A key and its meaning, in lines that fit.
fn entry(name: &str, meaning: &str) -> String {
    let (mut lines, mut line) = (String::new(), format!("  {name:<width$}", width = COLUMN - 3));
    for word in meaning.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.extend([line.trim_end(), "\n"]);
            line = " ".repeat(COLUMN - 1);
        }
        line = format!("{line} {word}");
    }
    format!("{lines}{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_plan_whose_names_exist() {
        let lines = EXAMPLE.lines().skip(1).take_while(|line| line.is_empty() || line.starts_with(' '));
        let toml = lines.collect::<Vec<_>>().join("\n");
        let plan = Plan::from_layers([Plan::from_toml(&toml).unwrap()]).unwrap();
        plan.check_names().unwrap();
        assert_eq!((plan.seed, plan.filter.len(), plan.input.paths.len()), (17, 1, 1));
    }

    #[test]
    fn every_key_is_there_in_lines_that_fit() {
        let text = text();
        for (_, keys) in Plan::sections() {
            assert!(
                keys.iter()
                    .all(|key| text.contains(&format!("  {}", key.name)) || text.contains(&format!("[{}]", key.name)))
            );
        }
        assert!(text.lines().all(|line| line.chars().count() <= 98), "{text}");
    }
}
