//! The direction of the layers, read from `use` lines and paths: nothing imports upward, no files import each other in
//! a circle, and frameworks stay in their layers. ARCHITECTURE.md says why.
#![allow(clippy::unwrap_used)]

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// From the bottom to the top; a layer may import the layers before it.
const LAYERS: [&str; 12] = [
    "domain",
    "time_source",
    "outage",
    "metrics",
    "protocol",
    "store",
    "bus",
    "actors",
    "http",
    "app",
    "cli",
    "test_support",
];

/// Crates that only some layers may use.
const CRATES: [(&str, &[&str]); 10] = [
    ("diesel", &["store"]),
    ("diesel_migrations", &["store"]),
    ("actix", &["actors", "http", "app", "cli"]),
    ("actix_web", &["actors", "http", "app", "cli"]),
    ("actix_files", &["http"]),
    ("actix_web_actors", &["actors", "http"]),
    ("tokio", &["time_source", "store", "bus", "actors", "http", "app", "cli"]),
    ("redis", &["bus"]),
    ("postcard", &["bus"]),
    ("prometheus_client", &["metrics"]),
];

/// The parts of the actors' layer, from the bottom to the top.
const ACTORS: [&str; 9] =
    ["room_id", "poller", "delivery", "rooms", "connection", "bidding", "clock", "session", "worker"];

/// These files of the actors' layer only decide, and use no framework.
const WITHOUT_FRAMEWORKS: [&str; 12] = [
    "actors/clock/deadlines.rs",
    "actors/connection/closing.rs",
    "actors/bidding/bid_queue.rs",
    "actors/rooms/sequencer.rs",
    "actors/bidding/committed_goods.rs",
    "actors/bidding/load_shedder.rs",
    "actors/delivery/mailbox_overflow.rs",
    "actors/delivery/registry.rs",
    "actors/delivery/received.rs",
    "actors/rooms/membership.rs",
    "actors/delivery/outbox.rs",
    "actors/bidding/arrival_gate.rs",
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Each file's path below `src`, and its text without comments.
fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 40, "the sources were found");
    let code = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    };
    files.iter().map(|path| (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), code(path))).collect()
}

fn layer(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The first names of paths that begin with `prefix`: `crate::{a::X, b}` gives a and b.
fn named_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        if !rest.starts_with('{') {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            continue;
        }
        let (mut depth, mut name, mut fresh) = (0, String::new(), true);
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                _ => {}
            }
            let is_name = c.is_alphanumeric() || c == '_';
            if depth == 1 && fresh && is_name {
                name.push(c);
            } else if !name.is_empty() {
                found.insert(std::mem::take(&mut name));
                fresh = false;
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

#[test]
fn nothing_imports_upward() {
    for (file, code) in all() {
        let Some(rank) = LAYERS.iter().position(|name| *name == layer(&file)) else {
            assert!(["lib.rs", "main.rs"].contains(&file.as_str()), "{file} is in no layer");
            continue;
        };
        for named in named_after(&code, "crate::") {
            let Some(other) = LAYERS.iter().position(|name| *name == named) else {
                panic!("{file} names crate::{named}")
            };
            assert!(other <= rank, "{file} imports {named}, which is above it");
        }
    }
}

fn between_files() -> BTreeMap<(String, String), BTreeSet<String>> {
    imports::between_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let found = between_files();
    assert!(found.len() > 300, "imports were found: {}", found.len());
    assert!(found.contains_key(&("actors/bidding/bid_actor.rs".into(), "store/writes/bids.rs".into())), "re-exports");
    assert_eq!(imports::circle(&found), None);
}

#[test]
fn nothing_imports_upward_within_the_actors() {
    let part = |file: &str| {
        let within = file.strip_prefix("actors/")?;
        ACTORS.iter().position(|part| *part == layer(within))
    };
    for ((from, to), names) in between_files() {
        if let (Some(rank), Some(other)) = (part(&from), part(&to)) {
            assert!(other <= rank, "{from} imports {names:?} of {to}, which is above it");
        }
        let is_face = ["actors/mod.rs"].contains(&from.as_str());
        assert!(is_face || !from.starts_with("actors/") || part(&from).is_some(), "{from} is in no part");
    }
}

#[test]
fn frameworks_stay_in_their_layers() {
    for (file, code) in all() {
        for (name, layers) in CRATES {
            let named = code.contains(&format!("{name}::"));
            let allowed = layers.contains(&layer(&file)) || ["lib.rs", "main.rs"].contains(&file.as_str());
            assert!(!named || allowed, "{file} names {name}");
        }
    }
}

#[test]
fn files_that_decide_use_no_framework() {
    let all = all();
    for deciding in WITHOUT_FRAMEWORKS {
        let (_, code) = all.iter().find(|(file, _)| file == deciding).unwrap_or_else(|| panic!("{deciding} is gone"));
        for framework in ["actix", "tokio::", "diesel"] {
            assert!(!code.contains(framework), "{deciding} names {framework}");
        }
    }
}

#[test]
fn no_handler_uses_the_database_directly() {
    for (file, code) in all() {
        if ["actors", "http"].contains(&layer(&file)) {
            for blocking in ["std::fs", "std::thread::sleep", "spawn_blocking", "r2d2"] {
                assert!(!code.contains(blocking), "{file} names {blocking}");
            }
        }
    }
}

#[test]
fn the_reader_of_imports_finds_every_form() {
    let code = "use crate::{\n    app::{Node, Settings},\n    domain::UserId, store,\n};\nlet x = crate::http::Y;";
    let found: Vec<_> = named_after(code, "crate::").into_iter().collect();
    assert_eq!(found, ["app", "domain", "http", "store"]);
}
