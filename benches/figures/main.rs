//! The figures of the service, each beside a reference of the same run: `cargo bench --bench figures -- ROW…
//! [NAME=N…]`.
//! ¶ A row is a program in `rows/`; without arguments all are listed. `all` runs all of them and writes
//! `docs/performance.md`. The server is always the real program, as a process of its own, over loopback. Callers and
//! listeners have a thread each in this process. A target that is missed is printed and fails nothing, because machines
//! differ.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod document;
#[path = "../../tests/support/redis.rs"]
mod redis;
mod row;
mod rows;
#[allow(dead_code)] // Likes are written in bulk here.
#[path = "../../tests/front_door/support/seed.rs"]
mod seed;
mod support;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use self::{
    row::Report,
    rows::{PROGRAMS, Program},
    support::sizes::Sizes,
};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes it. Anything else only checks that this program exists.
    if !words.iter().any(|word| word == "--bench") {
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    let (names, sizes): (Vec<&str>, Vec<&str>) = words.into_iter().partition(|word| !word.contains('='));
    let sizes = match Sizes::parse(sizes.into_iter()) {
        Ok(sizes) => sizes,
        Err(error) => return complain(&error),
    };
    let all = names == ["all"] || names == ["--all"];
    let asked: Vec<&Program> = if all {
        PROGRAMS.iter().collect()
    } else {
        match names.iter().map(|name| named(name)).collect() {
            Ok(programs) => programs,
            Err(error) => return complain(&error),
        }
    };
    if asked.is_empty() {
        println!(
            "cargo bench --bench figures -- ROW… [NAME=NUMBER…]\n\n  all          everything, into docs/performance.md"
        );
        PROGRAMS.iter().for_each(|program| println!("  {:<12} {}", program.name, program.about));
        return ExitCode::SUCCESS;
    }
    let (begun, load) = (Instant::now(), document::load());
    let mut found = Report::default();
    for program in asked {
        let since = Instant::now();
        eprintln!("{} …", program.name);
        let report = (program.run)(&sizes);
        print!("{}", report.text());
        eprintln!("{} took {:.0} s", program.name, since.elapsed().as_secs_f64());
        found.add(report);
        // Remains of one row (ending connections, pages on their way to the disk) must not affect the next.
        std::thread::sleep(Duration::from_secs(1));
    }
    println!("\n{}", document::about(&load, begun.elapsed()));
    if all && let Err(error) = document::write(&found, &load, begun.elapsed()) {
        return complain(&error.to_string());
    }
    ExitCode::SUCCESS
}

fn named(name: &str) -> Result<&'static Program, String> {
    let found = PROGRAMS.iter().find(|program| program.name == name);
    found.ok_or_else(|| format!("{name}: no row of that name; without any word all are listed"))
}

fn complain(error: &str) -> ExitCode {
    eprintln!("figures: {error}");
    ExitCode::FAILURE
}
