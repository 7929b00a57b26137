//! The binomial distribution: drawing from it, and the exact test that McNemar's is.

use super::interval::TAU_ROOT;

/// How many of `n` happen where each does with this chance.
pub(super) fn draw(random: &mut fastrand::Rng, n: u64, chance: f64) -> u64 {
    let chance = chance.clamp(0.0, 1.0);
    if chance > 0.5 {
        return n - draw(random, n, 1.0 - chance);
    }
    if n as f64 * chance < 10.0 {
        few(random, n, chance)
    } else {
        many(random, n, chance)
    }
}

/// By going up from none until the drawn share of all cases is reached.
fn few(random: &mut fastrand::Rng, n: u64, chance: f64) -> u64 {
    let odds = chance / (1.0 - chance);
    let mut left = random.f64();
    let mut term = (n as f64 * (-chance).ln_1p()).exp();
    let mut found = 0;
    while left > term && found < n {
        left -= term;
        term *= (n - found) as f64 / (found + 1) as f64 * odds;
        found += 1;
    }
    found
}

/// By Hörmann's transformed rejection (BTRS, 1993), whose time does not grow with `n`.
fn many(random: &mut fastrand::Rng, n: u64, chance: f64) -> u64 {
    let size = n as f64;
    let deviation = (size * chance * (1.0 - chance)).sqrt();
    let b = 1.15 + 2.53 * deviation;
    let a = -0.0873 + 0.0248 * b + 0.01 * chance;
    let c = size * chance + 0.5;
    let quick = 0.92 - 4.2 / b;
    let alpha = (2.83 + 5.1 / b) * deviation;
    let top = ((size + 1.0) * chance).floor();
    let at_top = ln_factorial(top as u64) + ln_factorial(n - top as u64);
    let ln_odds = (chance / (1.0 - chance)).ln();
    loop {
        let u = random.f64() - 0.5;
        let v = random.f64();
        let us = 0.5 - u.abs();
        let found = ((2.0 * a / us + b) * u + c).floor();
        if !(0.0..=size).contains(&found) {
            continue;
        }
        if us >= 0.07 && v <= quick {
            return found as u64;
        }
        let height = (v * alpha / (a / (us * us) + b)).ln();
        let here = ln_factorial(found as u64) + ln_factorial(n - found as u64);
        if height <= at_top - here + (found - top) * ln_odds {
            return found as u64;
        }
    }
}

/// The logarithm of 1 · 2 · … · n.
fn ln_factorial(n: u64) -> f64 {
    if n < 16 {
        return ((1..=n).product::<u64>() as f64).ln();
    }
    let n = n as f64;
    let square = n * n;
    let rest =
        (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / 1680.0 / square) / square) / square) / n;
    n * n.ln() - n + (TAU_ROOT * n.sqrt()).ln() + rest
}

/// How likely a coin gives a split at least as uneven as this one: McNemar's exact test, two-sided.
pub(super) fn evenness(one: u64, other: u64) -> f64 {
    let (fewer, n) = (one.min(other), one + other);
    let ln_chance = ln_factorial(n)
        - ln_factorial(fewer)
        - ln_factorial(n - fewer)
        - n as f64 * std::f64::consts::LN_2;
    let mut term = ln_chance.exp();
    let mut sum = term;
    for k in (1..=fewer).rev() {
        term *= k as f64 / (n - k + 1) as f64;
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_and_the_spread_of_the_distribution() {
        let mut random = fastrand::Rng::with_seed(1);
        for (n, chance) in [
            (5, 0.3),
            (40, 0.1),
            (40, 0.5),
            (90, 0.95),
            (1_000, 0.2),
            (1_000_000, 0.01),
            (1_000_000, 0.7),
        ] {
            let draws: Vec<f64> = (0..20_000)
                .map(|_| draw(&mut random, n, chance) as f64)
                .collect();
            let count = draws.len() as f64;
            let mean = draws.iter().sum::<f64>() / count;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let (wanted, spread) = (n as f64 * chance, n as f64 * chance * (1.0 - chance));
            let off = (mean - wanted).abs() / (spread / count).sqrt();
            assert!(off < 4.0, "{n} by {chance}: mean {mean}");
            assert!(
                (variance / spread - 1.0).abs() < 0.05,
                "{n} by {chance}: {variance} for {spread}"
            );
        }
        assert_eq!(draw(&mut random, 7, 1.0), 7);
        assert_eq!(draw(&mut random, 7, 0.0), 0);
        assert_eq!(draw(&mut random, 0, 0.5), 0);
    }

    #[test]
    fn factorials_agree_where_the_two_ways_meet() {
        let exact = ln_factorial(15) + 16.0_f64.ln();
        assert!((ln_factorial(16) - exact).abs() < 1e-12);
    }

    #[test]
    fn an_even_split_is_no_news_and_a_huge_one_takes_no_time() {
        assert_eq!(evenness(0, 0), 1.0);
        assert_eq!(evenness(5, 5), 1.0);
        assert!((evenness(0, 6) - 2.0 / 64.0).abs() < 1e-15);
        assert!(evenness(400_000, 600_000) < 1e-300);
    }
}
