//! The direction of the layers, held by reading the `use` lines and paths: nobody imports upward, no two files import each
//! other, and the frameworks stay in their layers. ARCHITECTURE.md says why.
#![allow(clippy::unwrap_used, missing_docs)]

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// From the bottom to the top; a room may import the rooms before it.
const ROOMS: [&str; 10] =
    ["domain", "time_source", "outage", "protocol", "store", "bus", "actors", "http", "app", "cli"];

/// Crates that only some rooms may know.
const CRATES: [(&str, &[&str]); 9] = [
    ("diesel", &["store"]),
    ("diesel_migrations", &["store"]),
    ("actix", &["actors", "http", "app", "cli"]),
    ("actix_web", &["actors", "http", "app", "cli"]),
    ("actix_files", &["http"]),
    ("actix_web_actors", &["actors", "http"]),
    ("tokio", &["time_source", "store", "bus", "actors", "http", "app", "cli"]),
    ("redis", &["bus"]),
    ("postcard", &["bus"]),
];

/// The places within the actors' layer, from the bottom to the top.
const ACTORS: [&str; 8] = ["room_id", "delivery", "rooms", "connection", "bidding", "clock", "session", "worker"];

/// What decides is plain: these files of the actors' layer know no framework at all.
const PLAIN: [&str; 10] = [
    "actors/clock/deadlines.rs",
    "actors/bidding/bid_queue.rs",
    "actors/rooms/sequencer.rs",
    "actors/bidding/committed_goods.rs",
    "actors/bidding/load_shedder.rs",
    "actors/delivery/overflow.rs",
    "actors/delivery/registry.rs",
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

/// Path below `src`, and the text without comments.
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

fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// First names of paths that begin with `prefix`: `crate::{a::X, b}` gives a and b.
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
fn nobody_imports_upward() {
    for (file, code) in all() {
        let Some(rank) = ROOMS.iter().position(|name| *name == room(&file)) else {
            assert!(["lib.rs", "main.rs"].contains(&file.as_str()), "{file} is in no room");
            continue;
        };
        for named in named_after(&code, "crate::") {
            let Some(other) = ROOMS.iter().position(|name| *name == named) else {
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
fn nobody_imports_upward_within_the_actors() {
    let place = |file: &str| {
        let within = file.strip_prefix("actors/")?;
        ACTORS.iter().position(|place| *place == room(within))
    };
    for ((from, to), names) in between_files() {
        if let (Some(rank), Some(other)) = (place(&from), place(&to)) {
            assert!(other <= rank, "{from} imports {names:?} of {to}, which is above it");
        }
        let is_face = ["actors/mod.rs"].contains(&from.as_str());
        assert!(is_face || !from.starts_with("actors/") || place(&from).is_some(), "{from} is in no place");
    }
}

#[test]
fn frameworks_stay_in_their_rooms() {
    for (file, code) in all() {
        for (name, rooms) in CRATES {
            let named = code.contains(&format!("{name}::"));
            let allowed = rooms.contains(&room(&file)) || ["lib.rs", "main.rs"].contains(&file.as_str());
            assert!(!named || allowed, "{file} names {name}");
        }
    }
}

#[test]
fn what_decides_is_plain() {
    let all = all();
    for plain in PLAIN {
        let (_, code) = all.iter().find(|(file, _)| file == plain).unwrap_or_else(|| panic!("{plain} is gone"));
        for framework in ["actix", "tokio::", "diesel"] {
            assert!(!code.contains(framework), "{plain} names {framework}");
        }
    }
}

#[test]
fn no_handler_reaches_the_database_itself() {
    for (file, code) in all() {
        if ["actors", "http"].contains(&room(&file)) {
            for blocking in ["std::fs", "std::thread::sleep", "spawn_blocking", "r2d2"] {
                assert!(!code.contains(blocking), "{file} names {blocking}");
            }
        }
    }
}

#[test]
fn the_reader_of_imports_sees_what_it_should() {
    let code = "use crate::{\n    app::{Node, Settings},\n    domain::UserId, store,\n};\nlet x = crate::http::Y;";
    let found: Vec<_> = named_after(code, "crate::").into_iter().collect();
    assert_eq!(found, ["app", "domain", "http", "store"]);
}
