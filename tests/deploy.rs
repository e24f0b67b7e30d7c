//! `deploy/` and `docs/operating.md` agree with the program. Their files are read as text, line by line. Only `handsup
//! config` and `handsup man` are started.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// Long enough for a key, and in no file.
const SECRET: &str = "a-secret-of-this-test-and-of-nothing-else";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines without comments and empty lines.
fn lines(path: &str) -> Vec<String> {
    let text = read(path);
    let is_comment = |line: &&str| line.trim_start().starts_with('#');
    text.lines().filter(|line| !is_comment(line) && !line.trim().is_empty()).map(str::to_owned).collect()
}

/// What follows `before` in the lines that contain it, up to `until`.
fn all_behind<'a>(lines: &'a [String], before: &str, until: &[char]) -> Vec<&'a str> {
    let rest = |line: &'a String| line.split_once(before).map(|(_, rest)| rest);
    lines.iter().filter_map(rest).map(|rest| rest.split(until).next().unwrap_or(rest).trim()).collect()
}

fn behind<'a>(lines: &'a [String], before: &str, until: &[char]) -> &'a str {
    let found = all_behind(lines, before, until);
    found.first().unwrap_or_else(|| panic!("no line with {before:?}"))
}

/// The lines of one block: those after `head` that are indented more.
fn block(lines: &[String], head: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let at = lines.iter().position(|line| line.trim() == head).unwrap_or_else(|| panic!("no {head:?}"));
    let inside = |line: &&String| indent(line) > indent(&lines[at]);
    lines[at + 1..].iter().take_while(inside).cloned().collect()
}

/// `10s`, `1m` or `20` in seconds.
fn seconds(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    number.parse::<i64>().unwrap() * if unit == "m" { 60 } else { 1 }
}

/// All variables in the form `HANDSUP__SECTION__KEY=value` or `HANDSUP__SECTION__KEY: value`.
fn environment(path: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in lines(path) {
        let Some(at) = line.find("HANDSUP__") else { continue };
        let name: String = line[at..].chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
        let value = line[at + name.len()..].trim_start_matches([':', '=', ' ']).trim_end_matches(['\\', ' ']);
        // Compose inserts the values of `.env`.
        let value = match value.strip_prefix("${") {
            // Compose passes it on only if it is set.
            None if value.is_empty() => continue,
            Some(rest) if rest.contains(":?") => SECRET.to_owned(),
            Some(rest) => rest.trim_end_matches('}').split_once(":-").map_or("", |(_, other)| other).to_owned(),
            None => value.to_owned(),
        };
        found.insert(name, value);
    }
    assert!(!found.is_empty(), "{path} sets something");
    found
}

/// The settings that `handsup config` makes of it.
fn settings(path: &str, environment: &BTreeMap<String, String>) -> toml::Table {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_handsup"));
    let ran = command.arg("config").current_dir(folder.path()).env_clear().envs(environment).output().unwrap();
    assert!(ran.status.success(), "{path}: {}", String::from_utf8_lossy(&ran.stderr));
    let shown = String::from_utf8(ran.stdout).unwrap();
    assert!(!shown.contains(SECRET), "{path}: {shown}");
    shown.parse().unwrap()
}

fn port(bind: &str) -> &str {
    bind.rsplit_once(':').unwrap().1
}

fn number(settings: &toml::Table, section: &str, key: &str) -> i64 {
    settings[section][key].as_integer().unwrap()
}

#[test]
fn the_program_accepts_the_settings_of_image_unit_and_compose() {
    let image = environment("deploy/Dockerfile");
    let in_image = settings("deploy/Dockerfile", &image);
    assert!(in_image["server"]["bind"].as_str().unwrap().starts_with("0.0.0.0:"), "reached from outside of it");

    let mut node = image.clone();
    node.extend(environment("deploy/compose.yaml"));
    let node = settings("deploy/compose.yaml", &node);
    let database = node["database"]["url"].as_str().unwrap();
    assert!(database.starts_with("postgres://"), "two nodes share it: {database}");
    assert!(read("deploy/compose.yaml").contains("HANDSUP__BUS__URL: redis://redis\n"), "and share a bus");

    let unit = settings("deploy/handsup.service", &environment("deploy/handsup.service"));
    let folder = behind(&lines("deploy/handsup.service"), "StateDirectory=", &[]).to_owned();
    let database = unit["database"]["url"].as_str().unwrap();
    assert!(database.starts_with(&format!("sqlite:///var/lib/{folder}/")), "it may write nowhere else: {database}");
}

#[test]
fn ports_and_addresses_agree() {
    let image = lines("deploy/Dockerfile");
    let bind = environment("deploy/Dockerfile").remove("HANDSUP__SERVER__BIND").unwrap();
    let port = port(&bind);
    assert_eq!(behind(&image, "EXPOSE ", &[]), port);
    assert_eq!(behind(&image, "/dev/tcp/127.0.0.1/", &[' ']), port, "the image asks itself");

    let compose = lines("deploy/compose.yaml");
    let nginx = lines("deploy/nginx.conf");
    let address = |service: &str| {
        let service = block(&compose, &format!("{service}:"));
        behind(&service, "ipv4_address: ", &[' ', '}']).to_owned()
    };
    let mut upstreams = all_behind(&nginx, " server ", &[' ', ';']);
    upstreams.retain(|upstream| *upstream != "{");
    assert_eq!(upstreams.len(), 4, "two nodes, for calls and for sockets");
    for upstream in upstreams {
        let (name, of_node) = upstream.split_once(':').unwrap();
        assert_eq!(of_node, port, "{upstream}");
        let node = block(&compose, &format!("{name}:"));
        assert!(node.iter().any(|line| line.trim() == "<<: *node"), "{name} is a node");
        assert!(behind(&node, "ports: [", &[']']).trim_matches('"').ends_with(&format!(":{port}")), "{name}");
        let host = format!("- \"{name}:{}\"", address(name));
        assert!(block(&compose, "nginx:").iter().any(|line| line.trim() == host), "{host}");
        let waited = block(&block(&compose, "nginx:"), &format!("{name}:"));
        assert!(waited.iter().any(|line| line.trim() == "condition: service_healthy"), "{name}");
    }
    let proxies = environment("deploy/compose.yaml").remove("HANDSUP__SERVER__TRUSTED_PROXIES").unwrap();
    assert_eq!(proxies, address("nginx"), "nginx is who may say where a client is");
    let published = block(&compose, "nginx:");
    let inside = behind(&published, "ports: [", &[']']).trim_matches('"').rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(behind(&nginx, "        listen ", &[';']), inside);
    // The hosts in a node's URLs are services, and the node waits for them.
    let waited = block(&block(&compose, "x-node: &node"), "depends_on:");
    for url in ["HANDSUP__DATABASE__URL: postgres://handsup@", "HANDSUP__BUS__URL: redis://"] {
        let service = format!("{}:", behind(&compose, url, &['/']));
        assert!(waited.iter().any(|line| line.trim() == service), "{service}");
        assert!(block(&compose, "services:").iter().any(|line| line.trim() == service), "{service}");
    }
}

#[test]
fn limits_and_timeouts_around_a_node_are_wider_than_its_own() {
    let defaults = settings("deploy/Dockerfile", &environment("deploy/Dockerfile"));
    let compose = lines("deploy/compose.yaml");
    let node = block(&compose, "x-node: &node");
    let unit = lines("deploy/handsup.service");
    let nginx = lines("deploy/nginx.conf");

    // A node stops within 10 s.
    assert!(seconds(behind(&node, "stop_grace_period: ", &[])) > 10);
    assert!(seconds(behind(&unit, "TimeoutStopSec=", &[])) > 10);
    let sockets = number(&defaults, "session", "max");
    for files in [behind(&node, "nofile: ", &[]), behind(&unit, "LimitNOFILE=", &[])] {
        assert!(files.parse::<i64>().unwrap() > sockets + 1000, "{files}");
    }
    // The sockets of both nodes may be on one worker, each with a connection to the client and one to the node.
    for connections in ["worker_connections ", "worker_rlimit_nofile "] {
        assert!(behind(&nginx, connections, &[';']).parse::<i64>().unwrap() > 4 * sockets, "{connections}");
    }
    let files = behind(&nginx, "worker_rlimit_nofile ", &[';']).parse::<i64>().unwrap();
    let allowed = block(&compose, "nginx:");
    assert!(behind(&allowed, "nofile: ", &[]).parse::<i64>().unwrap() >= files);

    let body = number(&defaults, "limits", "body_bytes").to_string();
    assert_eq!(behind(&nginx, "client_max_body_size ", &[';']), body);
    assert!(read("deploy/nginx.conf").contains(&format!("at most {body} bytes")), "what is said to the client");
    let silence = number(&defaults, "session", "heartbeat_s").max(number(&defaults, "session", "timeout_s"));
    for location in ["location /ws/ {", "location /alarms/stream {"] {
        let location = block(&nginx, location);
        assert!(seconds(behind(&location, "proxy_read_timeout ", &[';'])) > silence, "{location:?}");
    }
    // A node sends a 503 within 3 s.
    assert!(seconds(behind(&block(&nginx, "location / {"), "proxy_read_timeout ", &[';'])) > 3);
}

#[test]
fn nginx_repeats_no_bid_and_logs_no_token() {
    let nginx = lines("deploy/nginx.conf");
    assert!(!nginx.iter().any(|line| line.contains("non_idempotent")), "a bid that was sent is not sent again");
    assert!(!nginx.iter().any(|line| line.trim().starts_with("keepalive ")), "the comment there says why");
    let like = block(&nginx, "location /goods/like/ {");
    assert!(like.iter().any(|line| line.trim() == "proxy_next_upstream off;"), "a GET that toggles");

    let format: String = {
        let begins = nginx.iter().position(|line| line.contains("log_format ")).unwrap();
        let ends = begins + nginx[begins..].iter().position(|line| line.ends_with(';')).unwrap();
        nginx[begins..=ends].concat()
    };
    let variables: Vec<&str> = format
        .split('$')
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap())
        .collect();
    let harmless = [
        "remote_addr",
        "time_iso",
        "request_method",
        "uri",
        "status",
        "body_bytes_sent",
        "request_time",
        "request_id",
        "upstream_addr",
        "upstream_status",
        "upstream_response_time",
    ];
    for variable in &variables {
        assert!(harmless.contains(variable), "${variable} may hold a token");
    }
    let logs = all_behind(&nginx, "    access_log ", &[';']);
    assert!(logs.len() == 1 && logs[0].ends_with(" without_query"), "{logs:?}");
    // Messages about requests contain their first line, so only the main level, which is not about requests, logs more.
    let of_requests = all_behind(&nginx, "    error_log ", &[';']);
    assert!(of_requests.len() == 1 && of_requests[0].ends_with(" emerg"), "{of_requests:?}");
}

#[test]
fn no_file_contains_a_secret_and_none_gets_into_the_image() {
    let is_secret = |name: &str| ["SECRET", "PASSWORD", "TOKEN"].iter().any(|word| name.contains(word));
    for line in lines("deploy/.env.example") {
        let (name, value) = line.split_once('=').unwrap();
        assert!(!is_secret(name) || value.is_empty(), "{name}");
    }
    for line in lines("deploy/compose.yaml") {
        let Some((name, value)) = line.trim().split_once(": ") else { continue };
        assert!(!is_secret(name) || value.starts_with("${"), "{line}");
    }
    for file in ["deploy/Dockerfile", "deploy/handsup.service"] {
        assert!(!environment(file).keys().any(|name| is_secret(name)), "{file}");
    }
    let with_password =
        |line: &String| line.split_once("://").is_some_and(|(_, rest)| rest.contains(':') && rest.contains('@'));
    for file in ["deploy/Dockerfile", "deploy/handsup.service", "deploy/compose.yaml", "deploy/.env.example"] {
        assert!(!lines(file).iter().any(with_password), "{file}");
    }
    assert!(lines(".gitignore").iter().any(|line| line == "/deploy/.env"));
    assert_eq!(lines(".dockerignore")[0], "*", "what is not named stays out");
    assert!(!lines(".dockerignore").iter().any(|line| line.contains("deploy") || line.contains("local.toml")));
    // The example has every variable that compose asks for.
    let example = read("deploy/.env.example");
    for variable in read("deploy/compose.yaml").split("${").skip(1) {
        let name = variable.split([':', '}']).next().unwrap();
        assert!(example.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}");
    }
    for line in lines("deploy/compose.yaml").iter().filter(|line| line.contains("HANDSUP__") && line.ends_with(':')) {
        let name = line.trim().trim_end_matches(':');
        assert!(example.lines().any(|line| line == format!("#{name}=")), "{name}");
    }
}

#[test]
fn the_image_is_built_as_the_manifest_says_and_gets_signals() {
    let image = lines("deploy/Dockerfile");
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    assert_eq!(behind(&image, "ARG RUST=", &[]), manifest["package"]["rust-version"].as_str().unwrap());
    let build = behind(&image, "RUN cargo build ", &[]);
    assert!(build.contains("--release") && build.contains("--locked"), "{build}");
    assert!(image.iter().any(|line| line == "ENTRYPOINT [\"handsup\"]"), "no shell between signals and the process");
    let user = behind(&image, "USER ", &[':']);
    assert!(user.parse::<u32>().unwrap() > 0, "a number that is not root's: {user}");
    assert!(read("deploy/Dockerfile").contains("FEATURES=postgres-tls"));
    assert!(manifest["features"].as_table().unwrap().contains_key("postgres-tls"));
    // Cargo needs the files of all targets that the manifest names.
    let context = lines(".dockerignore");
    for target in ["tests/postgres_tls.rs", "benches", "src", "migrations", "config/default.toml", "Cargo.lock"] {
        assert!(context.contains(&format!("!{target}")), "{target}");
    }
}

/// The page cites log lines as the program writes them.
#[test]
fn the_cited_log_lines_are_the_programs() {
    fn texts(folder: &Path, into: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                texts(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut sources = String::new();
    texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let operating = read("docs/operating.md");
    let logs = operating.split("\n## ").find(|section| section.starts_with("Logs\n")).unwrap();
    let cited: Vec<&str> = logs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(cited.len() > 10, "{cited:?}");
    for line in cited {
        for part in line.split('…').map(str::trim).filter(|part| part.len() > 2) {
            assert!(sources.contains(part.trim_end_matches(':')), "{part:?} of {line:?}");
        }
    }
}

/// `scripts/package --try` installs it; this is what needs no root.
#[test]
fn the_package_holds_what_the_unit_and_its_scripts_expect() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets: Vec<[String; 3]> = deb["assets"].clone().try_into().unwrap();
    let (made, kept): (Vec<_>, Vec<_>) = assets.iter().partition(|[from, ..]| from.starts_with("target/"));
    assert!(made.len() >= 2 && kept.len() >= 3, "{assets:?}");
    for [from, to, mode] in kept {
        assert!(!read(from).is_empty());
        assert_eq!(mode, "644", "{to}");
    }
    let unit = lines("deploy/handsup.service");
    assert_eq!(behind(&unit, "ExecStart=", &[' ']), "handsup");
    assert!(assets.iter().any(|[_, to, mode]| to == "usr/bin/" && mode == "755"), "{assets:?}");
    let folder = behind(&unit, "WorkingDirectory=", &[]).to_owned();
    let settings = deb["conf-files"][0].as_str().unwrap();
    assert_eq!(settings, format!("{folder}/config/local.toml"), "the program reads it there");
    let secrets = behind(&unit, "EnvironmentFile=", &[]).to_owned();
    let data = format!("/var/lib/{}", behind(&unit, "StateDirectory=", &[]));
    let user = behind(&unit, "User=", &[]).to_owned();
    let (install, remove) = (read("deploy/debian/postinst"), read("deploy/debian/postrm"));
    assert!(install.contains(&format!("mv {secrets}.new {secrets}\n")) && install.contains(&format!(" {user}\n")));
    assert!(remove.contains(&format!("rm -rf {secrets} {secrets}.new {data}\n")), "{remove}");
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let man = |to: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handsup"));
        command.args(["man", "--to"]).arg(to).env_clear().output().unwrap()
    };
    assert!(man(folder.path()).status.success());
    let page = |name: &str| fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
    assert!(page("handsup").contains("HANDSUP__SECTION__KEY"), "where settings come from");
    for command in ["serve", "migrate", "copy", "backup", "token", "config", "man"] {
        assert!(page("handsup").contains(&format!("handsup\\-{command}(1)")), "{command}");
        assert!(page(&format!("handsup-{command}")).contains(".SH SYNOPSIS"), "{command}");
    }
    let refused = man(&folder.path().join("none"));
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(String::from_utf8(refused.stderr).unwrap().lines().count(), 1);
}

/// The names of the alerts.
fn alerts() -> Vec<String> {
    all_behind(&lines("deploy/alerts.yml"), "- alert: ", &[]).into_iter().map(str::to_owned).collect()
}

#[test]
fn every_alert_has_its_line_in_the_manual() {
    let manual = read("docs/operating.md");
    let (_, section) = manual.split_once("\n## Alerts\n").expect("a section");
    let section = section.split("\n## ").next().unwrap();
    let explained: Vec<_> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect();
    assert_eq!(explained, alerts());
    assert!(explained.len() > 20);
}

#[test]
fn the_dashboard_is_json_and_each_panel_says_what_it_shows() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (rows, panels): (Vec<_>, Vec<_>) = panels.iter().partition(|panel| panel["type"] == "row");
    assert!(rows.len() >= 8 && panels.len() >= 30);
    for panel in panels {
        let texts = [&panel["title"], &panel["description"], &panel["targets"][0]["expr"]];
        assert!(texts.iter().all(|text| text.as_str().is_some_and(|text| !text.is_empty())), "{panel}");
    }
}

/// `scripts/test --all` installs it: `promtool`, of Debian's package `prometheus`.
#[test]
fn promtool_accepts_the_alerts_and_their_tests_pass() {
    if std::env::var("HANDSUP_TEST_PROMTOOL").is_err() {
        return;
    }
    for words in [
        ["check", "config", "deploy/prometheus.yml"],
        ["check", "rules", "deploy/alerts.yml"],
        ["test", "rules", "tests/alerts/alerts.test.yml"],
    ] {
        let ran = Command::new("promtool").args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(ran.status.success() && said.contains("SUCCESS"), "{words:?}: {said}");
    }
}
