//! Repeatable randomness: every random test prints its seed.

use rand::{SeedableRng, rngs::StdRng};

/// A random generator for the test of this name. `HANDSUP_TEST_SEED` repeats an earlier run.
pub fn rng(test: &str) -> StdRng {
    let seed = match std::env::var("HANDSUP_TEST_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => rand::random(),
    };
    eprintln!("{test}: HANDSUP_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How often a test kills the program: `HANDSUP_TEST_KILLS`, or 3.
pub fn kills() -> usize {
    std::env::var("HANDSUP_TEST_KILLS").map_or(3, |kills| kills.parse().expect("a number"))
}
