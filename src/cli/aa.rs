//! `runner aa DIR DIR...`: the noise between runs that should be alike.

use serde_json::{Value, json};
use tokio_prompt_orchestrator::{ExitCode, Noise, NoiseOf};

use super::args::AaArgs;
use super::diff::{comparison_json, metric, scores, share};
use super::reader::Reader;
use super::terminal::{self, escape, out};

/// Names the form of the JSON.
const SCHEMA: &str = "runner.aa/1";

/// Prints how much runs differ.
pub fn aa(args: &AaArgs) -> ExitCode {
    for (at, dir) in args.dirs.iter().enumerate() {
        let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let mut before = args.dirs[..at].iter();
        if before.any(|other| other.canonicalize().is_ok_and(|other| other == real)) {
            let what = format!(
                "{} is named twice; a run does not differ from itself",
                dir.display()
            );
            Reader::of(args.json).error(&std::io::Error::other(what));
            return ExitCode::Usage;
        }
    }
    match tokio_prompt_orchestrator::noise(&args.dirs) {
        Ok(noise) if args.json => terminal::json(&in_json(&noise)),
        Ok(noise) => sentences(&noise).iter().for_each(|line| out(&escape(line))),
        Err(error) => {
            Reader::of(args.json).error(&error);
            return error.exit_code();
        }
    }
    ExitCode::Success
}

fn sentences(noise: &Noise) -> Vec<String> {
    let mut lines = Vec::new();
    for pair in &noise.pairs {
        lines.push(format!(
            "{} and {}",
            pair.one.display(),
            pair.other.display()
        ));
        lines.push(format!("  answers that differ: {}", share(&pair.changed)));
        if let (Some(name), Some(comparison)) = (&noise.scorer, &pair.comparison) {
            lines.push(format!("  {}", scores(name, comparison)));
        }
        if pair.missing > 0 {
            lines.push(match pair.missing {
                1 => "  warning: 1 row is in one of the two only".to_owned(),
                rows => format!("  warning: {rows} rows are in one of the two only"),
            });
        }
        if pair.asked_differently > 0 {
            let were = match pair.asked_differently {
                1 => "1 row was".to_owned(),
                rows => format!("{rows} rows were"),
            };
            lines.push(format!(
                "  warning: {were} asked something else, so that this is more than noise"
            ));
        }
    }
    for (dir, reused) in &noise.reused {
        lines.push(format!(
            "warning: {reused} answers of {} were not asked for there, so that this is less than the noise; run it \
             with --no-cache",
            dir.display()
        ));
    }
    match (noise.deviation, noise.margin, noise.drop) {
        (Some(deviation), Some(margin), Some(drop)) => lines.push(format!(
            "noise: the score of a row differs by {deviation:.3} (standard deviation); with {} rows \
             `not_worse_than: {margin}` lets 95 % of equal runs pass, and finds a drop of {drop:.3} in 80 % of the \
             cases",
            noise.rows
        )),
        _ => lines.push("noise: without a `score` that all runs have no margin can be told".to_owned()),
    }
    lines
}

fn in_json(noise: &Noise) -> Value {
    let reused = noise.reused.iter();
    let reused =
        reused.map(|(dir, lines)| json!({ "dir": dir.display().to_string(), "lines": lines }));
    json!({
        "schema": SCHEMA,
        "scorer": noise.scorer,
        "pairs": noise.pairs.iter().map(pair).collect::<Vec<_>>(),
        "deviation": noise.deviation,
        "rows": noise.rows,
        "not_worse_than": noise.margin,
        "drop_found_in_80_percent": noise.drop,
        "reused": reused.collect::<Vec<_>>(),
    })
}

fn pair(pair: &NoiseOf) -> Value {
    json!({
        "one": pair.one.display().to_string(),
        "other": pair.other.display().to_string(),
        "answers_changed": metric(&pair.changed),
        "scores": pair.comparison.as_ref().map(comparison_json),
        "missing": pair.missing,
        "asked_differently": pair.asked_differently,
    })
}
