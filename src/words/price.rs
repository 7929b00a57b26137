//! What a request costs: rates by class of token, and the bill that follows from them.

use std::iter::Sum;
use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::usage::Classes;
use super::{Rate, Usage, Usd};

/// What is charged apart: disjoint classes of tokens, and what is charged beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenClass {
    /// Input that no cache served.
    Input,
    /// Input read from the provider's prompt cache.
    CacheRead,
    /// Input written to the cache for the short lifetime.
    CacheWrite5m,
    /// Input written to the cache for an hour.
    CacheWrite1h,
    /// Output but for reasoning.
    Output,
    /// Reasoning.
    Reasoning,
    /// Tokens that only the provider's total knows of.
    Unclassified,
    /// No tokens: the fee of a request.
    Request,
    /// No tokens: the time of a server that is paid by the hour.
    ServerTime,
}

impl TokenClass {
    /// Every class, in the order of reports.
    pub const ALL: [TokenClass; 9] = [
        TokenClass::Input,
        TokenClass::CacheRead,
        TokenClass::CacheWrite5m,
        TokenClass::CacheWrite1h,
        TokenClass::Output,
        TokenClass::Reasoning,
        TokenClass::Unclassified,
        TokenClass::Request,
        TokenClass::ServerTime,
    ];

    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenClass::Input => "input",
            TokenClass::CacheRead => "cache_read",
            TokenClass::CacheWrite5m => "cache_write_5m",
            TokenClass::CacheWrite1h => "cache_write_1h",
            TokenClass::Output => "output",
            TokenClass::Reasoning => "reasoning",
            TokenClass::Unclassified => "unclassified",
            TokenClass::Request => "request",
            TokenClass::ServerTime => "server_time",
        }
    }
}

/// An amount, class by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bill([Usd; TokenClass::ALL.len()]);

impl Bill {
    /// What it comes to.
    pub fn total(&self) -> Usd {
        self.0.iter().copied().sum()
    }

    /// What a class comes to.
    pub fn of(&self, class: TokenClass) -> Usd {
        self.0[class as usize]
    }

    fn set(&mut self, class: TokenClass, amount: Usd) {
        self.0[class as usize] = amount;
    }
}

impl AddAssign for Bill {
    fn add_assign(&mut self, other: Bill) {
        let both = self.0.iter_mut().zip(other.0);
        both.for_each(|(sum, amount)| *sum += amount);
    }
}

impl Sum for Bill {
    fn sum<I: Iterator<Item = Bill>>(bills: I) -> Bill {
        bills.fold(Bill::default(), |mut sum, bill| {
            sum += bill;
            sum
        })
    }
}

/// What each class of token costs. A class without a price of its own is charged at its parent's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Input that no cache served.
    pub input: Rate,
    /// Output, reasoning included.
    pub output: Rate,
    /// Input read from the provider's prompt cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Rate>,
    /// Input written to the cache for the short lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<Rate>,
    /// Input written to the cache for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<Rate>,
}

impl Rates {
    /// Nothing for any token.
    pub const FREE: Rates = Rates {
        input: Rate::ZERO,
        output: Rate::ZERO,
        cache_read: None,
        cache_write_5m: None,
        cache_write_1h: None,
    };

    fn bill(&self, used: &Classes) -> Bill {
        let mut bill = Bill::default();
        let input = |own: Option<Rate>| own.unwrap_or(self.input);
        let dearest = self.dearest_input().max(self.output);
        for (class, rate, tokens) in [
            (TokenClass::Input, self.input, used.input),
            (
                TokenClass::CacheRead,
                input(self.cache_read),
                used.cache_read,
            ),
            (
                TokenClass::CacheWrite5m,
                input(self.cache_write_5m),
                used.cache_write_5m,
            ),
            (
                TokenClass::CacheWrite1h,
                input(self.cache_write_1h),
                used.cache_write_1h,
            ),
            (TokenClass::Output, self.output, used.output),
            (TokenClass::Reasoning, self.output, used.reasoning),
            (TokenClass::Unclassified, dearest, used.unclassified),
        ] {
            bill.set(class, rate.times(tokens));
        }
        bill
    }

    /// How much dearer this input would have been without the provider's cache: less than nothing where more was
    /// written to it than read.
    fn saved(&self, used: &Classes) -> Usd {
        let parts = [
            (self.cache_read, used.cache_read),
            (self.cache_write_5m, used.cache_write_5m),
            (self.cache_write_1h, used.cache_write_1h),
        ];
        let saved = parts.map(|(own, tokens)| {
            self.input.times(tokens) - own.unwrap_or(self.input).times(tokens)
        });
        saved.into_iter().sum()
    }

    fn dearest_input(&self) -> Rate {
        [self.cache_read, self.cache_write_5m, self.cache_write_1h]
            .into_iter()
            .flatten()
            .fold(self.input, Rate::max)
    }
}

/// What a model costs, above which prompt size it costs more, and what else is charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The rates of an ordinary request.
    #[serde(flatten)]
    pub rates: Rates,
    /// The rates of a whole request whose input exceeds this many tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Above>,
    /// The fee of each request that is answered.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub per_request: Usd,
    /// What an hour of the server costs, whatever it does; requests in flight together share it.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub per_hour: Usd,
}

/// Other rates for requests with much input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Above {
    /// They hold for the whole of a request with more input tokens than this.
    pub tokens: u64,
    /// The rates.
    pub rates: Rates,
}

/// What bounds a request's cost before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// No more input tokens: a token is at least one byte.
    pub input_bytes: u64,
    /// The output cap; `None` where there is none.
    pub max_tokens: Option<u64>,
    /// How long it may take; `None` where nobody looks after that.
    pub timeout: Option<Duration>,
}

const MICROSECONDS_PER_HOUR: i128 = 3_600_000_000;

impl Price {
    /// A local model: everything is free.
    pub const FREE: Price = Price {
        rates: Rates::FREE,
        above: None,
        per_request: Usd::ZERO,
        per_hour: Usd::ZERO,
    };

    /// Whether whatever is asked costs nothing.
    pub fn is_free(&self) -> bool {
        self.per_hour == Usd::ZERO && self.is_free_of_requests()
    }

    /// Whether no token costs anything: then it makes no difference how many there are.
    pub fn is_free_of_tokens(&self) -> bool {
        let free =
            |rates: &Rates| rates.dearest_input() == Rate::ZERO && rates.output == Rate::ZERO;
        free(&self.rates) && self.above.is_none_or(|above| free(&above.rates))
    }

    /// Whether neither tokens nor requests cost anything: then it makes no difference what becomes of one.
    pub fn is_free_of_requests(&self) -> bool {
        self.per_request == Usd::ZERO && self.is_free_of_tokens()
    }

    fn rates_for(&self, input_tokens: u64) -> &Rates {
        match &self.above {
            Some(above) if input_tokens > above.tokens => &above.rates,
            _ => &self.rates,
        }
    }

    /// What an answered request with this usage costs; `None` where the tokens or the time are not known that
    /// make a difference.
    pub fn bill(&self, usage: &Usage) -> Option<Bill> {
        let mut bill = match usage.classes() {
            Some(classes) => self.rates_for(usage.input_tokens?).bill(&classes),
            None if self.is_free_of_tokens() => Bill::default(),
            None => return None,
        };
        bill.set(TokenClass::Request, self.per_request);
        bill.set(TokenClass::ServerTime, self.time(usage)?);
        Some(bill)
    }

    /// What the provider's prompt cache saved in a request with this usage: what its bill would be at the plain
    /// rate for input, less its bill. Below zero where writing to the cache cost more than reading saved. `None`
    /// where the tokens are not known.
    pub fn saved_by_prompt_cache(&self, usage: &Usage) -> Option<Usd> {
        let classes = usage.classes()?;
        Some(self.rates_for(usage.input_tokens?).saved(&classes))
    }

    /// What a request without an answer costs of which nothing but the time is charged.
    pub fn bill_of_time(&self, usage: &Usage) -> Option<Bill> {
        let mut bill = Bill::default();
        bill.set(TokenClass::ServerTime, self.time(usage)?);
        Some(bill)
    }

    /// What the time costs that a request took.
    fn time(&self, usage: &Usage) -> Option<Usd> {
        match self.per_hour {
            Usd::ZERO => Some(Usd::ZERO),
            _ => Some(self.hours(usage.server_time_us?)),
        }
    }

    /// Rounded up to a unit: the only division there is.
    fn hours(&self, microseconds: u64) -> Usd {
        let units = self
            .per_hour
            .units()
            .saturating_mul(i128::from(microseconds));
        Usd::from_units(
            units / MICROSECONDS_PER_HOUR + i128::from(units % MICROSECONDS_PER_HOUR > 0),
        )
    }

    /// The most that a request can cost: every input byte a token at the dearest rate for input, the whole
    /// output cap, all of the time. `None` where something is not bounded that makes a difference.
    pub fn most(&self, bounds: &Bounds) -> Option<Usd> {
        let above = self.above.map(|above| above.rates);
        let all = [
            Some(self.rates),
            above.filter(|_| self.reaches_above(bounds)),
        ];
        let most = |rates: Rates| -> Option<Usd> {
            let output = match (rates.output, bounds.max_tokens) {
                (Rate::ZERO, _) => Usd::ZERO,
                (rate, cap) => rate.times(cap?),
            };
            Some(rates.dearest_input().times(bounds.input_bytes) + output)
        };
        let tokens: Option<Vec<Usd>> = all.into_iter().flatten().map(most).collect();
        let time = match self.per_hour {
            Usd::ZERO => Usd::ZERO,
            _ => {
                let microseconds = bounds.timeout?.as_micros();
                self.hours(u64::try_from(microseconds).unwrap_or(u64::MAX))
            }
        };
        let tokens = tokens?.into_iter().max().unwrap_or_default();
        Some(tokens + self.per_request + time)
    }

    fn reaches_above(&self, bounds: &Bounds) -> bool {
        self.above
            .is_some_and(|above| bounds.input_bytes > above.tokens)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_nothing(amount: &Usd) -> bool {
    *amount == Usd::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    fn cost(price: &Price, usage: &Usage) -> Option<String> {
        price.bill(usage).map(|bill| bill.total().to_string())
    }

    fn cached() -> Price {
        Price {
            rates: Rates {
                input: rate("3"),
                output: rate("15"),
                cache_read: Some(rate("0.3")),
                cache_write_5m: Some(rate("3.75")),
                cache_write_1h: Some(rate("6")),
            },
            ..Price::FREE
        }
    }

    #[test]
    fn cached_tokens_are_charged_once_at_their_own_rate() {
        let usage = Usage {
            cache_read_input_tokens: Some(600),
            cache_write_5m_input_tokens: Some(100),
            ..Usage::new(1000, 10)
        };
        // 300 x 3 + 600 x 0.3 + 100 x 3.75 + 10 x 15 = 1605 millionths of a dollar.
        let bill = cached().bill(&usage).unwrap();
        assert_eq!(bill.total().to_string(), "0.001605");
        assert_eq!(bill.of(TokenClass::CacheRead).to_string(), "0.00018");
        let unknown = Usage {
            output_tokens: None,
            ..usage
        };
        assert_eq!(cached().bill(&unknown), None);
    }

    #[test]
    fn the_prompt_cache_saves_what_is_read_and_costs_what_is_written() {
        let saved = |read, written| {
            let usage = Usage {
                cache_read_input_tokens: Some(read),
                cache_write_1h_input_tokens: Some(written),
                ..Usage::new(1000, 10)
            };
            let price = cached();
            let saved = price.saved_by_prompt_cache(&usage).unwrap();
            let plain = price.bill(&Usage::new(1000, 10)).unwrap().total();
            assert_eq!(price.bill(&usage).unwrap().total() + saved, plain);
            saved.to_string()
        };
        assert_eq!(saved(0, 0), "0.00");
        // A million times 3 - 0.3 dollars for each that was read, 6 - 3 for each that was written.
        assert_eq!(saved(600, 0), "0.00162");
        assert_eq!(saved(0, 100), "-0.0003");
        assert_eq!(saved(600, 100), "0.00132");
        assert_eq!(cached().saved_by_prompt_cache(&Usage::default()), None);
    }

    #[test]
    fn reasoning_is_output_that_is_shown_apart() {
        let usage = Usage {
            reasoning_output_tokens: Some(8),
            ..Usage::new(0, 10)
        };
        let bill = cached().bill(&usage).unwrap();
        assert_eq!(bill.of(TokenClass::Output).to_string(), "0.00003");
        assert_eq!(bill.of(TokenClass::Reasoning).to_string(), "0.00012");
    }

    #[test]
    fn what_only_the_total_knows_of_is_charged_at_the_dearest_rate() {
        let usage = Usage::new(0, 0).checked(Some(10)).unwrap();
        assert_eq!(cost(&cached(), &usage).unwrap(), "0.00015");
    }

    #[test]
    fn a_request_above_the_threshold_is_charged_whole_at_the_upper_rates() {
        let rates = |input: &str| Rates {
            input: rate(input),
            ..Rates::default()
        };
        let price = Price {
            rates: rates("1"),
            above: Some(Above {
                tokens: 200_000,
                rates: rates("2"),
            }),
            ..Price::FREE
        };
        let of = |input| cost(&price, &Usage::new(input, 0)).unwrap();
        assert_eq!(of(200_000), "0.20");
        assert_eq!(of(200_001), "0.400002");
    }

    #[test]
    fn a_fee_and_an_hour_are_charged_without_any_token() {
        let price = Price {
            per_request: "0.001".parse().unwrap(),
            per_hour: "3.60".parse().unwrap(),
            ..Price::FREE
        };
        let usage = Usage {
            server_time_us: Some(1_500_000),
            ..Usage::default()
        };
        assert!(!price.is_free());
        let bill = price.bill(&usage).unwrap();
        assert_eq!(bill.of(TokenClass::ServerTime).to_string(), "0.0015");
        assert_eq!(bill.total().to_string(), "0.0025");
        assert_eq!(
            cost(&price, &Usage::new(1, 1)),
            None,
            "the time is not known"
        );
        let thirds = Usage {
            server_time_us: Some(1),
            ..Usage::default()
        };
        let price = Price {
            per_hour: "0.000001".parse().unwrap(),
            ..Price::FREE
        };
        let bill = price.bill_of_time(&thirds).unwrap();
        assert_eq!(bill.total().units(), 1, "rounded up");
    }

    #[test]
    fn no_bill_is_higher_than_the_bound() {
        let above = Price {
            above: Some(Above {
                tokens: 50,
                rates: Rates {
                    input: rate("1"),
                    output: rate("40"),
                    ..Rates::FREE
                },
            }),
            per_request: "0.01".parse().unwrap(),
            per_hour: "7".parse().unwrap(),
            ..cached()
        };
        let mut random = fastrand::Rng::with_seed(1);
        for price in [cached(), above] {
            for _ in 0..2_000 {
                let bounds = Bounds {
                    input_bytes: random.u64(0..100),
                    max_tokens: Some(random.u64(0..100)),
                    timeout: Some(Duration::from_micros(random.u64(0..100_000_000))),
                };
                let input = random.u64(0..=bounds.input_bytes);
                let read = random.u64(0..=input);
                let output = random.u64(0..=bounds.max_tokens.unwrap());
                let usage = Usage {
                    cache_read_input_tokens: Some(read),
                    cache_write_1h_input_tokens: Some(random.u64(0..=input - read)),
                    reasoning_output_tokens: Some(random.u64(0..=output)),
                    server_time_us: bounds.timeout.map(|time| time.as_micros() as u64),
                    ..Usage::new(input, output)
                };
                let most = price.most(&bounds).unwrap();
                assert!(price.bill(&usage).unwrap().total() <= most, "{usage:?}");
            }
        }
        let unbounded = Bounds {
            input_bytes: 1,
            max_tokens: None,
            timeout: None,
        };
        assert_eq!(cached().most(&unbounded), None);
        assert_eq!(Price::FREE.most(&unbounded), Some(Usd::ZERO));
    }

    #[test]
    fn a_price_reads_back_what_it_writes() {
        for price in [Price::FREE, cached()] {
            let text = serde_json::to_string(&price).unwrap();
            assert_eq!(
                serde_json::from_str::<Price>(&text).unwrap(),
                price,
                "{text}"
            );
        }
        let text = serde_json::to_string(&cached()).unwrap();
        assert!(text.starts_with(r#"{"input":"3.00","output":"15.00","cache_read":"0.30""#));
    }
}
