//! What follows upon answers, before there are any: what re-asking, judging and deciding may cost.

use super::gauge::Gauge;
use super::weigh::{Sums, bill};
use crate::answer::Reader;
use crate::engine::fan_out::render;
use crate::job::{AnswerPlan, BackendKind, JudgePlan, Plan, ScorerKind};
use crate::score::{Judge, Tag};
use crate::words::{Item, Message, Request, Role, Usd};

/// How often a judge is asked whose reply is no verdict.
const JUDGED: u64 = 2;
/// The bytes of a token of an answer that nobody has seen.
const BYTES: u64 = 4;
/// The share of rows, one in so many, that is taken to be escalated where nobody knows.
const ESCALATED: i128 = 5;

/// What may follow upon the answers of a job.
pub(super) struct FollowUps<'a> {
    plan: &'a Plan,
    judges: Vec<(Judge, &'a JudgePlan)>,
    reader: Option<Reader>,
}

impl<'a> FollowUps<'a> {
    /// Those of a job.
    pub(super) fn of(plan: &'a Plan) -> Self {
        let judge = |kind: &'a ScorerKind| match kind {
            ScorerKind::Judge(judge) => Some((Judge::of(judge), judge)),
            _ => None,
        };
        Self {
            plan,
            judges: plan
                .score
                .iter()
                .filter_map(|scorer| judge(&scorer.kind))
                .collect(),
            reader: plan.answer.as_ref().map(AnswerPlan::reader),
        }
    }

    /// What is said of these in words: what is taken for granted of them. `answered`: how many items are done.
    pub(super) fn assumptions(&self, answered: u64) -> Vec<String> {
        let mut said = Vec::new();
        if answered > 0 && (!self.judges.is_empty() || self.plan.escalate.is_some()) {
            said.push(format!(
                "what may follow upon the {answered} results that are done, such as judging them, is not counted"
            ));
        }
        let answer = self.plan.answer.as_ref();
        if answer.is_some_and(|answer| answer.reask > 0) && !self.answers_are_known() {
            said.push(
                "no model is expected to be asked again for a valid answer; the most counts it"
                    .to_owned(),
            );
        }
        if self.plan.escalate.is_some() && !self.answers_are_known() {
            said.push(format!(
                "one row in {ESCALATED} is taken to be escalated; the most counts them all"
            ));
        }
        said
    }

    /// Adds what follows upon a reply of this backend to an item.
    pub(super) fn add(
        &self,
        item: &Item,
        request: &Request,
        backend: usize,
        gauges: &mut [Gauge<'_>],
        sums: &mut [Sums],
    ) {
        let mut answer = self.answer(request, backend, gauges);
        let mut request = request.clone();
        let asked_again = self.plan.answer.as_ref().map_or(0, |answer| answer.reask);
        // Of an echo it is known whether it has to be asked again.
        let reader = self.reader.as_ref().filter(|_| self.is_known(backend));
        let why = |answer: &str| reader.and_then(|reader| reader.read(answer).err());
        for _ in 0..asked_again {
            let Some((reader, why)) = reader.zip(why(&answer)) else {
                break;
            };
            request.messages.push(turn(Role::Assistant, answer));
            request.messages.push(turn(Role::User, reader.demand(&why)));
            reply(backend, &request, 1, gauges, &mut sums[backend]);
            answer = self.answer(&request, backend, gauges);
        }
        if why(&answer).is_some() {
            return;
        }
        self.judge(item, &answer, (1, 1), gauges, sums);
    }

    /// Adds what those cost who decide where the entries disagree: of a row, to be called with its first item.
    pub(super) fn escalate(
        &self,
        item: &Item,
        request: &Request,
        gauges: &mut [Gauge<'_>],
        sums: &mut [Sums],
    ) {
        let Some(entry) = self
            .plan
            .escalate
            .as_ref()
            .filter(|_| item.entry == 0 && item.repeat == 0)
        else {
            return;
        };
        let Ok(Some([first, ..])) = entry.route(&item.row) else {
            return;
        };
        self.at_most(*first, request, 1, sums);
        let part = match self.disagree(item) {
            Some(false) => return,
            Some(true) => 1,
            None => ESCALATED,
        };
        reply(*first, request, part, gauges, &mut sums[*first]);
        let answer = self.answer(request, *first, gauges);
        self.judge(item, &answer, (1, part), gauges, sums);
    }

    /// The most that being asked again for a valid answer costs on a backend.
    pub(super) fn reasks_at_most(&self, backend: usize, request: &Request, sums: &mut [Sums]) {
        let (Some(answer), Some(reader)) = (&self.plan.answer, &self.reader) else {
            return;
        };
        let mut longer = request.clone();
        for _ in 0..answer.reask {
            let most = self.plan.backends[backend]
                .max_tokens()
                .map_or(0, u64::from);
            longer.messages.push(turn(Role::Assistant, filler(most)));
            longer
                .messages
                .push(turn(Role::User, reader.demand(&filler(100))));
            self.at_most(backend, &longer, 1, sums);
        }
    }

    fn judge(
        &self,
        item: &Item,
        answer: &str,
        (times, part): (u64, i128),
        gauges: &mut [Gauge<'_>],
        sums: &mut [Sums],
    ) {
        for (judge, plan) in &self.judges {
            let tag = Tag::of(0, &item.row, answer);
            let asked = judge.request(&item.row, answer, &tag, item.repeat);
            let (Ok(request), Some(first)) = (asked, plan.route.first()) else {
                continue;
            };
            self.at_most(*first, &request, times * JUDGED, sums);
            reply(*first, &request, part, gauges, &mut sums[*first]);
        }
    }

    fn at_most(&self, backend: usize, request: &Request, times: u64, sums: &mut [Sums]) {
        let beside = 1 + u64::from(self.plan.hedge_after.is_some());
        let attempts = u64::from(self.plan.retry.attempts) * beside * times;
        match self.plan.backends[backend].most(request) {
            Some(most) => sums[backend].at_most += most.times(attempts),
            None => sums[backend].unbounded = true,
        }
    }

    /// What a backend answers, or so much of something.
    fn answer(&self, request: &Request, backend: usize, gauges: &mut [Gauge<'_>]) -> String {
        match &self.plan.backends[backend].kind {
            BackendKind::Echo(script) => script.answer(request).unwrap_or_default(),
            _ => filler(gauges[backend].output(request).0),
        }
    }

    fn is_known(&self, backend: usize) -> bool {
        matches!(self.plan.backends[backend].kind, BackendKind::Echo(_))
    }

    /// Whether what every row is asked of says beforehand what it answers.
    fn answers_are_known(&self) -> bool {
        let mut rules = self.plan.entries.iter().flat_map(|entry| &entry.rules);
        rules.all(|rule| rule.to.first().is_some_and(|first| self.is_known(*first)))
    }

    /// Whether the entries disagree on a row; `None` where nobody knows yet.
    fn disagree(&self, item: &Item) -> Option<bool> {
        let reader = self.reader.as_ref().filter(|_| self.answers_are_known())?;
        let mut said = Vec::new();
        for entry in &self.plan.entries {
            let first = *entry.route(&item.row).ok()??.first()?;
            let BackendKind::Echo(script) = &self.plan.backends[first].kind else {
                return None;
            };
            let request = render(&self.plan.prompt, item).ok()?;
            let answer = script.answer(&request).ok()?;
            let valid = reader.read(&answer).ok();
            said.push(valid.filter(|valid| Some(valid.as_str()) != reader.abstain()));
        }
        Some(
            said.iter()
                .any(|answer| answer.is_none() || *answer != said[0]),
        )
    }
}

/// Adds a reply of a backend, or one in so many.
fn reply(backend: usize, request: &Request, part: i128, gauges: &mut [Gauge<'_>], sum: &mut Sums) {
    let input = gauges[backend].input(request);
    let (output, fewest) = gauges[backend].output(request);
    let price = gauges[backend].backend.price();
    let one = |amount: Usd| Usd::from_units(amount.units() / part);
    let asked = sum.asked_in_parts;
    sum.replies += i128::from(asked % part == 0);
    sum.asked_in_parts += i128::from(part > 1);
    sum.input += i128::from(input) / part;
    sum.output += i128::from(output) / part;
    sum.expected += one(bill(price, input, output));
    if part == 1 {
        sum.low += bill(price, input, fewest);
    }
}

fn turn(role: Role, content: String) -> Message {
    Message { role, content }
}

fn filler(tokens: u64) -> String {
    "x".repeat(
        usize::try_from(tokens.saturating_mul(BYTES))
            .unwrap_or(usize::MAX)
            .min(1 << 22),
    )
}
