//! Drawings: nothing but numbers goes into them, and names that are escaped.

use std::fmt::Write;

use super::parts::escape_name;
use crate::output::figures::{figure, range};
use crate::output::latency::Histogram;
use crate::words::Metric;

/// So many parts of a whole have a colour of their own.
const COLOURS: usize = 7;

/// A figure as a dot on a line from the lowest to the highest that there can be, with whiskers as far as the true value
/// may lie.
pub(super) fn interval(metric: &Metric, lowest: f64) -> String {
    let at = |value: f64| match (value - lowest) / (1.0 - lowest) {
        share if share.is_nan() => 0.0,
        share => share.clamp(0.0, 1.0) * 100.0,
    };
    let mut said = figure(metric.value);
    let mut drawn = String::new();
    if let Some(found) = metric.interval {
        let (low, high) = (at(found.low), at(found.high));
        // Writing to a string cannot fail.
        let _ = write!(said, ", with 95 % confidence {}", range(found));
        let _ = write!(
            drawn,
            "<line class=\"whisker\" x1=\"{low:.1}%\" x2=\"{high:.1}%\" y1=\"50%\" y2=\"50%\"/>\
             <line class=\"whisker\" x1=\"{low:.1}%\" x2=\"{low:.1}%\" y1=\"25%\" y2=\"75%\"/>\
             <line class=\"whisker\" x1=\"{high:.1}%\" x2=\"{high:.1}%\" y1=\"25%\" y2=\"75%\"/>"
        );
    }
    let zero = match lowest < 0.0 {
        true => "<line class=\"axis\" x1=\"50%\" x2=\"50%\" y1=\"10%\" y2=\"90%\"/>",
        false => "",
    };
    let dot = at(metric.value);
    format!(
        "<svg class=\"interval\" role=\"img\"><title>{said}</title>\
         <line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"50%\" y2=\"50%\"/>{zero}{drawn}\
         <circle class=\"dot\" cx=\"{dot:.1}%\" cy=\"50%\" r=\"4\"/></svg>"
    )
}

/// A whole as one bar of its parts, and what each is. Nothing if there is nothing to divide.
pub(super) fn stacked(title: &str, mut parts: Vec<(String, i128)>) -> String {
    parts.retain(|(_, part)| *part > 0);
    parts.sort_by_key(|(_, part)| std::cmp::Reverse(*part));
    let whole: i128 = parts.iter().map(|(_, part)| part).sum();
    if whole == 0 || parts.len() < 2 {
        return String::new();
    }
    if parts.len() > COLOURS + 1 {
        let rest = parts.split_off(COLOURS);
        let name = format!("{} others", rest.len());
        parts.push((name, rest.iter().map(|(_, part)| part).sum()));
    }
    let (mut bar, mut legend, mut from) = (String::new(), String::new(), 0.0);
    for (colour, (name, part)) in parts.iter().enumerate() {
        let share = *part as f64 / whole as f64 * 100.0;
        let name = escape_name(name);
        let _ = write!(
            bar,
            "<rect class=\"c{colour}\" x=\"{from:.2}%\" width=\"{share:.2}%\" height=\"100%\"><title>{name}: {share:.1} %</title></rect>"
        );
        let _ = writeln!(
            legend,
            "<li><svg class=\"swatch\" aria-hidden=\"true\"><rect class=\"c{colour}\" width=\"100%\" height=\"100%\"/></svg>\
             {name} <span>{share:.1} %</span></li>"
        );
        from += share;
    }
    format!(
        "<figure>\n<figcaption>{title}</figcaption>\n<svg class=\"stack\" role=\"img\"><title>{title}</title>{bar}</svg>\n\
         <ul class=\"legend\">\n{legend}</ul>\n</figure>\n"
    )
}

/// How many replies took how long, and the times within which half and nine in ten came. Nothing without replies.
pub(super) fn histogram(times: Option<Histogram>, marks: &[(&str, u64)]) -> String {
    let Some(Histogram { width, counts }) = times else {
        return String::new();
    };
    let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let (bins, each) = (counts.len() as u64, 100.0 / counts.len() as f64);
    let mut drawn = String::new();
    for (bin, count) in (0_u64..).zip(&counts) {
        let (from, height) = (bin as f64 * each, *count as f64 / most * 100.0);
        let times = match bin + 1 == bins {
            true => format!("{} ms and more", bin * width),
            false => format!("{} to {} ms", bin * width, (bin + 1) * width),
        };
        let _ = write!(
            drawn,
            "<rect class=\"part\" x=\"{from:.2}%\" width=\"{:.2}%\" y=\"{:.2}%\" height=\"{height:.2}%\"><title>{times}: {count}</title></rect>",
            each * 0.9,
            100.0 - height,
        );
    }
    let end = (bins * width) as f64;
    for (_, time) in marks {
        let at = (*time as f64 / end * 100.0).min(100.0);
        let _ = write!(
            drawn,
            "<line class=\"mark\" x1=\"{at:.2}%\" x2=\"{at:.2}%\" y1=\"0\" y2=\"100%\"/>"
        );
    }
    let named: Vec<String> = marks
        .iter()
        .map(|(name, time)| format!("{name} {time} ms"))
        .collect();
    format!(
        "<figure>\n<figcaption>Replies by the time they took; the lines are {}</figcaption>\n\
         <svg class=\"histogram\" role=\"img\"><title>Replies by the time they took</title>{drawn}</svg>\n\
         <p class=\"scale\"><span>0 ms</span><span>{} ms</span><span>{} ms and more</span></p>\n</figure>\n",
        named.join(" and "),
        bins / 2 * width,
        (bins - 1) * width,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Interval, Method};

    #[test]
    fn a_figure_stays_on_its_line_whatever_it_is() {
        for value in [-3.0, 0.0, 0.5, 1.0, 17.0, f64::NAN, f64::INFINITY] {
            let metric = Metric {
                value,
                n: 1,
                interval: Some(Interval {
                    low: value - 1.0,
                    high: value + 1.0,
                    method: Method::Wilson,
                }),
            };
            for lowest in [-1.0, 0.0] {
                let drawn = interval(&metric, lowest);
                for attribute in [" x1=\"", " x2=\"", " cx=\""] {
                    for rest in drawn.split(attribute).skip(1) {
                        let (place, _) = rest.split_once('"').unwrap();
                        let place: f64 = place.trim_end_matches('%').parse().unwrap();
                        assert!((0.0..=100.0).contains(&place), "{drawn}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_parts_of_a_bar_are_the_whole_and_the_smallest_share_a_colour() {
        let parts = (1..=20)
            .map(|number| (format!("<{number}>"), number))
            .collect();
        let drawn = stacked("x", parts);
        assert_eq!(drawn.matches("<li>").count(), 8);
        assert!(drawn.contains("13 others <span>43.3 %</span>"), "{drawn}");
        assert!(drawn.contains("&lt;20&gt; <span>9.5 %</span>"), "{drawn}");
        assert_eq!(stacked("x", vec![("a".into(), 0), ("b".into(), 5)]), "");
    }
}
