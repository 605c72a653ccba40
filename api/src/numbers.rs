//! Numbers in JSON bodies and answers.

use domain::{decimal::read_exact, validation::Invalid};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde_json::Number;

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

/// Reads an optional number exactly; a number outside the range of a decimal is an error at `path`.
pub fn exact(path: &str, number: Option<&Number>, invalid: &mut Invalid) -> Option<Decimal> {
    let read = number.map(|number| read_exact(&number.to_string())).transpose();
    read.unwrap_or_else(|error| {
        invalid.add(path, error);
        None
    })
}
