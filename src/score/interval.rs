//! Intervals that have a formula.

use crate::words::{Interval, Method};

/// How sure the intervals of figures are, unless somebody says otherwise.
pub const CONFIDENCE: f64 = 0.95;

/// How many standard deviations either way hold this share of the normal distribution: 1.96 for 0.95.
pub fn z_of(confidence: f64) -> f64 {
    let wanted = 0.5 + confidence.clamp(0.0, 0.999_999) / 2.0;
    // Newton's steps from the middle: the curve bends down there, so they come closer from one side.
    let step = |z: f64| z + (wanted - normal_below(z)) / (-z * z / 2.0).exp() * TAU_ROOT;
    (0..40).fold(0.0, |z, _| step(z))
}

/// √2π.
pub(super) const TAU_ROOT: f64 = 2.506_628_274_631_000_7;

/// The share of the normal distribution that is below `z`, by Marsaglia's series.
pub(super) fn normal_below(z: f64) -> f64 {
    let (mut sum, mut before, mut term, mut odd) = (z, 0.0, z, 1.0);
    while sum != before {
        before = sum;
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 + sum * (-z * z / 2.0).exp() / TAU_ROOT
}

/// Wilson's interval of a share: `successes` of `n`. Successes may be parts of one, which makes it wider than need be.
pub fn wilson(successes: f64, n: u64, confidence: f64) -> Interval {
    let (z, n) = (z_of(confidence), n as f64);
    let divisor = n + z * z;
    let centre = (successes + z * z / 2.0) / divisor;
    let spread = if n > 0.0 {
        (successes * (n - successes) / n).max(0.0)
    } else {
        0.0
    };
    let half = z * (spread + z * z / 4.0).sqrt() / divisor;
    // The ends of none and of all are known, and rounding must not say otherwise.
    let low = if successes <= 0.0 { 0.0 } else { centre - half };
    let high = if successes >= n { 1.0 } else { centre + half };
    Interval {
        low: low.clamp(0.0, 1.0),
        high: high.clamp(0.0, 1.0),
        method: Method::Wilson,
    }
}

/// The normal interval around a figure with this standard error.
pub fn normal(centre: f64, error: f64, confidence: f64) -> Interval {
    let half = z_of(confidence) * error;
    Interval {
        low: centre - half,
        high: centre + half,
        method: Method::Normal,
    }
}

/// The normal interval of the mean of `n` values, by their sum and the sum of their squares; `None` for less than two.
pub fn mean(n: u64, sum: f64, squares: f64, confidence: f64) -> Option<Interval> {
    let n = (n > 1).then_some(n as f64)?;
    let mean = sum / n;
    let variance = ((squares - sum * mean) / (n - 1.0)).max(0.0);
    Some(normal(mean, (variance / n).sqrt(), confidence))
}

/// Newcombe's interval of how much larger the second of two independent shares is; each is `(successes, n)`.
pub fn newcombe(before: (u64, u64), after: (u64, u64), confidence: f64) -> Interval {
    let share = |(successes, n): (u64, u64)| successes as f64 / n.max(1) as f64;
    let (p, q) = (share(before), share(after));
    let of_p = wilson(before.0 as f64, before.1, confidence);
    let of_q = wilson(after.0 as f64, after.1, confidence);
    Interval {
        low: q - p - (q - of_q.low).hypot(of_p.high - p),
        high: q - p + (of_q.high - q).hypot(p - of_p.low),
        method: Method::Newcombe,
    }
}

/// Bonett and Price's interval of the difference between paired shares: of `n` pairs, so many became better and so many
/// worse.
pub fn bonett_price(better: u64, worse: u64, n: u64, confidence: f64) -> Interval {
    let n = n as f64 + 2.0;
    let (better, worse) = ((better as f64 + 1.0) / n, (worse as f64 + 1.0) / n);
    let centre = better - worse;
    let error = ((better + worse - centre * centre) / n).sqrt();
    let around = normal(centre, error, confidence);
    Interval {
        low: around.low.max(-1.0),
        high: around.high.min(1.0),
        method: Method::BonettPrice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_inverted_to_the_last_digits() {
        // Of Python's statistics.NormalDist().inv_cdf.
        for (confidence, z) in [
            (0.0, 0.0),
            (0.5, 0.674_489_750_196_081_7),
            (0.8, 1.281_551_565_544_600_8),
            (0.9, 1.644_853_626_951_472_2),
            (0.95, 1.959_963_984_540_054),
            (0.99, 2.575_829_303_548_901),
            (0.999, 3.290_526_731_491_883_5),
        ] {
            let found = z_of(confidence);
            assert!((found - z).abs() < 1e-12, "{confidence}: {found}");
        }
        assert!(z_of(1.0).is_finite() && z_of(f64::INFINITY) < 5.0);
    }

    #[test]
    fn shares_of_nothing_and_of_one_are_as_open_as_they_are() {
        let nothing = wilson(0.0, 0, 0.95);
        assert_eq!((nothing.low, nothing.high), (0.0, 1.0));
        let one = wilson(1.0, 1, 0.95);
        assert!((one.low - 0.206_549_314_3).abs() < 1e-9 && one.high == 1.0);
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_its_values() {
        // 1, 2, 3, 4: mean 2.5, variance 5/3.
        let found = mean(4, 10.0, 30.0, 0.95).expect("there are four");
        let half = 1.959_963_984_540_054 * (5.0_f64 / 12.0).sqrt();
        assert!((found.low - 2.5 + half).abs() < 1e-12 && (found.high - 2.5 - half).abs() < 1e-12);
        assert!(mean(1, 1.0, 1.0, 0.95).is_none());
    }

    #[test]
    fn pairs_without_a_change_leave_a_little_doubt() {
        let found = bonett_price(0, 0, 300, 0.95);
        assert!(found.low < -0.009 && found.low > -0.01 && found.high == -found.low);
    }
}
