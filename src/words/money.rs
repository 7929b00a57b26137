//! Exact money. One unit is 10⁻¹⁵ USD in an `i128`; a rate is a whole number of nano-dollars per
//! million tokens; tokens × rate is then a whole number of units, with no division and no float.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of US dollars in units of 10⁻¹⁵ USD. Prints as an exact decimal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i128);

const UNIT_DIGITS: usize = 15;
/// So many units are a dollar.
const PER_USD: u128 = 10_u128.pow(UNIT_DIGITS as u32);
const MILLION: i128 = 1_000_000;

impl Usd {
    /// Nothing.
    pub const ZERO: Usd = Usd(0);

    /// An amount of this many units of 10⁻¹⁵ USD.
    pub const fn from_units(units: i128) -> Self {
        Self(units)
    }

    /// How many units of 10⁻¹⁵ USD it is.
    pub const fn units(self) -> i128 {
        self.0
    }

    /// So many of it.
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i128::from(count)))
    }

    /// So many millionths of it, rounded up to a unit.
    pub fn millionths(self, share: u64) -> Self {
        let units = self.0.saturating_mul(i128::from(share));
        Self(units.div_euclid(MILLION) + i128::from(units.rem_euclid(MILLION) > 0))
    }

    /// How many millionths of another amount it is, rounded up; `None` of nothing.
    pub fn millionths_of(self, whole: Usd) -> Option<u64> {
        if whole.0 <= 0 {
            return None;
        }
        let units = self.0.max(0).saturating_mul(MILLION);
        let share = units / whole.0 + i128::from(units % whole.0 > 0);
        Some(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// So many times the amount, shared by so many: rounded half to even to a unit. `None` where there is nobody to
    /// share it.
    pub fn shared(self, times: u64, by: u64) -> Option<Usd> {
        let by = i128::from(by);
        let units = self.times(times).0;
        let (whole, rest) = (units.checked_div_euclid(by)?, units.checked_rem_euclid(by)?);
        let up = rest * 2 > by || (rest * 2 == by && whole % 2 != 0);
        Some(Usd(whole + i128::from(up)))
    }

    /// Rounded to the first three digits that say something, but to a cent at least: `12.35`, `0.00168`. For
    /// people; never for sums.
    pub fn about(self) -> String {
        let exact = Usd(self.0.saturating_abs()).rounded(UNIT_DIGITS);
        let (dollars, fraction) = exact.split_once('.').unwrap_or((&exact, ""));
        let zeros = fraction.len() - fraction.trim_start_matches('0').len();
        match dollars {
            "0" if zeros < UNIT_DIGITS => self.rounded(zeros + 3),
            _ => self.rounded(2),
        }
    }

    /// Rounded half to even at this many decimal places (at most 15), for people; never for sums.
    pub fn rounded(self, places: usize) -> String {
        let places = places.min(UNIT_DIGITS);
        let step = 10_i128.pow((UNIT_DIGITS - places) as u32);
        let (whole, rest) = (self.0.div_euclid(step), self.0.rem_euclid(step));
        let up = rest * 2 > step || (rest * 2 == step && whole % 2 != 0);
        let steps = whole + i128::from(up);
        let sign = if steps < 0 { "-" } else { "" };
        let (dollars, fraction) = {
            let scale = 10_u128.pow(places as u32);
            (steps.unsigned_abs() / scale, steps.unsigned_abs() % scale)
        };
        match places {
            0 => format!("{sign}{dollars}"),
            _ => format!("{sign}{dollars}.{fraction:0places$}"),
        }
    }
}

impl fmt::Display for Usd {
    /// The exact decimal without trailing zeros, at least two places: `0.00`, `1.25`, `0.0000135`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let units = self.0.unsigned_abs();
        let (dollars, mut fraction) = match u64::try_from(units) {
            // What rows cost fits, and is divided far quicker.
            Ok(units) => (u128::from(units / PER_USD as u64), units % PER_USD as u64),
            Err(_) => (units / PER_USD, (units % PER_USD) as u64),
        };
        let mut places = UNIT_DIGITS;
        while places > 2 && fraction.is_multiple_of(10) {
            (places, fraction) = (places - 1, fraction / 10);
        }
        write!(f, "{sign}{dollars}.{fraction:0places$}")
    }
}

impl FromStr for Usd {
    type Err = &'static str;

    /// Reads a decimal with at most 15 places, as [`Usd`] prints it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected US dollars as a decimal with at most 15 places";
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || !all_digits(whole)
            || !all_digits(fraction)
            || fraction.len() > UNIT_DIGITS
        {
            return Err(EXPECTED);
        }
        let parts = fraction.bytes();
        let parts = parts.fold(0, |units, digit| units * 10 + u128::from(digit - b'0'));
        let parts = parts * 10_u128.pow((UNIT_DIGITS - fraction.len()) as u32);
        let units = whole.parse::<u128>().ok();
        let units = units.and_then(|dollars| dollars.checked_mul(PER_USD)?.checked_add(parts));
        let units = units.and_then(|units| i128::try_from(units).ok());
        let units = units.ok_or(EXPECTED)?;
        Ok(Self(if negative { -units } else { units }))
    }
}

impl Serialize for Usd {
    /// As the exact decimal in a string: as a number it would become a float on the way.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)
    }
}

impl Add for Usd {
    type Output = Usd;
    fn add(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Usd;
    fn sub(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        *self = *self + other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(amounts: I) -> Usd {
        amounts.fold(Usd::ZERO, Add::add)
    }
}

/// A price per million tokens, in whole nano-dollars. Parses from a decimal such as `0.15`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// Free.
    pub const ZERO: Rate = Rate(0);

    /// What this many tokens cost.
    pub fn times(self, tokens: u64) -> Usd {
        Usd(i128::from(self.0).saturating_mul(i128::from(tokens)))
    }

    /// The price of a million tokens.
    pub fn per_million(self) -> Usd {
        self.times(1_000_000)
    }
}

impl fmt::Display for Rate {
    /// USD per million tokens as an exact decimal, as it is written: `0.15`, `2.00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.per_million().fmt(f)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "expected USD per million tokens as a decimal with at most 9 places, such as 0.15";
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
            return Err(EXPECTED);
        }
        format!("{whole}{fraction:0<9}")
            .parse()
            .map(Rate)
            .map_err(|_| EXPECTED)
    }
}

/// Reads what was written as a string.
fn read<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = &'static str>,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS_PER_USD: i128 = 1_000_000_000_000_000;

    #[test]
    fn a_rate_is_read_exactly_or_refused() {
        let units = |text: &str| text.parse::<Rate>().map(|rate| rate.times(1).units());
        assert_eq!(units("0.15"), Ok(150_000_000));
        assert_eq!(units("2"), Ok(2_000_000_000));
        assert_eq!(units("0.000000001"), Ok(1));
        for bad in [
            "",
            ".5",
            "-1",
            "1e3",
            "0.0000000001",
            "1,5",
            "99999999999999",
            "nan",
        ] {
            assert!(units(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn money_prints_exactly_and_rounds_half_to_even() {
        assert_eq!(Usd::ZERO.to_string(), "0.00");
        assert_eq!(Usd::from_units(13_500_000_000).to_string(), "0.0000135");
        assert_eq!(Usd::from_units(UNITS_PER_USD).to_string(), "1.00");
        assert_eq!(Usd::from_units(-UNITS_PER_USD / 4).to_string(), "-0.25");
        let half_cent = |units| Usd::from_units(units * UNITS_PER_USD / 1000).rounded(2);
        assert_eq!(half_cent(125), "0.12");
        assert_eq!(half_cent(135), "0.14");
        assert_eq!(half_cent(126), "0.13");
    }

    #[test]
    fn a_share_is_rounded_half_to_even_and_nobody_has_none() {
        let shared = |units, times, by| Usd::from_units(units).shared(times, by).map(Usd::units);
        assert_eq!(shared(10, 1, 4), Some(2));
        assert_eq!(shared(14, 1, 4), Some(4));
        assert_eq!(shared(11, 1, 4), Some(3));
        assert_eq!(shared(-10, 1, 4), Some(-2));
        assert_eq!(shared(10, 3, 10), Some(3));
        assert_eq!(shared(10, 0, 10), Some(0));
        assert_eq!(shared(10, 1, 0), None);
        assert_eq!(shared(i128::MAX, 2, 1), Some(i128::MAX));
    }

    #[test]
    fn about_keeps_three_digits_or_a_cent() {
        let about = |text: &str| text.parse().map(Usd::about);
        for (exact, shown) in [
            ("0.00", "0.00"),
            ("12.3456", "12.35"),
            ("1234.5", "1234.50"),
            ("0.5", "0.500"),
            ("0.0016765", "0.00168"),
            ("0.00000558666", "0.00000559"),
            ("-0.0016765", "-0.00168"),
            ("0.000000000000001", "0.000000000000001"),
        ] {
            assert_eq!(about(exact).as_deref(), Ok(shown), "{exact}");
        }
    }

    #[test]
    fn money_reads_back_what_it_prints() {
        for units in [
            0,
            1,
            -1,
            13_500_000_000,
            UNITS_PER_USD,
            1234 * UNITS_PER_USD + 500,
            i128::MAX / 10,
        ] {
            let amount = Usd::from_units(units);
            assert_eq!(amount.to_string().parse(), Ok(amount));
        }
        for (text, units) in [("0012.5", 25 * UNITS_PER_USD / 2), ("1.", UNITS_PER_USD)] {
            assert_eq!(text.parse(), Ok(Usd::from_units(units)), "{text}");
        }
        let too_much = "1".repeat(30);
        for bad in ["", "-", ".5", "1e3", "0.0000000000000001", "1 ", &too_much] {
            assert!(bad.parse::<Usd>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shares_are_rounded_up_and_no_amount_is_too_large() {
        let units = Usd::from_units;
        assert_eq!(units(10).millionths(250_000), units(3));
        assert_eq!(units(10).millionths(500_000), units(5));
        assert_eq!(units(1).millionths_of(units(3)), Some(333_334));
        assert_eq!(units(3).millionths_of(units(3)), Some(1_000_000));
        assert_eq!(units(3).millionths_of(Usd::ZERO), None);
        let most = units(i128::MAX);
        assert!(most.millionths(2_000_000) > units(i128::MAX / 2_000_000));
        assert!(most.millionths_of(units(1)).is_some());
    }

    #[test]
    fn the_largest_bill_one_can_think_of_does_not_overflow() {
        let rate: Rate = "1000".parse().unwrap();
        assert_eq!(rate.times(1_000_000_000_000).to_string(), "1000000000.00");
        // Nor does what a server makes up: it stops at the largest amount there is.
        let dearest: Rate = "18446744073".parse().unwrap();
        let most = dearest.times(u64::MAX);
        assert_eq!(most, Usd::from_units(i128::MAX));
        assert_eq!(most + most, most);
    }
}
