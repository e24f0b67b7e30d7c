//! Randomness that can be had again: every test that rolls dice says its seed.

use rand::{SeedableRng, rngs::StdRng};

/// Dice for the test of this name. `HANDSUP_TEST_SEED` throws them as in an earlier run.
pub fn dice(test: &str) -> StdRng {
    let seed = match std::env::var("HANDSUP_TEST_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => rand::random(),
    };
    eprintln!("{test}: HANDSUP_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How often the program is killed in one test: `HANDSUP_TEST_KILLS`, a few if it isn't set.
pub fn kills() -> usize {
    std::env::var("HANDSUP_TEST_KILLS").map_or(3, |kills| kills.parse().expect("a number"))
}
