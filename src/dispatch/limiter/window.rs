//! What was taken in the last 60 seconds, so that no 60 seconds ever hold more than the limit.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
/// Amounts are summed up in slots of this length; a slot counts until the last thing in it can be a
/// minute old. So memory is bounded, and the sum is never too small.
const SLOT: Duration = Duration::from_millis(100);

/// A sliding sum over the last minute.
#[derive(Debug)]
pub(in crate::dispatch) struct Window {
    epoch: Instant,
    slots: VecDeque<(u64, u64)>,
    sum: u64,
}

/// Where an amount was put, so that it can be corrected.
pub(in crate::dispatch) type Slot = u64;

impl Window {
    /// A minute in which nothing was taken.
    pub(in crate::dispatch) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            slots: VecDeque::new(),
            sum: 0,
        }
    }

    /// Takes an amount now.
    pub(in crate::dispatch) fn add(&mut self, amount: u64) -> Slot {
        let elapsed = self.epoch.elapsed().as_millis() / SLOT.as_millis();
        let now = u64::try_from(elapsed).unwrap_or(u64::MAX);
        self.sum = self.sum.saturating_add(amount);
        match self.slots.back_mut() {
            Some((slot, taken)) if *slot == now => *taken = taken.saturating_add(amount),
            _ => self.slots.push_back((now, amount)),
        }
        now
    }

    /// Changes what was taken in a slot from one amount to another, if it still counts.
    pub(in crate::dispatch) fn correct(&mut self, slot: Slot, from: u64, to: u64) {
        self.expire();
        let Ok(position) = self.slots.binary_search_by_key(&slot, |(slot, _)| *slot) else {
            return;
        };
        let taken = &mut self.slots[position].1;
        self.sum = self.sum.saturating_sub(*taken);
        *taken = taken.saturating_sub(from).saturating_add(to);
        self.sum = self.sum.saturating_add(*taken);
    }

    /// What was taken in a slot is only really taken now.
    pub(in crate::dispatch) fn postpone(&mut self, slot: Slot, amount: u64) -> Slot {
        self.correct(slot, amount, 0);
        self.add(amount)
    }

    /// What the last minute holds.
    pub(in crate::dispatch) fn sum(&mut self) -> u64 {
        self.expire();
        self.sum
    }

    /// How long until so much may be taken under this limit.
    pub(in crate::dispatch) fn wait_for(&mut self, amount: u64, limit: u64) -> Duration {
        self.expire();
        let room = limit.saturating_sub(amount.min(limit));
        let mut sum = self.sum;
        let mut until = self.epoch;
        for (slot, taken) in &self.slots {
            if sum <= room {
                break;
            }
            sum = sum.saturating_sub(*taken);
            until = self.end(*slot);
        }
        until.saturating_duration_since(Instant::now())
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((slot, taken)) = self.slots.front()
            && self.end(*slot) <= now
        {
            self.sum = self.sum.saturating_sub(*taken);
            self.slots.pop_front();
        }
    }

    fn end(&self, slot: Slot) -> Instant {
        let after = u32::try_from(slot + 1).unwrap_or(u32::MAX);
        self.epoch + SLOT * after + MINUTE
    }
}
