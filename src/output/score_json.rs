//! Scores and gates in `report.json`.

use serde_json::{Map, Value, json};

use crate::words::{
    Confusion, GateCheck, GateReport, Group, Interval, LabelScores, Metric, Scores,
};

/// How good the answers are: nothing of a job that does not say how that is seen.
pub(super) fn scores(scores: Option<&Scores>) -> Value {
    let Some(scores) = scores else {
        return json!({});
    };
    let mut value = group(&scores.overall);
    let by_entry = scores.by_entry.iter();
    let by_entry = by_entry.map(|(name, lines)| (name.clone(), Value::Object(group(lines))));
    let kappas = scores.kappas.iter().map(|(a, b, kappa)| {
        let mut value = metric(kappa);
        value["entries"] = json!([a, b]);
        value
    });
    value.insert("by_entry".into(), by_entry.collect());
    value.insert("kappa".into(), kappas.collect());
    value.insert("alpha".into(), known(scores.alpha.as_ref()));
    value.insert("notes".into(), json!(scores.notes));
    Value::Object(value)
}

/// What became of the gate; null without one.
pub(super) fn gate(gate: Option<&GateReport>) -> Value {
    gate.map_or(Value::Null, |gate| {
        let checks: Vec<Value> = gate.checks.iter().map(check).collect();
        json!({ "passed": gate.is_met, "checks": checks })
    })
}

fn group(group: &Group) -> Map<String, Value> {
    let metrics = group.metrics.iter();
    let mut value: Map<String, Value> = metrics
        .map(|(name, found)| (name.clone(), metric(found)))
        .collect();
    let labels = group.labels.iter();
    let labels = labels.map(|(name, scores)| (name.clone(), label(scores)));
    value.insert("labels".into(), labels.collect());
    let confusion = group.confusion.as_ref().map(confusion);
    value.insert("confusion".into(), json!(confusion));
    value
}

fn label(scores: &LabelScores) -> Value {
    json!({
        "precision": known(scores.precision.as_ref()),
        "recall": known(scores.recall.as_ref()),
        "f1": known(scores.f1.as_ref()),
    })
}

fn confusion(confusion: &Confusion) -> Value {
    json!({ "labels": confusion.labels, "counts": confusion.counts })
}

fn check(check: &GateCheck) -> Value {
    json!({
        "name": check.name,
        "wanted": check.wanted,
        "found": known(check.found.as_ref()),
        "difference": check.difference.map(|difference| json!({
            "interval": ends(difference),
            "method": difference.method.as_str(),
        })),
        "verdict": check.verdict.as_str(),
        "passed": check.is_met,
        "text": check.text,
    })
}

fn known(found: Option<&Metric>) -> Value {
    found.map_or(Value::Null, metric)
}

fn metric(metric: &Metric) -> Value {
    json!({
        "value": metric.value,
        "n": metric.n,
        "interval": metric.interval.map(ends),
        "method": metric.interval.map(|interval| interval.method.as_str()),
    })
}

fn ends(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}
