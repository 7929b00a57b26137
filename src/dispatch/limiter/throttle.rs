//! What follows a refusal (429, 529): one pause for everybody, then careful steps back.
//!
//! All refusals of requests that were sent before the first of them was seen are one episode. If nothing
//! was answered between two episodes, the server is asked by one request at a time until one is answered,
//! at most once in ten seconds.

use std::time::Duration;

use tokio::time::Instant;

use crate::job::RetryPolicy;

/// How long a server is left alone that refuses one probe after the other.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// Whether the server refuses, and since when.
#[derive(Debug)]
pub(super) struct Throttle {
    policy: RetryPolicy,
    random: fastrand::Rng,
    episode: Option<Episode>,
    /// Requests that were admitted and not refused since the last refusal.
    answered: bool,
    refusals: u64,
    episodes: u64,
    paused: Duration,
}

/// A time in which the server refuses.
#[derive(Debug)]
struct Episode {
    /// When its first refusal was seen.
    began: Instant,
    /// When the last pause began: what was sent before says nothing new.
    round_began: Instant,
    rounds: u32,
    until: Instant,
    /// Whether one request at a time finds out if it is over, and whether one is on its way.
    single: bool,
    probing: bool,
}

/// What a refusal meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The first of an episode.
    Began,
    /// A pause was tried to end, too early.
    Continued,
    /// One more of what was sent before.
    Known,
}

impl Episode {
    /// How much of its last pause is over.
    fn paused(&self) -> Duration {
        let end = self.until.min(Instant::now());
        end.saturating_duration_since(self.round_began)
    }
}

impl Throttle {
    /// Nothing refused yet.
    pub(super) fn new(policy: RetryPolicy, seed: u64) -> Self {
        Self {
            policy,
            random: fastrand::Rng::with_seed(seed),
            episode: None,
            answered: false,
            refusals: 0,
            episodes: 0,
            paused: Duration::ZERO,
        }
    }

    /// How many requests were refused.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// In how many episodes.
    pub(super) fn episodes(&self) -> u64 {
        self.episodes
    }

    /// How long nothing was admitted, all pauses together.
    pub(super) fn paused(&self) -> Duration {
        let now = self.episode.as_ref().map(Episode::paused);
        self.paused + now.unwrap_or_default()
    }

    /// How much longer nothing is admitted.
    pub(super) fn pause_left(&self) -> Duration {
        let until = self.episode.as_ref().map(|episode| episode.until);
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// How long the server has been refusing everything.
    pub(super) fn refusing_for(&self) -> Duration {
        let began = self.episode.as_ref().map(|episode| episode.began);
        began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// Whether a request may be sent now; else when to ask again, or `None` for after the probe.
    pub(super) fn check(&self) -> Result<(), Option<Instant>> {
        match &self.episode {
            Some(episode) if Instant::now() < episode.until => Err(Some(episode.until)),
            Some(episode) if episode.single && episode.probing => Err(None),
            _ => Ok(()),
        }
    }

    /// A request is sent. `true` if it is the probe that the others wait for.
    pub(super) fn sent(&mut self) -> bool {
        match &mut self.episode {
            Some(episode) if episode.single => {
                episode.probing = true;
                true
            }
            _ => false,
        }
    }

    /// The probe came back, or never will: the next one may try.
    pub(super) fn probe_ended(&mut self) {
        if let Some(episode) = &mut self.episode {
            episode.probing = false;
        }
    }

    /// A request that was sent at this time was not refused.
    pub(super) fn answered(&mut self, sent: Instant) {
        self.answered = true;
        if let Some(episode) = self.episode.take_if(|episode| sent >= episode.until) {
            self.paused += episode.paused();
        }
    }

    /// A request that was sent at this time was refused; the server asks for so long a wait.
    pub(super) fn refused(&mut self, sent: Instant, wait: Option<Duration>) -> Refusal {
        self.refusals += 1;
        let now = Instant::now();
        let asked_for = now + wait.unwrap_or_default();
        let answered = std::mem::take(&mut self.answered);
        let Some(episode) = &mut self.episode else {
            let until = asked_for.max(now + self.pause(0));
            self.episodes += 1;
            self.episode = Some(Episode {
                began: now,
                round_began: now,
                rounds: 1,
                until,
                single: !answered,
                probing: false,
            });
            return Refusal::Began;
        };
        if sent < episode.round_began {
            self.answered = answered;
            episode.until = episode.until.max(asked_for);
            return Refusal::Known;
        }
        let rounds = episode.rounds;
        let until = asked_for.max(now + self.pause(rounds));
        if let Some(episode) = &mut self.episode {
            self.paused += episode.paused();
            episode.round_began = now;
            episode.rounds += 1;
            episode.until = until;
            episode.single = true;
        }
        Refusal::Continued
    }

    /// The pause after so many pauses that were too short, where the server does not say more.
    fn pause(&mut self, rounds: u32) -> Duration {
        let initial = self.policy.initial;
        let (least, most) = match rounds {
            0 => (initial / 2, initial),
            1 => (initial * 2, initial * 4),
            _ => (PROBE_EVERY, PROBE_EVERY + Duration::from_secs(1)),
        };
        let (least, most) = (least.min(self.policy.max), most.min(self.policy.max));
        let range = u64::try_from((most - least).as_micros()).unwrap_or(0);
        least + Duration::from_micros(self.random.u64(0..=range))
    }
}
