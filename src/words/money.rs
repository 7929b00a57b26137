//! Exact money. One unit is 10⁻¹⁵ USD in an `i128`; a rate is a whole number of nano-dollars per
//! million tokens; tokens × rate is then a whole number of units, with no division and no float.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use super::Usage;

/// An amount of US dollars in units of 10⁻¹⁵ USD. Prints as an exact decimal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i128);

const UNIT_DIGITS: usize = 15;

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
        let exact = self.rounded(UNIT_DIGITS);
        let (dollars, fraction) = exact.split_once('.').unwrap_or((&exact, ""));
        write!(f, "{dollars}.{:0<2}", fraction.trim_end_matches('0'))
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
        let units: i128 = format!("{whole}{fraction:0<UNIT_DIGITS$}")
            .parse()
            .map_err(|_| EXPECTED)?;
        Ok(Self(if negative { -units } else { units }))
    }
}

impl Add for Usd {
    type Output = Usd;
    fn add(self, other: Usd) -> Usd {
        Usd(self.0 + other.0)
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        self.0 += other.0;
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
        Usd(i128::from(self.0) * i128::from(tokens))
    }

    /// The price of a million tokens.
    pub fn per_million(self) -> Usd {
        self.times(1_000_000)
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

/// What each class of token costs. A class without a price of its own is charged at its parent's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Input that no cache served.
    pub input: Rate,
    /// Output, reasoning included.
    pub output: Rate,
    /// Input read from the provider's prompt cache.
    pub cache_read: Option<Rate>,
    /// Input written to the cache for the short lifetime.
    pub cache_write_5m: Option<Rate>,
    /// Input written to the cache for an hour.
    pub cache_write_1h: Option<Rate>,
}

impl Rates {
    /// What this usage costs; `None` where input or output is not known.
    fn cost(&self, usage: &Usage) -> Option<Usd> {
        let (input, output) = (usage.input_tokens?, usage.output_tokens?);
        let read = usage.cache_read_input_tokens.unwrap_or(0);
        let write_5m = usage.cache_write_5m_input_tokens.unwrap_or(0);
        let write_1h = usage.cache_write_1h_input_tokens.unwrap_or(0);
        let cached = read.saturating_add(write_5m).saturating_add(write_1h);
        // Parts that exceed their whole are inconsistent: the dearer reading charges both in full.
        let uncached = input.checked_sub(cached).unwrap_or(input);
        Some(
            self.input.times(uncached)
                + self.cache_read.unwrap_or(self.input).times(read)
                + self.cache_write_5m.unwrap_or(self.input).times(write_5m)
                + self.cache_write_1h.unwrap_or(self.input).times(write_1h)
                + self.output.times(output),
        )
    }

    fn dearest_input(&self) -> Rate {
        [self.cache_read, self.cache_write_5m, self.cache_write_1h]
            .into_iter()
            .flatten()
            .fold(self.input, Rate::max)
    }
}

/// What a model costs, and above which prompt size it costs more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    /// The rates of an ordinary request.
    pub rates: Rates,
    /// The rates of a whole request whose input exceeds this many tokens.
    pub above: Option<(u64, Rates)>,
}

impl Price {
    /// A local model: every token is free.
    pub const FREE: Price = Price {
        rates: Rates {
            input: Rate::ZERO,
            output: Rate::ZERO,
            cache_read: None,
            cache_write_5m: None,
            cache_write_1h: None,
        },
        above: None,
    };

    fn rates_for(&self, input_tokens: u64) -> &Rates {
        match &self.above {
            Some((threshold, rates)) if input_tokens > *threshold => rates,
            _ => &self.rates,
        }
    }

    /// What this usage costs; `None` where input or output tokens are not known.
    pub fn cost(&self, usage: &Usage) -> Option<Usd> {
        self.rates_for(usage.input_tokens?).cost(usage)
    }

    /// The most that a request can cost: every input byte a token at the dearest input rate, and the
    /// whole output cap.
    pub fn most(&self, input_bytes: u64, max_tokens: u64) -> Usd {
        let rates = self.rates_for(input_bytes);
        rates.dearest_input().times(input_bytes) + rates.output.times(max_tokens)
    }
}

/// What an attempt cost. Unknown is never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Exactly this.
    Known(Usd),
    /// Nobody knows: possibly nothing, at most this (where a bound exists).
    Unknown {
        /// The upper bound; `None` where neither a price nor a cap is known.
        at_most: Option<Usd>,
    },
    /// Tokens were used, but no price is known for the model.
    Unpriced,
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
        for bad in ["", "-", ".5", "1e3", "0.0000000000000001", "1 "] {
            assert!(bad.parse::<Usd>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cached_tokens_are_charged_once_at_their_own_rate() {
        let price = Price {
            rates: Rates {
                input: "3".parse().unwrap(),
                output: "15".parse().unwrap(),
                cache_read: Some("0.3".parse().unwrap()),
                cache_write_5m: Some("3.75".parse().unwrap()),
                cache_write_1h: Some("6".parse().unwrap()),
            },
            above: None,
        };
        let usage = Usage {
            cache_read_input_tokens: Some(600),
            cache_write_5m_input_tokens: Some(100),
            ..Usage::new(1000, 10)
        };
        // 300 x 3 + 600 x 0.3 + 100 x 3.75 + 10 x 15 = 1605 millionths of a dollar.
        assert_eq!(price.cost(&usage).unwrap().to_string(), "0.001605");
        let unknown = Usage {
            output_tokens: None,
            ..usage
        };
        assert_eq!(price.cost(&unknown), None);
    }

    #[test]
    fn a_request_above_the_threshold_is_charged_whole_at_the_upper_rates() {
        let rates = |input: &str| Rates {
            input: input.parse().unwrap(),
            ..Rates::default()
        };
        let price = Price {
            rates: rates("1"),
            above: Some((200_000, rates("2"))),
        };
        assert_eq!(
            price.cost(&Usage::new(200_000, 0)).unwrap().to_string(),
            "0.20"
        );
        assert_eq!(
            price.cost(&Usage::new(200_001, 0)).unwrap().to_string(),
            "0.400002"
        );
    }

    #[test]
    fn the_largest_bill_one_can_think_of_does_not_overflow() {
        let rate: Rate = "1000".parse().unwrap();
        assert_eq!(rate.times(1_000_000_000_000).to_string(), "1000000000.00");
    }
}
