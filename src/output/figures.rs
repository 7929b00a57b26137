//! Figures as people read them.

use crate::words::{Interval, Metric};

/// A figure: three decimals, more where it is too small for them, fewer where they would say nothing.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 0.001 || value == 0.0 => format!("{value:.3}"),
        _ => {
            let text = format!("{value:.9}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// From where to where a true value lies.
pub(super) fn range(interval: Interval) -> String {
    let Interval { low, high, .. } = interval;
    format!("{} to {}", figure(low), figure(high))
}

/// The range of a figure, or what stands for one that nobody knows.
pub(super) fn range_of(metric: &Metric) -> String {
    metric.interval.map_or("-".to_owned(), range)
}

/// The name of a figure for people: `accuracy answered`.
pub(super) fn name(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_decimals_that_they_need() {
        for (value, text) in [
            (0.0, "0.000"),
            (0.91234, "0.912"),
            (-0.25, "-0.250"),
            (1.0, "1.000"),
            (1234.4, "1234"),
            (0.000_034, "0.000034"),
            (1e-12, "0"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
