//! What goes into the store comes out again, and what was harmed is noticed.

use std::sync::Arc;

use super::journal::{Ended, Intent, Journal};
use super::{Asked, Reader, Registered, Store, StoreError, Stored, Wanted, Writer};
use crate::job::{Durability, OnUnknown};
use crate::words::{
    Answer, Attempt, AttemptKind, Changes, Columns, Cost, Digest, ErrorClass, Item, Outcome, Row,
    Status, Tariff, Usage, Usd,
};

/// A directory with a store of rows `0`, `1`, … with these texts.
struct Kept {
    dir: tempfile::TempDir,
    columns: Arc<Columns>,
    entries: Vec<Arc<str>>,
    repeat: u32,
    tariff: Arc<Tariff>,
}

impl Kept {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            columns: Arc::new(Columns::new(vec!["text".to_owned()])),
            entries: vec![Arc::from("a"), Arc::from("b")],
            repeat: 2,
            tariff: Tariff::local().into(),
        }
    }

    fn open(&self) -> Store {
        Store::open(self.dir.path(), "job", false, Durability::Full).unwrap()
    }

    fn row(&self, index: u64, text: &str) -> Row {
        Row {
            index,
            id: format!("rows.csv:{}", index + 1),
            columns: Arc::clone(&self.columns),
            cells: vec![text.to_owned()],
            key: Row::key_of_content(Digest::of([text]), 0),
        }
    }

    fn item(&self, (row, entry, repeat): (u64, u32, u32)) -> Item {
        Item {
            row: Arc::new(self.row(row, &row.to_string())),
            entry,
            repeat,
        }
    }

    /// Registers these texts, which are asked as they are.
    fn register(&self, store: &mut Store, texts: &[&str]) -> Changes {
        let mut register = store
            .register(&Registered {
                asked: Digest::of(["the job"]),
                columns: &self.columns,
                entries: self.entries.to_vec(),
                follow_ups: Vec::new(),
                is_matrix: true,
                repeat: self.repeat,
                tariffs: vec![self.tariff.clone()],
            })
            .unwrap();
        for (index, text) in (0..).zip(texts) {
            let asks = || Asked {
                request: Digest::of([text]),
                answers: Vec::new(),
            };
            register.row(&self.row(index, text), asks).unwrap();
        }
        let asks = |row: &Row| Asked {
            request: Digest::of([&row.cells[0]]),
            answers: Vec::new(),
        };
        let changes = register.changes(&self.columns, |row| asks(row)).unwrap();
        register.commit("{}").unwrap();
        changes
    }

    fn all(&self, store: &Store) -> Result<Vec<Stored>, StoreError> {
        let mut all = Vec::new();
        store.lines().for_each_row(&self.columns, |stored| {
            all.extend_from_slice(stored);
            Ok::<_, StoreError>(())
        })?;
        Ok(all)
    }
}

fn write(store: Store) -> (Writer, Journal) {
    let writer = store.write(|_| {}, || {}).unwrap();
    let journal = writer.journal();
    (writer, journal)
}

fn intent(number: u32) -> Intent {
    Intent {
        number,
        backend: "a".into(),
        kind: AttemptKind::First,
        fingerprint: Digest::of(["what is asked"]),
        tariff: Some(Tariff::local().into()),
        reserved: Cost::Unknown {
            at_most: Some(Usd::from_units(7)),
        },
    }
}

fn attempt(number: u32) -> Attempt {
    let fingerprint = Digest::of(["what is asked"]);
    Attempt {
        model: Some("m".to_owned()),
        request_id: Some("req-1".to_owned()),
        usage: Some(Usage::new(3, 4)),
        tariff: Some(Tariff::local().into()),
        cost: Cost::Known(Usd::from_units(5)),
        latency: std::time::Duration::from_micros(7),
        ..Attempt::new(number, "a".into(), AttemptKind::First, fingerprint)
    }
}

fn answered(item: Item, attempts: Vec<Attempt>, answered_by: Option<usize>) -> Outcome {
    Outcome {
        status: Status::Answered,
        answer: Some(Answer {
            text: "yes".to_owned(),
            finish_reason: None,
        }),
        attempts,
        answered_by,
        ..Outcome::not_run(item)
    }
}

/// Notes down an item's whole way.
async fn go(journal: &Journal, outcome: &Outcome) {
    for attempt in &outcome.attempts {
        let intent = intent(attempt.number);
        journal.intend(&outcome.item, intent.clone()).await.unwrap();
        journal
            .ended(&outcome.item, intent, Ended::of(attempt.clone()))
            .await;
    }
    journal.outcome(outcome.clone()).await.unwrap();
}

fn finish((writer, journal): (Writer, Journal)) -> Store {
    drop(journal);
    writer.finish().unwrap()
}

#[tokio::test]
async fn a_row_that_was_begun_is_known_by_its_new_place_when_the_job_has_another_order() {
    let kept = Kept::new();
    let mut store = kept.open();
    kept.register(&mut store, &["0", "1"]);
    let written = write(store);
    written
        .1
        .intend(&kept.item((0, 0, 0)), intent(1))
        .await
        .unwrap();
    let mut store = finish(written);
    kept.register(&mut store, &["1", "0"]);
    let written = write(store);
    let outcome = answered(kept.item((0, 0, 0)), vec![attempt(1)], None);
    go(&written.1, &outcome).await;
    let all = kept.all(&finish(written)).unwrap();
    let answered = all.iter().map(|stored| &stored.outcome);
    let mut answered = answered.filter(|outcome| outcome.status == Status::Answered);
    assert_eq!(answered.next().unwrap().item.row.cells, ["1"]);
    assert!(answered.next().is_none());
}

#[tokio::test]
async fn an_outcome_is_durable_before_any_attempt_that_is_noted_down_after_it_is_made() {
    let kept = Kept::new();
    let mut store = kept.open();
    kept.register(&mut store, &["0", "1"]);
    let reader = store.reader().unwrap();
    let (writer, journal) = write(store);
    for row in 0..2 {
        let outcome = answered(kept.item((row, 0, 0)), vec![attempt(1)], None);
        go(&journal, &outcome).await;
        let next = kept.item((row, 1, 0));
        journal.intend(&next, intent(1)).await.unwrap();
        let answered = reader.tally().unwrap().by_status[&Status::Answered];
        assert_eq!(answered, row + 1);
    }
    finish((writer, journal));
}

#[test]
fn every_row_is_handed_on_once_in_order_until_somebody_has_enough() {
    #[derive(Debug)]
    struct Enough;
    impl From<StoreError> for Enough {
        fn from(error: StoreError) -> Self {
            panic!("{error}")
        }
    }
    let kept = Kept::new();
    let mut store = kept.open();
    let texts: Vec<String> = (0..1000).map(|text| text.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    kept.register(&mut store, &texts);
    for enough in [1, 31, 32, 33, 999, 1000] {
        let mut seen = Vec::new();
        let read = store.lines().for_each_row(&kept.columns, |all| {
            seen.push(all[0].outcome.item.row.index);
            if seen.len() < enough {
                Ok(())
            } else {
                Err(Enough)
            }
        });
        assert!(matches!(read, Err(Enough)));
        assert!(seen.into_iter().eq(0..enough as u64), "{enough}");
    }
    assert_eq!(kept.all(&store).unwrap().len(), 1000 * 4);
}

#[tokio::test]
async fn outcomes_come_back_whole_by_row_and_entry_and_repeat() {
    let kept = Kept::new();
    let mut store = kept.open();
    kept.register(&mut store, &["0", "1", "2"]);
    let writer = write(store);
    let keys = [(2, 0, 0), (0, 1, 1), (0, 0, 0), (1, 1, 0), (0, 0, 1)];
    let mut outcomes = keys.map(|key| answered(kept.item(key), vec![attempt(1)], None));
    outcomes[1].attempts = vec![attempt(1), attempt(2), attempt(4)];
    outcomes[1].answered_by = Some(1);
    outcomes[3] = Outcome {
        status: Status::Failed,
        error: Some("unfit".to_owned()),
        ..Outcome::not_run(kept.item(keys[3]))
    };
    for outcome in &outcomes {
        go(&writer.1, outcome).await;
    }
    let found = kept.all(&finish(writer)).unwrap();
    let place = |item: &Item| (item.row.index, item.entry, item.repeat);
    let places: Vec<_> = found
        .iter()
        .map(|stored| place(&stored.outcome.item))
        .collect();
    let all = (0..3).flat_map(|row| [(row, 0, 0), (row, 0, 1), (row, 1, 0), (row, 1, 1)]);
    assert_eq!(places, all.collect::<Vec<_>>());
    for stored in found {
        let expected = outcomes
            .iter()
            .find(|o| place(&o.item) == place(&stored.outcome.item));
        let expected = expected.cloned();
        let never = || Outcome::not_run(stored.outcome.item.clone());
        assert_eq!(stored.outcome, expected.unwrap_or_else(never));
        assert!(stored.interrupted.is_empty());
    }
}

#[tokio::test]
async fn an_attempt_without_an_end_is_unknown_until_it_is_made_again() {
    let kept = Kept {
        repeat: 1,
        entries: vec![Arc::from("a")],
        ..Kept::new()
    };
    let mut store = kept.open();
    kept.register(&mut store, &["0", "1"]);
    let writer = write(store);
    let item = kept.item((0, 0, 0));
    writer.1.intend(&item, intent(1)).await.unwrap();
    let mut store = finish(writer);
    let changes = kept.register(&mut store, &["0", "1"]);
    assert_eq!((changes.unknown, changes.new), (1, 1));
    let found = kept.all(&store).unwrap().remove(0);
    assert_eq!(found.outcome.status, Status::Failed);
    assert_eq!(found.outcome.failure().unwrap().0, "cancelled");
    assert_eq!(found.outcome.attempts[0].cost, intent(1).reserved);

    let due = |on_unknown| {
        let reader = Reader::open(kept.dir.path()).unwrap();
        let wanted = Wanted {
            on_unknown,
            once: false,
        };
        reader.due(&kept.columns, None, 10, wanted).unwrap()
    };
    let (again, last) = due(OnUnknown::Resend);
    assert_eq!((again.len(), last), (2, Some(1)));
    assert_eq!((again[0].last_number, again[0].attempts.len()), (1, 0));
    let (others, last) = due(OnUnknown::Skip);
    assert_eq!(
        (others.len(), others[0].item.row.index, last),
        (1, 1, Some(1))
    );

    let writer = write(store);
    go(&writer.1, &answered(item, vec![attempt(2)], None)).await;
    let found = kept.all(&finish(writer)).unwrap().remove(0);
    assert_eq!(found.outcome.attempts, [attempt(2)]);
    assert_eq!(found.interrupted.len(), 1);
    assert_eq!(found.interrupted[0].class, Some(ErrorClass::Cancelled));
}

#[tokio::test]
async fn rows_that_move_keep_their_outcomes_whatever_the_order() {
    let texts: Vec<String> = (0..40).map(|row| row.to_string()).collect();
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..20 {
        let kept = Kept {
            repeat: 1,
            entries: vec![Arc::from("a")],
            ..Kept::new()
        };
        let mut store = kept.open();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        kept.register(&mut store, &texts);
        let writer = write(store);
        for row in 0..40 {
            let mut outcome = answered(kept.item((row, 0, 0)), vec![attempt(1)], None);
            outcome.answer.as_mut().unwrap().text = texts[row as usize].to_owned();
            go(&writer.1, &outcome).await;
        }
        let mut store = finish(writer);
        // Some go, some come, all change their places.
        let mut now = texts.clone();
        random.shuffle(&mut now);
        now.truncate(random.usize(0..=40));
        let kept_rows = now.len() as u64;
        let new: Vec<String> = (0..random.usize(0..5))
            .map(|n| format!("new {n}"))
            .collect();
        now.extend(new.iter().map(String::as_str));
        random.shuffle(&mut now);
        for again in [false, true] {
            let changes = kept.register(&mut store, &now);
            assert_eq!(changes.unchanged, kept_rows, "round {round}");
            assert_eq!(changes.new, new.len() as u64, "round {round}");
            let removed = if again { 0 } else { 40 - kept_rows };
            assert_eq!(changes.removed, removed, "round {round}");
        }
        let found = kept.all(&store).unwrap();
        assert_eq!(found.len(), now.len());
        for (stored, text) in found.iter().zip(&now) {
            assert_eq!(stored.outcome.item.row.cells[0], **text);
            let answer = stored.outcome.answer.as_ref().map(|answer| &*answer.text);
            assert_eq!(answer, (!text.starts_with("new")).then_some(&**text));
        }
    }
}

#[tokio::test]
async fn a_line_that_was_edited_or_damaged_is_not_believed() {
    for edit in [
        "UPDATE outcomes SET answer = 'no'",
        "UPDATE outcomes SET status = 'refused'",
        "UPDATE outcomes SET answered_by = NULL",
        "UPDATE attempts SET cost_usd = '0.00'",
        "UPDATE attempts SET usage = NULL",
        "UPDATE attempts SET fingerprint = x'00112233445566778899aabbccddeeff'",
        "UPDATE rows SET cells = '[\"1\"]'",
        "UPDATE rows SET id = 'another'",
    ] {
        let kept = Kept::new();
        let mut store = kept.open();
        kept.register(&mut store, &["0"]);
        let writer = write(store);
        go(
            &writer.1,
            &answered(kept.item((0, 0, 0)), vec![attempt(1)], None),
        )
        .await;
        drop(finish(writer));
        let database = rusqlite::Connection::open(kept.dir.path().join("run.db")).unwrap();
        assert_eq!(database.execute(edit, []).unwrap(), 1);
        drop(database);
        let error = kept.all(&kept.open()).unwrap_err();
        let why = error.to_string();
        assert!(why.contains("damaged or was edited"), "{edit}: {why}");
    }
}

#[tokio::test]
async fn a_store_that_is_taken_away_while_it_is_written_to_acknowledges_nothing_more() {
    for name in ["run.db", "run.db-wal"] {
        let kept = Kept::new();
        let mut store = kept.open();
        kept.register(&mut store, &["0", "1"]);
        let (writer, journal) = write(store);
        journal
            .intend(&kept.item((0, 0, 0)), intent(1))
            .await
            .unwrap();
        std::fs::remove_file(kept.dir.path().join(name)).unwrap();
        let second = journal.intend(&kept.item((1, 0, 0)), intent(1)).await;
        assert!(second.is_err(), "{name}");
        drop(journal);
        let error = writer.finish().unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }
}
