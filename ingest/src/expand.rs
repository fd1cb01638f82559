//! From what the user wrote (files, folders, globs, URLs, `-`) to the list of files to read, in a fixed order.

use crate::errors::io_at;
use crate::kind::{self, Kind};
use crate::store::{Object, Stores};
use curate_core::{Error, Location, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Where a file is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Stdin,
    Local(PathBuf),
    Remote(Object),
}

/// A file to read and its name for people.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) place: Place,
    pub(crate) name: String,
}

/// Names that stand beside data without being data.
const NOT_DATA: [&str; 9] = [
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "manifest.json",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// All files meant by `paths`: arguments in the order given, folders and globs sorted by path.
pub(crate) fn expand(paths: &[String], stores: &Stores) -> Result<Vec<Item>> {
    if paths.is_empty() {
        return Err(Error::usage("input/none", "no input was given")
            .hint("name a file, a folder, a glob, a URL, or - for standard input"));
    }
    let mut items = Vec::new();
    for path in paths {
        match path.as_str() {
            "-" => items.push(Item { place: Place::Stdin, name: "-".into() }),
            url if url.starts_with("file://") => local(&file_url(url)?, &mut items)?,
            url if url.contains("://") => remote(&stores.object(url)?, &mut items)?,
            path => local(path, &mut items)?,
        }
    }
    Ok(items)
}

/// The local path of a `file://` URL.
pub(crate) fn file_url(url: &str) -> Result<String> {
    let parsed = url::Url::parse(url).ok().and_then(|u| u.to_file_path().ok());
    match parsed {
        Some(path) => Ok(path.to_string_lossy().into_owned()),
        None => Err(Error::usage("store/url", format!("'{url}' is not the URL of a local file"))
            .hint("write file:///absolute/path")),
    }
}

fn item(path: PathBuf) -> Item {
    Item { name: path.to_string_lossy().into_owned(), place: Place::Local(path) }
}

fn local(text: &str, items: &mut Vec<Item>) -> Result<()> {
    let path = Path::new(text);
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => folder(path, items),
        Ok(_) => {
            items.push(item(path.to_owned()));
            Ok(())
        }
        Err(_) if text.contains(['*', '?', '[']) => globbed(text, items),
        Err(error) => Err(io_at(error, text)),
    }
}

fn folder(path: &Path, items: &mut Vec<Item>) -> Result<()> {
    let visible = |name: &str| !name.starts_with('.') && !name.starts_with('_');
    let walk = WalkDir::new(path).follow_links(true).min_depth(1).into_iter();
    let mut found = Vec::new();
    for entry in walk.filter_entry(|e| visible(&e.file_name().to_string_lossy())) {
        let entry = entry.map_err(|e| {
            let place = e.path().unwrap_or(path).to_string_lossy().into_owned();
            io_at(
                e.into_io_error().unwrap_or_else(|| std::io::Error::other("a link that leads back to its own folder")),
                &place,
            )
        })?;
        if entry.file_type().is_file() && is_data(entry.path()) {
            found.push(entry.into_path());
        }
    }
    no_data_unless(!found.is_empty(), &path.to_string_lossy())?;
    found.sort();
    items.extend(found.into_iter().map(item));
    Ok(())
}

fn no_data_unless(found: bool, place: &str) -> Result<()> {
    if found {
        return Ok(());
    }
    Err(Error::data("input/no-data", "no data file here")
        .hint("looked for parquet, jsonl, ndjson, json, csv, tsv, arrow, feather and ipc files, also .gz and .zst; hidden files are passed over")
        .at(Location::file(place)))
}

/// Whether a file found in a folder is data; files of unknown extension count when they begin like parquet or Arrow.
fn is_data(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if kind::from_name(&name).0.is_some() {
        return named_data(&name);
    }
    let mut head = [0; 6];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut head));
    read.is_ok() && (kind::from_magic(&head) == Some(Kind::Parquet) || head == *b"ARROW1")
}

fn named_data(name: &str) -> bool {
    kind::from_name(name).0.is_some() && !NOT_DATA.contains(&name) && !name.ends_with(".curate.json")
}

fn globbed(pattern: &str, items: &mut Vec<Item>) -> Result<()> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let matches = glob::glob_with(pattern, options).map_err(|e| {
        Error::usage("input/glob", format!("'{pattern}' is not a pattern: {e}"))
            .hint("write folder/*.parquet or folder/**/*.jsonl")
    })?;
    let mut found: Vec<PathBuf> = matches.filter_map(std::result::Result::ok).collect();
    found.sort();
    no_data_unless(!found.is_empty(), pattern)?;
    for path in found {
        if path.is_dir() { folder(&path, items)? } else { items.push(item(path)) }
    }
    Ok(())
}

fn remote(object: &Object, items: &mut Vec<Item>) -> Result<()> {
    let text = object.path.as_ref();
    let push = |items: &mut Vec<Item>, object: Object| {
        items.push(Item { name: object.url.clone(), place: Place::Remote(object) });
    };
    if let Some(star) = text.find(['*', '?', '[']) {
        let prefix = &text[..text[..star].rfind('/').unwrap_or(0)];
        let pattern = glob::Pattern::new(text)
            .map_err(|e| Error::usage("input/glob", format!("'{}' is not a pattern: {e}", object.url)))?;
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let root = object.sibling(prefix.into());
        let found = root
            .list()?
            .into_iter()
            .filter(|p| pattern.matches_with(p.as_ref(), options))
            .map(|p| root.sibling(p))
            .collect();
        return all(found, &object.url, items, push);
    }
    if kind::from_name(text).0.is_some() || (!text.is_empty() && object.head().is_ok()) {
        push(items, object.clone());
        return Ok(());
    }
    let hidden =
        |p: &object_store::path::Path| p.filename().is_none_or(|n| n.starts_with(['.', '_']) || !named_data(n));
    let found = object.list()?.into_iter().filter(|p| !hidden(p)).map(|p| object.sibling(p)).collect();
    all(found, &object.url, items, push)
}

fn all(found: Vec<Object>, place: &str, items: &mut Vec<Item>, push: impl Fn(&mut Vec<Item>, Object)) -> Result<()> {
    no_data_unless(!found.is_empty(), place)?;
    for object in found {
        push(items, object);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[String]) -> Vec<String> {
        expand(paths, &Stores::default())
            .unwrap()
            .into_iter()
            .map(|i| i.name.rsplit('/').next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn folders_and_globs_are_sorted_and_hidden_files_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b.jsonl",
            "a.parquet",
            "_SUCCESS",
            ".x.jsonl",
            "README.md",
            "picks.parquet.curate.json",
            "dataset_info.json",
        ] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(dir.path().join("c")).unwrap();
        std::fs::write(dir.path().join("c/z.csv.gz"), "x").unwrap();
        let here = dir.path().to_string_lossy().into_owned();
        assert_eq!(names(std::slice::from_ref(&here)), ["a.parquet", "b.jsonl", "z.csv.gz"]);
        assert_eq!(names(&[format!("{here}/*.jsonl")]), ["b.jsonl"]);
        assert_eq!(names(&[format!("file://{here}/c")]), ["z.csv.gz"]);
        let code = |p: String| expand(&[p], &Stores::default()).unwrap_err().code();
        assert_eq!(code(format!("{here}/nothing")), "input/not-found");
        assert_eq!(code(format!("{here}/*.arrow")), "input/no-data");
        assert_eq!(code(format!("{here}/[")), "input/glob");
        assert_eq!(code("ftp://x/y".into()), "store/url");
        assert_eq!(expand(&[], &Stores::default()).unwrap_err().code(), "input/none");
    }
}
