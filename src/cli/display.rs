//! A run in a few lines that fit: what is least needed goes first where the terminal is narrow.

use std::time::Duration;

use tokio_prompt_orchestrator::words::WaitsFor;

use super::course::{Course, Lane};
use super::terminal;

/// So many backends have a line of their own.
const BACKENDS: usize = 6;
/// The bar is as wide as there is room for, but no wider than this …
const WIDEST: usize = 40;
/// … and gone where it would be narrower than this.
const NARROWEST: usize = 8;

/// The need of what is never left out.
const ALWAYS: u8 = u8::MAX;

/// A part of a line, and how much it is needed: the least is left out first.
struct Part {
    text: String,
    need: u8,
}

fn part(need: u8, text: impl Into<String>) -> Part {
    let text = text.into();
    Part { text, need }
}

/// The lines of a terminal so many columns wide.
pub fn lines(course: &Course, columns: usize) -> Vec<String> {
    let mut lines = vec![head(course, columns), fitted(ends(course), columns)];
    lines.extend(
        course
            .backends
            .iter()
            .take(BACKENDS)
            .map(|lane| backend(lane, columns)),
    );
    lines.extend(more(course.backends.len()).map(|more| cut(&more, columns)));
    lines
}

/// How many have no place of their own.
fn more(backends: usize) -> Option<String> {
    let more = backends.saturating_sub(BACKENDS);
    (more > 0).then(|| format!("and {more} more"))
}

/// The same on one line, for a log.
pub fn line(course: &Course) -> String {
    let mut parts = vec![format!("{} rows ({})", counted(course), percent(course))];
    parts.push(rate(course));
    parts.push(eta(course));
    parts.extend(ends(course).into_iter().map(|part| part.text));
    let waiting = course.backends.iter().filter_map(|lane| {
        let waits = waits(lane.now.waits_for)?;
        Some(format!("{} {waits}", terminal::escape(&lane.now.backend)))
    });
    let waiting: Vec<String> = waiting.collect();
    parts.extend(waiting.iter().take(BACKENDS).cloned());
    parts.extend(more(waiting.len()));
    parts.join(", ")
}

/// The bar and the pace.
fn head(course: &Course, columns: usize) -> String {
    let parts = vec![
        part(ALWAYS, counted(course)),
        part(3, percent(course)),
        part(1, rate(course)),
        part(2, eta(course)),
    ];
    let text = fitted(parts, columns);
    // Brackets, and two blanks.
    let room = columns.saturating_sub(width(&text) + 4).min(WIDEST);
    match room < NARROWEST {
        true => text,
        false => format!("[{}]  {text}", bar(course, room)),
    }
}

fn bar(course: &Course, width: usize) -> String {
    let full = match course.rows {
        0 => width,
        rows => (u128::from(course.done) * width as u128 / u128::from(rows)) as usize,
    };
    let full = full.min(width);
    format!("{}{}", "#".repeat(full), "-".repeat(width - full))
}

/// How the rows ended, and what was paid.
fn ends(course: &Course) -> Vec<Part> {
    let mut parts = Vec::new();
    if course.before > 0 {
        let before = thousands(course.before);
        parts.push(part(1, format!("{before} done before")));
    }
    for (status, rows) in course.by_status() {
        let need = match status.is_final() {
            true => 2,
            false => 4,
        };
        let rows = thousands(rows);
        parts.push(part(need, format!("{rows} {}", status.as_str())));
    }
    if course.following_up {
        let judged = match course.to_follow_up {
            Some(all) => format!("{}/{}", thousands(course.followed_up), thousands(all)),
            None => thousands(course.followed_up),
        };
        parts.push(part(5, format!("{judged} judged")));
    }
    let spent = course.spent().rounded(4);
    let money = match course.budget {
        Some((cap, _)) => format!("${spent} of ${cap}"),
        None => format!("${spent}"),
    };
    parts.push(part(6, money));
    parts
}

/// What a backend does and what it waits for.
fn backend(lane: &Lane, columns: usize) -> String {
    let now = &lane.now;
    let mut parts = vec![
        part(3, terminal::escape(&now.backend)),
        part(2, format!("{}/{} in flight", now.in_flight, now.allowed)),
        part(1, format!("{}/s", pace(lane.per_second))),
    ];
    parts.extend(waits(now.waits_for).map(|text| part(4, text)));
    format!("  {}", fitted(parts, columns.saturating_sub(2)))
}

/// What a backend waits for, in words.
fn waits(waits_for: WaitsFor) -> Option<String> {
    Some(match waits_for {
        // That every place is taken is as it should be.
        WaitsFor::Nothing | WaitsFor::Place => return None,
        WaitsFor::Requests => "waits for its request limit".to_owned(),
        WaitsFor::Tokens => "waits for its token limit".to_owned(),
        WaitsFor::Pace => "waits for the pace it was found to allow".to_owned(),
        WaitsFor::Throttled(Duration::ZERO) => "still throttled".to_owned(),
        WaitsFor::Throttled(left) => format!("paused {}: throttled", seconds(left)),
        WaitsFor::Down(Duration::ZERO) => "down, trying".to_owned(),
        WaitsFor::Down(left) => format!("down, next try in {}", seconds(left)),
        WaitsFor::Stopped => "not asked any more".to_owned(),
    })
}

/// The parts that fit, the most needed ones, in their order; two blanks between them.
fn fitted(mut parts: Vec<Part>, columns: usize) -> String {
    loop {
        let texts: Vec<&str> = parts.iter().map(|part| &*part.text).collect();
        let text = texts.join("  ");
        if width(&text) <= columns || parts.len() == 1 {
            return cut(&text, columns);
        }
        let least = parts.iter().map(|part| part.need).min();
        let at = parts.iter().rposition(|part| Some(part.need) == least);
        parts.remove(at.unwrap_or_default());
    }
}

/// As much of a text as there is room for.
fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut room = columns.saturating_sub(2);
    let fits = |character: &char| {
        let fits = columns_of(*character) <= room;
        room = room.saturating_sub(columns_of(*character));
        fits
    };
    let start: String = text.chars().take_while(fits).collect();
    format!("{start}{}", &".."[..columns.min(2)])
}

/// How many columns a text takes at most.
fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// What is not ASCII may be two columns wide, and where it is not, a blank more does no harm.
fn columns_of(character: char) -> usize {
    match character.is_ascii() {
        true => 1,
        false => 2,
    }
}

fn counted(course: &Course) -> String {
    format!("{}/{}", thousands(course.done), thousands(course.rows))
}

/// Rounded down: 100 % is all of them.
fn percent(course: &Course) -> String {
    match course.rows {
        0 => "100%".to_owned(),
        rows => format!("{}%", u128::from(course.done) * 100 / u128::from(rows)),
    }
}

fn rate(course: &Course) -> String {
    let rate = course.per_second().map(pace);
    format!("{}/s", rate.as_deref().unwrap_or("-"))
}

fn eta(course: &Course) -> String {
    let left = course.time_left().map(span);
    format!("eta {}", left.as_deref().unwrap_or("-"))
}

/// A rate with as many digits as say something.
fn pace(per_second: f64) -> String {
    match per_second {
        slow if slow < 0.005 => "0".to_owned(),
        slow if slow < 0.995 => format!("{slow:.2}"),
        few if few < 9.95 => format!("{few:.1}"),
        many => thousands(many.round() as u64),
    }
}

/// A time as people say it: 45 s, 3 min 12 s, 1 h 20 min, 2 d 3 h.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Whole seconds, as on a clock that runs down.
pub fn seconds(time: Duration) -> String {
    format!("{} s", time.as_millis().div_ceil(1000))
}

/// A number as people write it: 981,204.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 row`, `2,000 rows`.
pub fn many(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {one}s", thousands(number)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio_prompt_orchestrator::words::{BackendNow, Event, Status, Usd};

    use super::*;

    fn seen(names: &[&str], sent: u64, waits_for: WaitsFor) -> Event {
        let now = |name: &&str| BackendNow {
            backend: (*name).into(),
            in_flight: 12,
            allowed: 16,
            sent,
            waits_for,
        };
        Event::BackendsSeen(names.iter().map(now).collect())
    }

    /// A run of 10,000 rows of which 400 were done before and 835 are done now, at 20.5 a second.
    fn course(names: &[&str], waits_for: WaitsFor) -> Course {
        let (mut course, start) = (Course::default(), Instant::now());
        course.note(
            &Event::RunStarted {
                rows: 10_000,
                done: 400,
            },
            start,
        );
        let cap = "5".parse().unwrap();
        course.note(
            &Event::BudgetOpened {
                cap,
                spent: Usd::ZERO,
                overshoot: None,
                unbounded: 0,
            },
            start,
        );
        for tick in 0..=20 {
            course.note(
                &seen(names, tick * 10, waits_for),
                start + Duration::from_millis(250) * tick as u32,
            );
            if tick == 20 {
                break;
            }
            for row in 0..20 {
                let status = match (tick, row) {
                    (0, 0..3) => Status::Failed,
                    (1, 0) => Status::Refused,
                    _ => Status::Answered,
                };
                let paid = "0.003".parse().unwrap();
                course.note(&Event::RowFinished { status, paid }, start);
            }
        }
        course
    }

    #[test]
    fn what_is_shown_is_never_wider_than_the_terminal() {
        let names = [
            "gpt",
            "a backend with a name that is rather long",
            "\u{1b}[2J漢字漢字漢字漢字漢字",
        ];
        for waits_for in [
            WaitsFor::Nothing,
            WaitsFor::Pace,
            WaitsFor::Throttled(Duration::from_secs(3600)),
        ] {
            let course = course(&names, waits_for);
            for columns in 0..250 {
                for line in lines(&course, columns) {
                    assert!(width(&line) <= columns.max(2), "{columns}: {line}");
                    assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_least_needed_goes_first() {
        let waits_for = WaitsFor::Throttled(Duration::from_millis(11_500));
        let course = course(&["gpt"], waits_for);
        let shown = |columns| lines(&course, columns).join("\n");
        assert_eq!(
            shown(200),
            "[###-------------------------------------]  800/10,000  8%  80/s  eta -\n\
             400 done before  396 answered  1 refused  3 failed  $1.2000 of $5.00\n  \
             gpt  12/16 in flight  40/s  paused 12 s: throttled"
        );
        assert_eq!(shown(80), shown(200), "it fits a usual terminal");
        assert_eq!(
            shown(40),
            "[---------]  800/10,000  8%  80/s  eta -\n\
             396 answered  3 failed  $1.2000 of $5.00\n  \
             gpt  paused 12 s: throttled"
        );
        assert_eq!(
            shown(20),
            "800/10,000  8%\n$1.2000 of $5.00\n  paused 12 s: thr.."
        );
    }

    #[test]
    fn a_line_of_a_log_says_it_all() {
        let waits_for = WaitsFor::Down(Duration::from_secs(4));
        assert_eq!(
            line(&course(&["gpt", "local"], waits_for)),
            "800/10,000 rows (8%), 80/s, eta -, 400 done before, 396 answered, 1 refused, 3 failed, $1.2000 of $5.00, \
             gpt down, next try in 4 s, local down, next try in 4 s"
        );
    }

    #[test]
    fn many_backends_are_counted() {
        let names = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
        let course = course(&names, WaitsFor::Nothing);
        let shown = lines(&course, 80);
        assert_eq!(shown.len(), 2 + 6 + 1);
        assert_eq!(shown[8], "and 3 more");
        assert_eq!(shown[7], "  6  12/16 in flight  40/s");
    }

    #[test]
    fn times_and_rates_read_as_people_say_them() {
        let said = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [said(0), said(59), said(192), said(4_800), said(183_700)],
            ["0 s", "59 s", "3 min 12 s", "1 h 20 min", "2 d 3 h"]
        );
        assert_eq!(
            [0.0, 0.04, 0.5, 3.12, 99.6, 12_345.0].map(pace),
            ["0", "0.04", "0.50", "3.1", "100", "12,345"]
        );
    }
}
