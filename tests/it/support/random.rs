//! Randomness that a failed run can be repeated with.

/// A generator with a seed of its own in each run; it is printed, and `CASTELLAN_SEED` repeats it.
pub(crate) fn random_of(test: &str) -> fastrand::Rng {
    let seed = std::env::var("CASTELLAN_SEED").ok();
    let seed = seed.map_or_else(|| fastrand::u64(..1 << 30), |it| it.parse().unwrap());
    println!("{test}: CASTELLAN_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
