//! Converts counts of things in memory to `i64`, the type of positions, versions and SQL.

/// A count as an `i64`.
#[expect(clippy::expect_used, reason = "no memory holds 2^63 things")]
pub fn to_i64(count: usize) -> i64 {
    i64::try_from(count).expect("no memory holds 2^63 things")
}

/// A count or limit, which is never negative, as a `usize`.
///
/// # Panics
/// If it is negative: this is a bug in the caller, which must check limits from outside.
#[expect(clippy::expect_used, reason = "the caller has checked the limit")]
pub fn to_usize(count: i64) -> usize {
    usize::try_from(count).expect("a count is not negative, and a usize has 64 bits")
}
