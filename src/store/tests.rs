//! What goes into the store comes out again, in the order of the results.

use std::sync::Arc;
use std::time::Duration;

use super::{Store, StoreError};
use crate::words::{
    Answer, Attempt, AttemptKind, Columns, Cost, Digest, Item, Outcome, Row, Status,
};

fn attempt(backend: &str) -> Attempt {
    Attempt {
        backend: backend.into(),
        model: None,
        kind: AttemptKind::First,
        class: None,
        error: None,
        http_status: None,
        request_id: None,
        usage: None,
        cost: Cost::Unpriced,
        latency: Duration::from_micros(7),
    }
}

fn outcome(columns: &Arc<Columns>, (row, entry, repeat): (u64, u32, u32)) -> Outcome {
    let row = Row {
        index: row,
        id: format!("rows.csv:{row}"),
        columns: Arc::clone(columns),
        cells: vec!["cell".to_owned()],
        key: Digest::default(),
    };
    let answer = Answer {
        text: "yes".to_owned(),
        finish_reason: None,
    };
    Outcome {
        item: Item {
            row: Arc::new(row),
            entry,
            repeat,
        },
        status: Status::Answered,
        answer: Some(answer),
        error: None,
        attempts: (0..=repeat).map(|_| attempt("a")).collect(),
        answered_by: None,
    }
}

#[tokio::test]
async fn outcomes_come_back_whole_by_row_and_entry_and_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let columns = Arc::new(Columns::new(vec!["text".to_owned()]));
    let keys = [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (0, 1, 1),
        (1, 0, 0),
        (10, 0, 0),
        (10, 2, 0),
    ];
    let mut expected = keys.map(|key| outcome(&columns, key));
    expected[1].answered_by = Some(0);
    expected[3].answered_by = Some(1);
    // There is no such attempt: it is kept as it is.
    expected[4].answered_by = Some(9);
    expected[5] = Outcome::not_run(expected[5].item.clone());

    let store = Store::create(dir.path(), "job", &columns).unwrap();
    let writer = store.write(|_| {}).unwrap();
    for outcome in expected.iter().rev() {
        writer.queue().send(outcome.clone()).await.unwrap();
    }
    let store = tokio::task::spawn_blocking(|| writer.finish())
        .await
        .unwrap()
        .unwrap();
    let mut found = Vec::new();
    let read = store.for_each(&columns, |outcome| {
        found.push(outcome.clone());
        Ok::<_, StoreError>(())
    });
    read.unwrap();
    assert_eq!(found, expected);
}
