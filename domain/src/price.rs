//! What usage costs: exact decimals, priced by the most specific rate.

use num_bigint::BigInt;
use num_integer::Integer as _;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator as _;

use crate::{
    Coded, decimal,
    validation::{FieldFault, Invalid},
};

/// Decimals of a quotient that has no finite decimal; rounded half-even, once.
pub const QUOTIENT_DECIMALS: u32 = 12;
/// Prices are below this value, so that no sum of costs exceeds a decimal.
pub const PRICE_MAX: i64 = 10_000;
/// Most rates a price list can have.
pub const RATES_MAX: usize = 500;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, strum::EnumString, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Component {
    Stt,
    LlmInput,
    LlmOutput,
    Tts,
    Livekit,
}

impl Component {
    /// The unit in which usage of this component is measured.
    pub const fn usage_unit(self) -> Unit {
        match self {
            Self::Stt | Self::Livekit => Unit::Second,
            Self::LlmInput | Self::LlmOutput => Unit::Token,
            Self::Tts => Unit::Character,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Unit {
    Second,
    Minute,
    Character,
    Token,
}

/// `price` for `per` units of a component's usage, either for every provider and model or for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub component: Component,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(deserialize_with = "decimal::deserialize")]
    pub price: Decimal,
    pub per: u64,
    pub unit: Unit,
}

impl Rate {
    /// Exact cost of one unit of usage: per token, character or second.
    fn per_usage_unit(&self) -> BigRational {
        let seconds = if self.unit == Unit::Minute { 60 } else { 1 };
        rational(self.price) / BigRational::from_integer(BigInt::from(self.per) * seconds)
    }
}

/// The price list of every new company. The units are those of the original; Deepgram's public price is per minute.
pub fn default_rates() -> Vec<Rate> {
    rates_with_speech_per(Unit::Second)
}

/// Rates that a company can publish.
#[derive(Clone, Debug)]
pub struct Preset {
    pub name: &'static str,
    /// Where the prices are from, and since when they are known.
    pub source: &'static str,
    pub note: &'static str,
    pub rates: Vec<Rate>,
}

/// The list of the original, which every new company begins with, and the same list with the unit of the public price of speech.
pub fn presets() -> [Preset; 2] {
    [
        Preset {
            name: "Original",
            source: "configuration of the original platform",
            note: "Every new company begins with this list. Its price of speech recognition is 0.0043 per second; Deepgram's price list has this \
                   number per minute, so that the cost of speech recognition is 60 times the public price.",
            rates: rates_with_speech_per(Unit::Second),
        },
        Preset {
            name: "Public list prices",
            source: "price lists of Deepgram (pre-recorded Nova, Aura-1), Groq (llama-3.1-8b-instant) and LiveKit, as of November 2026",
            note: "Speech recognition per minute of speech. Contracts, other models and streaming have other prices: compare with your invoices.",
            rates: rates_with_speech_per(Unit::Minute),
        },
    ]
}

fn rates_with_speech_per(unit: Unit) -> Vec<Rate> {
    let rate = |component, price, per, unit| Rate { component, provider: None, model: None, price, per, unit };
    vec![
        rate(Component::Stt, Decimal::new(43, 4), 1, unit),
        rate(Component::LlmInput, Decimal::new(5, 2), 1_000_000, Unit::Token),
        rate(Component::LlmOutput, Decimal::new(8, 2), 1_000_000, Unit::Token),
        rate(Component::Tts, Decimal::new(15, 3), 1_000, Unit::Character),
        rate(Component::Livekit, Decimal::new(4, 3), 1, Unit::Minute),
    ]
}

/// The rate for a usage: the rate of the provider and model, else of the provider, else of the component.
pub fn choose<'a>(rates: &'a [Rate], component: Component, provider: Option<&str>, model: Option<&str>) -> Option<&'a Rate> {
    let specificity = |rate: &Rate| match (rate.provider.as_deref(), rate.model.as_deref()) {
        (Some(p), Some(m)) => (Some(p) == provider && Some(m) == model).then_some(2),
        (Some(p), None) => (Some(p) == provider).then_some(1),
        (None, _) => Some(0),
    };
    let candidates = rates.iter().filter(|rate| rate.component == component);
    candidates.filter_map(|rate| Some((specificity(rate)?, rate))).max_by_key(|(s, _)| *s).map(|(_, rate)| rate)
}

/// The components for which the rates have no rate at all: their usage costs nothing.
pub fn without_rate(rates: &[Rate]) -> Vec<Component> {
    Component::iter().filter(|component| rates.iter().all(|rate| rate.component != *component)).collect()
}

/// What can be wrong with a rate.
#[derive(Clone, Copy, Debug, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
enum RateFault {
    #[error("{component} is not priced by the {unit}")]
    OtherUnit { component: Component, unit: Unit },
    #[error("this component, provider and model has a rate already")]
    Repeated,
}

impl Coded for RateFault {
    const AREA: &'static str = "rate";
}

/// Checks rates from a caller; paths start with `rates[i]`.
pub fn validate_rates(rates: &[Rate]) -> Result<(), Invalid> {
    let mut invalid = Invalid::default();
    invalid.require(!rates.is_empty(), "rates", FieldFault::TooFewEntries { min: 1 });
    invalid.require(rates.len() <= RATES_MAX, "rates", FieldFault::TooManyEntries { max: RATES_MAX });
    for (i, rate) in rates.iter().enumerate() {
        let path = |field: &str| format!("rates[{i}].{field}");
        let unit_fits =
            rate.unit == rate.component.usage_unit() || (rate.unit == Unit::Minute && rate.component.usage_unit() == Unit::Second);
        invalid.require(unit_fits, &path("unit"), RateFault::OtherUnit { component: rate.component, unit: rate.unit });
        invalid.require(!rate.price.is_sign_negative() || rate.price.is_zero(), &path("price"), FieldFault::Negative);
        invalid.require(rate.price < Decimal::from(PRICE_MAX), &path("price"), FieldFault::TooLarge { limit: PRICE_MAX });
        invalid.require(rate.per >= 1, &path("per"), FieldFault::TooSmall { min: 1 });
        invalid.require(rate.per == 0 || is_round(rate.per), &path("per"), FieldFault::LargePrimeFactor);
        invalid.require(
            rate.model.is_none() || rate.provider.is_some(),
            &path("model"),
            FieldFault::NeedsField { field: "provider".to_owned() },
        );
        for (name, value) in [("provider", &rate.provider), ("model", &rate.model)] {
            if let Some(value) = value {
                invalid.text(&path(name), value, 100);
            }
        }
        let same = |other: &Rate| (other.component, &other.provider, &other.model) == (rate.component, &rate.provider, &rate.model);
        invalid.require(!rates[..i].iter().any(same), &format!("rates[{i}]"), RateFault::Repeated);
    }
    invalid.into_result()
}

/// Whether a number is a product of 2, 3, 5 and 7. The sum of fractions with such denominators has a denominator of at most 250 bits; with
/// arbitrary ones it would grow with every rate, and with it the time that a bill takes.
fn is_round(number: u64) -> bool {
    let rest = [2, 3, 5, 7].into_iter().fold(i128::from(number), |rest, factor| without(factor, rest).1);
    rest == 1
}

/// Exact cost of `usage`, each a quantity in the component's usage unit with its rate; rounded only as described at [`QUOTIENT_DECIMALS`].
pub fn cost<'a>(usage: impl IntoIterator<Item = (Decimal, &'a Rate)>) -> Decimal {
    let mut usage = usage.into_iter();
    let Some((mut quantity, rate)) = usage.next() else { return Decimal::ZERO };
    while let Some((more, other)) = usage.next() {
        match quantity.checked_add(more).filter(|_| other == rate) {
            Some(sum) => quantity = sum,
            // Several rates: the sum is computed with fractions.
            None => return to_decimal(std::iter::once((quantity, rate)).chain([(more, other)]).chain(usage).map(fraction).sum()),
        }
    }
    in_128_bits(quantity, rate).unwrap_or_else(|| to_decimal(fraction((quantity, rate))))
}

fn fraction((quantity, rate): (Decimal, &Rate)) -> BigRational {
    rational(quantity) * rate.per_usage_unit()
}

/// The same as [`to_decimal`] of the fraction, if everything fits 128 bits. This is nearly always so, and many times as fast.
fn in_128_bits(quantity: Decimal, rate: &Rate) -> Option<Decimal> {
    let seconds = if rate.unit == Unit::Minute { 60 } else { 1 };
    let numerator = quantity.mantissa().checked_mul(rate.price.mantissa())?;
    let denominator = i128::from(rate.per) * seconds;
    let common = numerator.gcd(&denominator);
    let (numerator, denominator) = (numerator.checked_div(common)?, denominator / common);
    let scale = quantity.scale() + rate.price.scale();
    let (twos, rest) = without(2, denominator);
    let (fives, rest) = without(5, rest);
    if rest == 1 {
        // The divisor is 2^a 5^b: the quotient is a finite decimal.
        let digits = twos.max(fives);
        let numerator = numerator.checked_mul(2_i128.pow(digits - twos))?.checked_mul(5_i128.checked_pow(digits - fives)?)?;
        return Decimal::try_from_i128_with_scale(numerator, scale + digits).ok().map(|d| d.normalize());
    }
    let (numerator, denominator) = if scale <= QUOTIENT_DECIMALS {
        (numerator.checked_mul(10_i128.pow(QUOTIENT_DECIMALS - scale))?, denominator)
    } else {
        (numerator, denominator.checked_mul(10_i128.checked_pow(scale - QUOTIENT_DECIMALS)?)?)
    };
    let floor = numerator.div_euclid(denominator);
    let up = match numerator.rem_euclid(denominator).checked_mul(2)?.cmp(&denominator) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Greater => 1,
        std::cmp::Ordering::Equal => floor.rem_euclid(2),
    };
    Decimal::try_from_i128_with_scale(floor + up, QUOTIENT_DECIMALS).ok().map(|d| d.normalize())
}

/// How many times a factor divides a number, and the number without the factor.
fn without(factor: i128, mut number: i128) -> (u32, i128) {
    let mut times = 0;
    while number % factor == 0 {
        number /= factor;
        times += 1;
    }
    (times, number)
}

fn rational(value: Decimal) -> BigRational {
    BigRational::new(BigInt::from(value.mantissa()), BigInt::from(10).pow(value.scale()))
}

/// The finite decimal of `value`, or the nearest with [`QUOTIENT_DECIMALS`] decimals when there is none that fits.
#[expect(clippy::expect_used, reason = "limits of prices and usage, see the message")]
fn to_decimal(value: BigRational) -> Decimal {
    let finite = (0..=Decimal::MAX_SCALE).find_map(|scale| {
        let scaled = &value * BigRational::from_integer(BigInt::from(10).pow(scale));
        scaled.is_integer().then(|| decimal(&scaled.to_integer(), scale)).flatten()
    });
    finite
        .or_else(|| decimal(&round_half_even(&value), QUOTIENT_DECIMALS))
        .expect("PRICE_MAX times all usage of a call is below 10^16, and a decimal holds 10^16 with 12 decimals")
}

fn decimal(mantissa: &BigInt, scale: u32) -> Option<Decimal> {
    Decimal::try_from_i128_with_scale(mantissa.to_i128()?, scale).ok().map(|d| d.normalize())
}

/// `value` times 10^[`QUOTIENT_DECIMALS`], rounded to the nearest integer; of two equally near integers, to the even one.
fn round_half_even(value: &BigRational) -> BigInt {
    let scaled = value * BigRational::from_integer(BigInt::from(10).pow(QUOTIENT_DECIMALS));
    let floor = scaled.floor().to_integer();
    let twice_rest: BigRational = (scaled - BigRational::from_integer(floor.clone())) * BigRational::from_integer(BigInt::from(2));
    let up = match twice_rest.cmp(&BigRational::one()) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => !(&floor % 2_u32).abs().is_zero(),
    };
    if up { floor + 1 } else { floor }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn rate(component: Component, price: &str, per: u64, unit: Unit) -> Rate {
        Rate { component, provider: None, model: None, price: dec(price), per, unit }
    }

    #[test]
    fn costs_with_a_finite_decimal_are_exact() {
        let rates = default_rates();
        let price = |component, quantity| cost([(dec(quantity), choose(&rates, component, None, None).unwrap())]);
        assert_eq!(price(Component::Stt, "45.3"), dec("0.19479"));
        assert_eq!(price(Component::LlmInput, "150"), dec("0.0000075"));
        assert_eq!(price(Component::LlmOutput, "1"), dec("0.00000008"));
        assert_eq!(price(Component::Tts, "350"), dec("0.00525"));
        assert_eq!(price(Component::Livekit, "90"), dec("0.006"));
        let tiny = rate(Component::LlmInput, "0.0000001234567", 1_000_000, Unit::Token);
        assert_eq!(cost([(dec("1"), &tiny)]), dec("0.0000000000001234567"));
    }

    #[test]
    fn quotients_without_one_are_rounded_half_even_to_twelve_decimals_once() {
        let per_minute = rate(Component::Livekit, "0.004", 1, Unit::Minute);
        assert_eq!(cost([(dec("51.203"), &per_minute)]), dec("0.003413533333"));
        assert_eq!(cost([(dec("1"), &per_minute), (dec("2"), &per_minute)]), dec("0.0002"));
        let third = rate(Component::Tts, "0.000000000002", 3, Unit::Character);
        assert_eq!(cost([(dec("1"), &third)]), dec("0.000000000001"));
    }

    #[test]
    fn the_most_specific_rate_wins() {
        let mut rates = vec![
            rate(Component::Stt, "1", 1, Unit::Second),
            rate(Component::Stt, "2", 1, Unit::Second),
            rate(Component::Stt, "3", 1, Unit::Second),
        ];
        rates[1].provider = Some("deepgram".into());
        rates[2].provider = Some("deepgram".into());
        rates[2].model = Some("nova".into());
        let price = |provider, model| choose(&rates, Component::Stt, provider, model).map(|r| r.price);
        assert_eq!(price(Some("deepgram"), Some("nova")), Some(dec("3")));
        assert_eq!(price(Some("deepgram"), Some("flux")), Some(dec("2")));
        assert_eq!(price(Some("google"), Some("nova")), Some(dec("1")));
        assert_eq!(price(None, None), Some(dec("1")));
        assert_eq!(choose(&rates, Component::Tts, None, None), None);
    }

    #[test]
    fn rates_that_mean_nothing_are_refused_with_their_path() {
        let mut rates = vec![rate(Component::Stt, "-1", 0, Unit::Token), rate(Component::Stt, "1", 1, Unit::Minute)];
        rates[0].model = Some("nova".into());
        let paths = |rates: &[Rate]| validate_rates(rates).unwrap_err().0.into_iter().map(|e| e.path).collect::<Vec<_>>();
        assert_eq!(paths(&rates), ["rates[0].unit", "rates[0].price", "rates[0].per", "rates[0].model"]);
        rates[0] = rates[1].clone();
        assert_eq!(paths(&rates), ["rates[1]"]);
        for (per, is_valid) in
            [(1, true), (1_000_000, true), (2_520, true), (1 << 63, true), (11, false), (9_223_372_036_854_775_783, false)]
        {
            let rates = [Rate { per, ..rates[1].clone() }];
            assert_eq!(validate_rates(&rates).is_ok(), is_valid, "{per}");
        }
        assert_eq!(paths(&[]), ["rates"]);
    }

    proptest! {
        /// Arithmetic in 128 bits gives the same result as arithmetic in fractions, whenever it gives a result.
        #[test]
        fn short_arithmetic_is_that_of_fractions(quantity in 0..i64::MAX, scale in 0..9_u32, price in 0..1_000_000_000_i64, price_scale in 0..20_u32, per in prop_oneof![1..1_000_u64, Just(1_000_000), any::<u64>().prop_map(|n| n.max(1))], unit in prop_oneof![Just(Unit::Second), Just(Unit::Minute)]) {
            let rate = rate(Component::Livekit, &Decimal::new(price, price_scale).to_string(), per, unit);
            let quantity = Decimal::new(quantity, scale);
            if let Some(short) = in_128_bits(quantity, &rate) {
                prop_assert_eq!(short, to_decimal(fraction((quantity, &rate))));
            }
        }

        /// The cost of usage does not depend on how the usage is split: rounding happens once.
        #[test]
        fn cost_does_not_depend_on_how_usage_is_cut(pieces in prop::collection::vec(0..1_000_000_i64, 1..20), price in 0..1_000_000_i64, per in 1..1000_u64) {
            let rate = rate(Component::Livekit, &Decimal::new(price, 6).to_string(), per, Unit::Minute);
            let whole: i64 = pieces.iter().sum();
            let cut = cost(pieces.iter().map(|p| (Decimal::new(*p, 3), &rate)));
            prop_assert_eq!(cut, cost([(Decimal::new(whole, 3), &rate)]));
        }
    }
}
