//! Numbers in JSON answers.

use rust_decimal::{Decimal, prelude::ToPrimitive as _};

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 microseconds")]
pub fn ms(us: i64) -> f64 {
    us as f64 / 1_000.0
}

/// An exact number of seconds as a JSON number.
#[expect(clippy::expect_used, reason = "Decimal::to_f64 always gives one")]
pub fn seconds(exact: Decimal) -> f64 {
    exact.to_f64().expect("every decimal has a nearest f64")
}

/// `part / whole` as a share; `None` if `whole` is zero.
#[expect(clippy::cast_precision_loss, reason = "a share")]
pub fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
