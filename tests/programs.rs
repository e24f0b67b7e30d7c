//! The programs that scripts and tests run: those on every Debian, and those that the README names. A bare machine
//! should need nothing else; CONTRIBUTING.md describes a real trial.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    iter::Peekable,
    path::{Path, PathBuf},
    str::Chars,
};

/// On every Debian: essential or required packages.
const BASE: [(&str, &str); 12] = [
    ("apt", "apt-get"),
    ("bash", "bash"),
    (
        "coreutils",
        "cat chmod chown chroot cp date df dirname env head id install ls mkdir mktemp mv rm rmdir sleep sort stat tail uname",
    ),
    ("dash", "sh"),
    ("dpkg", "dpkg dpkg-deb"),
    ("grep", "grep"),
    ("gzip", "gzip"),
    ("mawk", "awk"),
    ("mount", "mount umount"),
    ("sed", "sed"),
    ("tar", "tar"),
    ("util-linux", "runuser"),
];
/// Programs to install, by their names in the README.
const NAMED: [(&str, &str); 12] = [
    // `.ci/run` builds cargo-deny itself, `scripts/package` cargo-deb and the program.
    ("Rust", "cargo cargo-deb cargo-deny handsup"),
    ("`apt-get install gcc libc6-dev`", "cc"),
    ("`postgresql`", "initdb pg_ctl"),
    ("`redis-server`", "redis-server"),
    ("`openssl`", "openssl"),
    // npm installs the `node` that runs the tests of the client library.
    ("`npm`", "npm node"),
    ("`pkg-config`", "pkg-config"),
    ("`prometheus`", "prometheus promtool"),
    ("`git`", "git"),
    ("`dpkg-dev`", "dpkg-shlibdeps"),
    ("`debootstrap`", "debootstrap"),
    // Packages from PyPI are installed into a folder of their own.
    ("`python3-venv`", "python3 schemathesis"),
];
/// The shell's built-in commands.
const BUILTIN: &str = ": [ break cd command continue echo eval exec exit export false kill local printf read return set shift \
                       source test trap true type ulimit umask unset wait";
const KEYWORDS: &str = "! do done elif else esac fi for if in then time until while case function { }";
/// Words that may precede a command.
const BEFORE: &str = "! do elif else exec if then time until while {";

fn is_one_of(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|one| one == word)
}

fn files(folder: &str, ends: &str) -> Vec<(String, String)> {
    fn below(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(&path, into) } else { into.push(path) }
        }
    }
    let mut found = Vec::new();
    below(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    found.retain(|path| path.to_str().unwrap().ends_with(ends));
    found.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

/// The words of a shell script in the place of a command. Not a full parser: enough for the scripts of this repository.
fn commands(script: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    Reader { chars: script.chars().peekable(), found: &mut found }.read(None);
    let is_function = |word: &String| script.contains(&format!("{word}() {{"));
    found.into_iter().filter(|word| !is_function(word)).collect()
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    found: &'a mut BTreeSet<String>,
}

impl Reader<'_> {
    /// Reads to the end of a script, or of brackets or quotes. Returns what is quoted.
    fn read(&mut self, until: Option<char>) -> String {
        let (mut word, mut is_command, mut before) = (String::new(), until != Some('"'), '\n');
        while let Some(c) = self.chars.next() {
            let is_redirection = c == '&' && (before == '>' || self.chars.peek() == Some(&'>'));
            before = c;
            match c {
                _ if Some(c) == until => break,
                '\\' => drop(self.chars.next().filter(|next| *next != '\n').map(|next| word.push(next))),
                '\'' if until != Some('"') => self.chars.by_ref().take_while(|c| *c != '\'').for_each(|c| word.push(c)),
                '"' => word.push_str(&self.read(Some('"'))),
                '$' if self.chars.peek() == Some(&'(') => {
                    self.chars.next();
                    word.push('$');
                    if self.chars.next_if_eq(&'(').is_some() {
                        // An arithmetic expression.
                        self.chars.by_ref().take_while(|c| *c != ')').for_each(drop);
                        self.chars.next();
                    } else {
                        self.read(Some(')'));
                    }
                }
                '$' => {
                    word.push('$');
                    if self.chars.next_if_eq(&'{').is_some() {
                        self.chars.by_ref().take_while(|c| *c != '}').for_each(drop);
                    }
                }
                c if until == Some('"') => word.push(c),
                '#' if word.is_empty() => {
                    self.chars.by_ref().take_while(|c| *c != '\n').for_each(drop);
                    is_command = true;
                }
                // The pattern of a case, or the name of a function.
                ')' | '(' if !word.is_empty() => {
                    word.clear();
                    is_command = true;
                }
                '\n' | ';' | '|' | '&' | '(' | ')' if !is_redirection => {
                    self.end(&mut word, is_command);
                    is_command = true;
                }
                c if c.is_whitespace() => is_command = self.end(&mut word, is_command),
                c => word.push(c),
            }
        }
        if until != Some('"') {
            self.end(&mut word, is_command);
        }
        word
    }

    /// Ends a word; returns whether the next one is in the place of a command.
    fn end(&mut self, word: &mut String, is_command: bool) -> bool {
        let word = std::mem::take(word);
        let is_assignment = word.split_once('=').is_some_and(|(name, _)| {
            name.chars().all(|c| c.is_ascii_alphanumeric() || "_[]+".contains(c)) && !name.is_empty()
        });
        if word.is_empty() || !is_command || is_assignment || word.contains(['<', '>']) {
            return is_command;
        }
        // What follows a variable is a program, too: "$bin/pg_ctl".
        let name = word.rsplit('/').next().unwrap_or_default();
        if !name.is_empty() && !name.contains(['$', '"']) && !is_one_of(KEYWORDS, &word) {
            self.found.insert(name.to_owned());
        }
        // "${as_somebody[@]}" may be empty or precede a command.
        word == "$" || is_one_of(BEFORE, &word)
    }
}

/// Programs that Rust code starts by name.
fn started(code: &str) -> BTreeSet<String> {
    let after = code.split("Command::new(\"").skip(1);
    after.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// Whether a machine set up by the README has this program.
fn is_allowed(program: &str, readme: &str) -> bool {
    let of = |list: &[(&'static str, &str)]| {
        list.iter().find(|(_, programs)| is_one_of(programs, program)).map(|(package, _)| *package)
    };
    is_one_of(BUILTIN, program) || of(&BASE).is_some() || of(&NAMED).is_some_and(|named| readme.contains(named))
}

#[test]
fn scripts_and_tests_run_only_programs_that_the_readme_names() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let scripts = files("scripts", "").into_iter().chain(files(".ci", ""));
    let of_scripts: Vec<_> = scripts.map(|(file, text)| (file, commands(&text))).collect();
    let of_tests = files("tests", ".rs").into_iter().map(|(file, text)| (file, started(&text)));
    let mut all = BTreeSet::new();
    for (file, programs) in of_scripts.into_iter().chain(of_tests) {
        for program in programs {
            let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(&program);
            let is_example = file.ends_with("programs.rs");
            assert!(is_example || own.exists() || is_allowed(&program, &readme), "{file} runs {program}");
            all.insert(program);
        }
    }
    for found in ["cargo", "redis-server", "pg_ctl", "initdb", "awk", "apt-get", "runuser", "openssl", "bash"] {
        assert!(all.contains(found), "the search finds {found}: {all:?}");
    }
}

#[test]
fn the_search_finds_what_a_script_runs() {
    let script = r#"
#!/usr/bin/env bash
# kill nothing
set -eu
port=$((20000 + RANDOM % 12000))
say() { echo "not: me (nor: this)" >&2; }
found=$( (command -v pg_ctl; ls -d /usr/lib/*/bin 2>/dev/null | sort -rV) | head -n 1) || true
case "$1" in
    --all) all=true ;;
    *) say "usage" >&2; exit 2 ;;
esac
if ! grep -q 'x; y' "$(dirname "$found")/file"; then
    "${as_owner[@]}" "$bin/initdb" -D x && TMPDIR=$(mktemp -d) runuser -u postgres -- \
        env
fi
exec strace "$@" &
"#;
    let found: Vec<String> = commands(script).into_iter().collect();
    let wanted = [
        "command", "dirname", "echo", "env", "exec", "exit", "grep", "head", "initdb", "ls", "mktemp", "runuser",
        "set", "sort", "strace", "true",
    ];
    let found: Vec<&str> = found.iter().map(String::as_str).filter(|word| *word != "env").collect();
    let wanted: Vec<&str> = wanted.into_iter().filter(|word| *word != "env").collect();
    assert_eq!(found, wanted);
    let code = format!("Command::new({:?}).arg(1); Command::new(env!(1)); Command::{}", "kill", "new(\"prlimit\")");
    assert_eq!(started(&code).into_iter().collect::<Vec<_>>(), ["kill", "prlimit"]);
    assert!(!is_allowed("strace", "") && !is_allowed("redis-server", "") && is_allowed("awk", ""));
}
