//! The cache: answers that jobs and runs share. It only ever spares requests; what a run knows is in its store.
//!
//! Two threads of its own, so that the run never waits for the file but where it looks for an answer: one looks,
//! one adds what is durable in the run's store. What goes wrong is told once, and the run goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::sqlite::{CacheFile, Trouble};
use crate::words::{AttemptKind, Digest, Event, FinishReason, Outcome, Status, Usage, Usd};

/// The most lookups and the most notes that wait.
const QUEUE: usize = 8 * 1024;
/// The most notes in one transaction.
const BATCH: usize = 1024;
/// The most bytes of answers that wait to be added.
const MOST_BYTES: usize = 64 << 20;

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheEntry {
    /// What was asked.
    pub fingerprint: Digest,
    /// The answer.
    pub text: String,
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
    /// The model that answered.
    pub model: Option<String>,
    /// What was used then.
    pub usage: Option<Usage>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// What it cost then, where that is known.
    pub cost: Option<Usd>,
}

impl CacheEntry {
    /// What is kept of an outcome: a whole answer to a request that was made, and nothing less.
    fn of(outcome: &Outcome) -> Option<Self> {
        let (answer, attempt) = (outcome.answer.as_ref()?, outcome.deciding()?);
        let is_clean = outcome.status == Status::Answered
            && attempt.class.is_none()
            && attempt.kind.is_request()
            // It followed upon another answer, or is about one and bears the mark of its store.
            && !matches!(attempt.kind, AttemptKind::ReAsk | AttemptKind::Judge)
            && is_end(answer.finish_reason.as_ref())
            && !answer.text.trim().is_empty();
        is_clean.then(|| Self {
            fingerprint: attempt.fingerprint,
            text: answer.text.clone(),
            finish_reason: answer.finish_reason.clone(),
            model: attempt.model.clone(),
            usage: attempt.usage,
            request_id: attempt.request_id.clone(),
            cost: attempt.worth(),
        })
    }

    /// Whether it can be an answer, whoever wrote it.
    fn is_clean(&self) -> bool {
        is_end(self.finish_reason.as_ref()) && !self.text.trim().is_empty()
    }

    fn bytes(&self) -> usize {
        self.text.len() + size_of::<Self>()
    }
}

/// Whether the model stopped by itself, as far as one can know.
fn is_end(reason: Option<&FinishReason>) -> bool {
    matches!(reason, None | Some(FinishReason::Stop))
}

/// What is to be done to the file.
#[derive(Debug)]
pub(super) enum Note {
    /// An answer is added, or takes the place of the one before.
    Keep(Box<CacheEntry>),
    /// An entry that is damaged is thrown away.
    Remove(Digest),
}

type Look = (Digest, oneshot::Sender<Option<CacheEntry>>);
type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// The way to the cache. Clones share it.
#[derive(Debug, Clone)]
pub struct Cache {
    looks: Option<mpsc::Sender<Look>>,
    notes: Option<Notes>,
}

impl Cache {
    /// The answer to this request, if the cache has one. A cache that has failed has none.
    pub async fn find(&self, fingerprint: Digest) -> Option<CacheEntry> {
        let (answer, found) = oneshot::channel();
        let looks = self.looks.as_ref()?;
        looks.send((fingerprint, answer)).await.ok()?;
        found.await.ok()?
    }

    /// Adds the answer of an outcome, if it is a whole one. Returns at once: when more is waiting than a sound disk
    /// ever lets wait, the answer is not added.
    pub fn keep(&self, outcome: &Outcome) {
        if let (Some(notes), Some(entry)) = (&self.notes, CacheEntry::of(outcome)) {
            notes.keep(entry);
        }
    }
}

/// The queue of what is to be done to the file.
#[derive(Debug, Clone)]
struct Notes {
    queue: mpsc::Sender<Note>,
    bytes: Arc<AtomicUsize>,
}

impl Notes {
    fn keep(&self, entry: CacheEntry) {
        let bytes = entry.bytes();
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let note = || Note::Keep(Box::new(entry));
        if waiting + bytes > MOST_BYTES || self.queue.try_send(note()).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            tracing::debug!("an answer is not added to the cache: too many are waiting");
        }
    }
}

/// A cache that is only looked into.
pub struct Glance {
    file: CacheFile,
    own: i64,
}

impl Glance {
    /// Opens a cache without a write. `own` names the store of whoever looks, if it has a name yet. `None` where there
    /// is no cache, or none that can be read.
    pub fn open(path: &Path, own: Option<i64>) -> Option<Self> {
        let file = CacheFile::open_to_look(path)?;
        // What has no name has put nothing there.
        let own = own.unwrap_or_default();
        Some(Self { file, own })
    }

    /// Whether the cache has an answer to this request.
    pub fn has(&self, fingerprint: &Digest) -> bool {
        let found = self.file.find(fingerprint, self.own);
        found.is_ok_and(|found| found.is_some_and(|entry| entry.is_clean()))
    }
}

/// A cache while a run uses it.
pub struct Caching {
    cache: Cache,
    threads: Vec<JoinHandle<()>>,
}

impl Caching {
    /// Opens a cache. `own` names the run's store, whose own answers are not found: equal rows of one job are asked
    /// each for itself. Without `look` nothing is found at all. `None` if it cannot be used, which is told.
    pub fn open(path: &Path, own: i64, look: bool, tell: Tell) -> Option<Self> {
        let opened =
            CacheFile::open(path).and_then(|to_look| Ok((to_look, CacheFile::open(path)?)));
        let (to_look, to_fill) = match opened {
            Ok(files) => files,
            Err(error) => {
                tell(Event::CacheLost { error });
                return None;
            }
        };
        let mut threads = Vec::new();
        let mut start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            // Without its thread nothing is looked for, or nothing added.
            threads.extend(thread.spawn(work).ok());
        };
        let notes = match to_fill.read_only() {
            Some(error) => {
                let error = error.to_owned();
                tell(Event::CacheNotFilled { error });
                None
            }
            None => {
                let (queue, taken) = mpsc::channel(QUEUE);
                let bytes = Arc::<AtomicUsize>::default();
                let (waiting, tell) = (Arc::clone(&bytes), Arc::clone(&tell));
                start(
                    "cache-fill",
                    Box::new(move || fill(&to_fill, own, taken, &waiting, &tell)),
                );
                Some(Notes { queue, bytes })
            }
        };
        let looks = look.then(|| {
            let (looks, taken) = mpsc::channel(QUEUE);
            let notes = notes.clone();
            start(
                "cache-look",
                Box::new(move || answer(&to_look, own, taken, notes.as_ref(), &tell)),
            );
            looks
        });
        let cache = Cache { looks, notes };
        Some(Self { cache, threads })
    }

    /// The way to it.
    pub fn cache(&self) -> Cache {
        self.cache.clone()
    }

    /// Waits until everything is added. Every [`Caching::cache`] must be dropped before.
    pub fn finish(self) {
        drop(self.cache);
        for thread in self.threads {
            // It costs answers to other runs, none of this one.
            let _ = thread.join();
        }
    }
}

fn answer(
    file: &CacheFile,
    own: i64,
    mut looks: mpsc::Receiver<Look>,
    notes: Option<&Notes>,
    tell: &Tell,
) {
    let mut told = false;
    while let Some((fingerprint, answer)) = looks.blocking_recv() {
        let found = match file.find(&fingerprint, own) {
            Ok(found) => found.filter(CacheEntry::is_clean),
            Err(Trouble::Damaged) => {
                if !std::mem::replace(&mut told, true) {
                    tell(Event::CacheEntryDamaged);
                }
                if let Some(notes) = notes {
                    let _ = notes.queue.try_send(Note::Remove(fingerprint));
                }
                None
            }
            Err(Trouble::Lost(error)) => {
                tell(Event::CacheLost { error });
                // Also who is just about to ask must hear that there is no answer: what is dropped is one.
                drop(answer);
                looks.close();
                while looks.blocking_recv().is_some() {}
                return;
            }
        };
        let _ = answer.send(found);
    }
}

fn fill(
    file: &CacheFile,
    own: i64,
    mut notes: mpsc::Receiver<Note>,
    waiting: &AtomicUsize,
    tell: &Tell,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while notes.blocking_recv_many(&mut batch, BATCH) > 0 {
        if let Err(error) = file.write(&batch, own) {
            tell(Event::CacheNotFilled { error });
            return;
        }
        for note in batch.drain(..) {
            if let Note::Keep(entry) = note {
                waiting.fetch_sub(entry.bytes(), Ordering::Relaxed);
            }
        }
    }
}
