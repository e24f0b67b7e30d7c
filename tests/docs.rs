//! The documents agree with each other and with the code: links lead somewhere, named files exist, and every fault of
//! the origin has its tests. Everything is read as text. `tests/front_door/protocol_doc.rs` runs the examples of
//! `docs/protocol.md`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Folders whose files may name a document.
const FOLDERS: [&str; 8] = ["src", "tests", "benches", "docs", "config", "deploy", "migrations", "scripts"];
/// The number of the origin's faults.
const FAULTS: usize = 18;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// Path and text of all text files at the root and below its folders.
fn texts() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    for folder in FOLDERS {
        files_below(&root().join(folder), &mut files);
    }
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let texts: Vec<_> = files.iter().filter_map(|path| Some((name(path), fs::read_to_string(path).ok()?))).collect();
    assert!(texts.len() > 200, "the files were found");
    texts
}

fn documents() -> BTreeMap<String, String> {
    texts().into_iter().filter(|(name, _)| name.ends_with(".md")).collect()
}

/// The lines outside of code blocks, with their numbers.
fn prose(document: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let mut prose = Vec::new();
    for (at, line) in document.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            prose.push((at + 1, line));
        }
    }
    prose
}

/// The anchors that links may use for this document's headings, as the usual viewers derive them.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(document) {
        let Some((_, heading)) = line.split_once("# ").filter(|(marks, _)| marks.chars().all(|c| c == '#')) else {
            continue;
        };
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = (1..).map(|time| format!("{anchor}-{time}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// Targets of a line's links: `[text](target)`. Backquoted text is not a link.
fn links(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("](") {
        let is_code = line[..at].matches('`').count() % 2 == 1;
        let target = line[at + 2..].split(')').next().unwrap();
        if !is_code {
            found.push(target);
        }
    }
    found
}

/// Why a relative target of this document leads nowhere, if it does.
fn is_broken(from: &str, target: &str, documents: &BTreeMap<String, String>) -> Option<&'static str> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let mut parts: Vec<&str> = from.split('/').collect();
    if !path.is_empty() {
        parts.pop();
    }
    for part in path.split('/').filter(|part| !["", "."].contains(part)) {
        match part {
            ".." if parts.pop().is_none() => return Some("leads out of the repository"),
            ".." => {}
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    match (documents.get(&path), anchor) {
        _ if !root().join(&path).exists() => Some("leads to no file"),
        (Some(document), Some(anchor)) if !anchors(document).contains(anchor) => Some("leads to no heading"),
        (None, Some(_)) => Some("has an anchor into what is no document"),
        _ => None,
    }
}

#[test]
fn every_relative_link_leads_to_an_existing_file_and_heading() {
    let documents = documents();
    let (mut seen, mut broken) = (0, Vec::new());
    for (name, document) in &documents {
        for (line, text) in prose(document) {
            for target in links(text).into_iter().filter(|target| !target.contains("://")) {
                seen += 1;
                broken.extend(is_broken(name, target, &documents).map(|why| format!("{name}:{line}: {target} {why}")));
            }
        }
    }
    assert!(seen > 12, "the links were found");
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn every_named_document_is_in_the_repository() {
    let documents = documents();
    let is_part = |c: char| c.is_alphanumeric() || "_-./#".contains(c);
    let (mut seen, mut missing) = (0, Vec::new());
    // This file names some that do not exist.
    for (name, text) in texts().into_iter().filter(|(name, _)| name != "tests/docs.rs") {
        for (line, text) in text.lines().enumerate() {
            for (at, _) in text.match_indices(".md") {
                let begins = text[..at].rfind(|c: char| !is_part(c)).map_or(0, |before| before + 1);
                let begins = (begins..=at).find(|begins| text.is_char_boundary(*begins)).unwrap();
                let ends = text[at..].find(|c: char| !is_part(c)).map_or(text.len(), |length| at + length);
                let named = text[begins..ends].trim_end_matches('.');
                // A mere file extension, in code.
                if begins == at || text[..begins].ends_with("//") || named.starts_with("//") {
                    continue;
                }
                seen += 1;
                // Relative to the root or to the file itself.
                if is_broken("", named, &documents).is_some() && is_broken(&name, named, &documents).is_some() {
                    missing.push(format!("{name}:{}: {named}", line + 1));
                }
            }
        }
    }
    assert!(seen > 50, "the names were found");
    assert_eq!(missing, Vec::<String>::new());
}

/// Names in a text that begin with `fault_N`.
fn fault_names<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    let starts = format!("{before}fault_");
    let name = |at: usize| {
        let rest = &text[at + before.len()..];
        &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
    };
    let names = text.match_indices(starts.as_str()).map(|(at, _)| name(at));
    names.filter(|name| name.as_bytes().get("fault_".len()).is_some_and(u8::is_ascii_digit)).collect()
}

/// The numbers at the beginning of a test's name: `fault_10_and_11_…` is of both.
fn faults_of(name: &str) -> Vec<usize> {
    let mut parts = name.split('_').skip(1);
    let mut faults: Vec<usize> = parts.next().and_then(|number| number.parse().ok()).into_iter().collect();
    if let (Some("and"), Some(number)) = (parts.next(), parts.next()) {
        faults.extend(number.parse::<usize>());
    }
    faults
}

#[test]
fn every_fault_of_the_origin_has_its_tests_and_its_part_of_the_page() {
    let page = fs::read_to_string(root().join("docs/origin-faults.md")).unwrap();
    let parts: Vec<&str> = page.split("\n## ").skip(1).collect();
    assert_eq!(parts.len(), FAULTS);
    let texts = texts();
    let code = texts.iter().filter(|(name, _)| name.ends_with(".rs") && name != "tests/docs.rs");
    let tests: BTreeSet<&str> = code.flat_map(|(_, text)| fault_names(text, "fn ")).collect();
    for (fault, part) in (1..).zip(&parts) {
        assert!(part.starts_with(&format!("Fault {fault}: ")), "{part}");
        let of_fault = tests.iter().copied().filter(|name| faults_of(name).contains(&fault));
        let of_fault: BTreeSet<&str> = of_fault.collect();
        assert!(!of_fault.is_empty(), "fault {fault} has no test");
        assert_eq!(fault_names(part, "- `"), of_fault, "the page and the tests of fault {fault}");
    }
    let strays: Vec<_> = tests.iter().filter(|name| !(1..=FAULTS).contains(&faults_of(name)[0])).collect();
    assert_eq!(strays, Vec::<&&str>::new(), "no such fault");
}

#[test]
fn the_glossary_is_in_order() {
    let page = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let terms: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).skip(2).collect();
    assert!(terms.len() > 50, "the terms were found");
    assert!(terms.is_sorted_by(|a, b| a < b), "{terms:?}");
}

#[test]
fn links_and_headings_are_read_like_viewers_do() {
    assert_eq!(links("[a](b.md#c) and [d](https://e), `[f](g)` and [h](i)"), ["b.md#c", "https://e", "i"]);
    let page = "# A page: of `code`\n```\n# none\n```\n## Twice\n## Twice\n### What's *this*?\n#no\n";
    let found: Vec<String> = anchors(page).into_iter().collect();
    assert_eq!(found, ["a-page-of-code", "twice", "twice-1", "whats-this"]);
    let documents = BTreeMap::from([("docs/protocol.md".to_owned(), page.to_owned())]);
    let broken = |target| is_broken("docs/protocol.md", target, &documents);
    assert_eq!(
        (broken("#twice"), broken("protocol.md#twice-1"), broken("../src/lib.rs"), broken("..")),
        Default::default()
    );
    assert_eq!(broken("#thrice"), Some("leads to no heading"));
    assert_eq!(broken("nothing.md"), Some("leads to no file"));
    assert_eq!(broken("../../x"), Some("leads out of the repository"));
    assert_eq!(broken("../src/lib.rs#x"), Some("has an anchor into what is no document"));
}
