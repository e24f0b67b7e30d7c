//! What a start reads and finds: it says what it has opened, and stops rather than go on with something else.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use crate::{
    settings::{good, refuses},
    support::Handsup,
};

/// Nothing was made in the folder beside what the test put there: no database of its own was opened.
fn made_nothing(handsup: &Handsup) {
    assert!(!handsup.folder().join("data").exists(), "it opened a database");
}

/// Makes something of this name that can't be read.
type Spoil = fn(&Path);

#[test]
fn a_settings_file_that_is_there_and_cannot_be_read_stops_the_start() {
    for (path, words) in [
        ("config/default.toml", &["serve"][..]),
        ("config/local.toml", &["serve"]),
        ("mine.toml", &["serve", "--config", "mine.toml"]),
    ] {
        let spoils: [(&str, Spoil); 5] = [
            ("a folder", |file| fs::create_dir(file).unwrap()),
            ("a link to nowhere", |file| symlink("nowhere.toml", file).unwrap()),
            ("a link to itself", |file| symlink(file.file_name().unwrap(), file).unwrap()),
            ("no text", |file| fs::write(file, b"# \xff\n").unwrap()),
            ("somebody else's", |file| {
                fs::write(file, "[database]\nurl = \"sqlite://mine.db\"\n").unwrap();
                fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap();
            }),
        ];
        for (what, spoil) in spoils {
            let handsup = good().file("config/README", "");
            let file = handsup.folder().join(path);
            spoil(&file);
            if what == "somebody else's" && fs::read(&file).is_ok() {
                // Root reads everything.
                continue;
            }
            refuses(&handsup, words, path);
            refuses(&handsup, &[&["config"], &words[1..]].concat(), path);
            made_nothing(&handsup);
        }
    }
    // Without the file, or without its folder, the settings are complete.
    for handsup in [good(), good().file("config", "a file of another program")] {
        assert!(handsup.run(&["config"]).status.success());
    }
}

#[test]
fn an_empty_value_stops_the_start_wherever_it_stands() {
    for key in [
        "database.url",
        "server.bind",
        "server.workers",
        "server.media_dir",
        "server.allowed_origins",
        "server.trusted_proxies",
        "bus.url",
        "auth.jwt_secret",
        "auth.jwt_secret_previous",
        "auth.dev_login",
        "auction.time_zone",
        "alarms.locale",
        "session.max",
    ] {
        for empty in ["", "  "] {
            let handsup = good().set(key, empty);
            refuses(&handsup, &["serve"], key);
            refuses(&handsup, &["config"], key);
            made_nothing(&handsup);
        }
    }
    for (text, key) in [
        ("[database]\nurl = \"\"\n", "database.url"),
        ("[auth]\njwt_secret_previous = \" \"\n", "auth.jwt_secret_previous"),
        ("[server]\nallowed_origins = [\"https://market.example\", \"\"]\n", "server.allowed_origins"),
    ] {
        let handsup = good().file("config/local.toml", text);
        refuses(&handsup, &["serve"], key);
        made_nothing(&handsup);
    }
    // An item of a list is a value as well.
    refuses(&good().set("server.trusted_proxies", "10.0.0.1,,10.0.0.2"), &["serve"], "server.trusted_proxies");
    refuses(&good().set("server.allowed_origins", ","), &["serve"], "server.allowed_origins");
}
