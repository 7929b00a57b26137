//! What follows upon the answers: rows on which the entries of a matrix disagree go to those who decide, and answers to
//! those who say what they are worth.
//!
//! Follow-ups are items like all others: noted down before they are sent, stored, paid from the same budget under the
//! same limits, and asked once; a row whose answers change is followed up anew.

use std::sync::Arc;

use super::command::Program;
use super::fan_out::{Dues, READ_AHEAD, read_pages, render};
use super::marks::Marker;
use super::shape::Part;
use crate::dispatch::{Demand, Rejected};
use crate::job::{Entry, Identity, Plan, PromptPlan, ScorerKind};
use crate::score::{Judge, Tag};
use crate::store::{FollowUp, Reader, StoreError, Stored};
use crate::words::{Digest, Item, Outcome, Request};

/// How often a judge is asked again whose reply is no verdict.
const JUDGED_AGAIN: u32 = 1;

/// What may be asked about answers, and how.
pub(super) struct FollowUps {
    pub(super) marker: Marker,
    prompt: PromptPlan,
    /// Who is asked, by the number of the entry: those of the matrix, those who decide, those who judge.
    entries: Vec<Entry>,
    identities: Vec<Identity>,
    programs: Vec<Option<Program>>,
}

/// A round of follow-ups: one looks at what another brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// Rows go to those who decide.
    Escalation,
    /// Answers go to the models that judge.
    Judging,
    /// Answers go to this scorer's program.
    Command(usize),
}

impl FollowUps {
    /// Those of a job. `marker` is the one of its settings.
    pub(super) fn of(plan: &Plan, marker: Marker) -> Self {
        let mut entries: Vec<Entry> = plan.entries.iter().chain(&plan.escalate).cloned().collect();
        for scorer in marker.shape.asking() {
            let route = match &plan.score[*scorer].kind {
                ScorerKind::Judge(judge) => judge.route.as_slice(),
                _ => &[],
            };
            let name = plan.score[*scorer].name.as_str();
            let sides = (0..marker.shape.lines()).map(|_| Entry::always(name, route));
            entries.extend(sides);
        }
        let program = |kind: &ScorerKind| match kind {
            ScorerKind::Command { program, timeout } => Some(Program::new(program, *timeout)),
            _ => None,
        };
        Self {
            entries,
            prompt: plan.prompt.clone(),
            identities: plan.backends.iter().map(|b| b.identity()).collect(),
            programs: plan
                .score
                .iter()
                .map(|scorer| program(&scorer.kind))
                .collect(),
            marker,
        }
    }

    /// Nothing is asked about answers.
    #[cfg(test)]
    pub(super) fn none(entries: Vec<Entry>) -> Self {
        let names: Vec<String> = entries.iter().map(|entry| entry.name.to_string()).collect();
        Self {
            marker: Marker::new(&super::marks::Marking::default(), &names, None),
            prompt: PromptPlan::default(),
            entries,
            identities: Vec::new(),
            programs: Vec::new(),
        }
    }

    /// Who is asked, by the number of the entry.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The program of a scorer.
    pub(super) fn program(&self, scorer: usize) -> Option<&Program> {
        self.programs.get(scorer)?.as_ref()
    }

    /// The rounds of the job, in order.
    pub(super) fn rounds(&self) -> Vec<Round> {
        let shape = &self.marker.shape;
        let mut rounds = Vec::new();
        rounds.extend(shape.escalated().map(|_| Round::Escalation));
        let judges = |scorer: &&usize| self.marker.judge(**scorer).is_some();
        rounds.extend(shape.asking().iter().find(judges).map(|_| Round::Judging));
        let programs = shape.asking().iter().filter(|scorer| !judges(scorer));
        rounds.extend(programs.map(|scorer| Round::Command(*scorer)));
        rounds
    }

    /// The scorers that have their answers in a round.
    pub(super) fn concerned(&self, round: Round) -> Vec<usize> {
        let is_asked = |scorer: &usize| match round {
            Round::Escalation => false,
            Round::Judging => self.marker.judge(*scorer).is_some(),
            Round::Command(own) => *scorer == own,
        };
        let asking = self.marker.shape.asking().iter().copied();
        asking.filter(is_asked).collect()
    }

    /// What an item that is about an answer asks, and what the reply must be. `None` for those who decide, who are
    /// asked what everybody was asked.
    pub(super) fn about(
        &self,
        item: &Item,
        answer: &str,
    ) -> Option<Result<(Request, Demand), String>> {
        let Part::Side { scorer, .. } = self.marker.shape.part(item.entry) else {
            return None;
        };
        let judge = self.marker.judge(scorer)?;
        let tag = self.marker.tag(&item.row, answer);
        let request = judge.request(&item.row, answer, &tag, item.repeat);
        Some(request.map(|request| (request, demand(Arc::clone(judge), tag))))
    }

    /// Whatever may follow upon the answers to a row, in any round; those who decide whether they are needed or not.
    pub(super) fn all(&self, all: &[Stored]) -> Vec<FollowUp> {
        let lines = self.lines(all);
        let decides = lines.first().and_then(|line| self.decides(line));
        let rounds = self.rounds().into_iter();
        let rounds = rounds.filter(|round| *round != Round::Escalation);
        let others = rounds.flat_map(|round| self.follows(round, all));
        decides.into_iter().chain(others).collect()
    }

    /// What has lines in the results of what is stored of a row.
    fn lines<'a>(&self, all: &'a [Stored]) -> Vec<&'a Outcome> {
        let outcomes = all.iter().map(|stored| &stored.outcome);
        outcomes
            .filter(|outcome| self.marker.is_line(outcome))
            .collect()
    }

    /// What is to be asked about the answers to a row in this round.
    fn follows(&self, round: Round, all: &[Stored]) -> Vec<FollowUp> {
        let lines = self.lines(all);
        match round {
            Round::Escalation => self.escalated(&lines).into_iter().collect(),
            Round::Judging => {
                let judges = self.marker.shape.asking().iter();
                let judges = judges.filter(|scorer| self.marker.judge(**scorer).is_some());
                judges
                    .flat_map(|scorer| self.sides(*scorer, &lines))
                    .collect()
            }
            Round::Command(scorer) => self.sides(scorer, &lines),
        }
    }

    /// The row for those who decide, if the others have all ended and do not agree on a valid answer.
    fn escalated(&self, lines: &[&Outcome]) -> Option<FollowUp> {
        let all_ended = lines.iter().all(|line| {
            line.status.is_final()
                || Some(line.item.entry as usize) == self.marker.shape.escalated()
        });
        let is_needed = all_ended && !self.marker.agree(lines.iter().copied());
        is_needed.then(|| self.decides(lines.first()?)).flatten()
    }

    /// What those are asked who decide.
    fn decides(&self, line: &Outcome) -> Option<FollowUp> {
        let item = Item {
            entry: u32::try_from(self.marker.shape.escalated()?).unwrap_or(u32::MAX),
            repeat: 0,
            ..line.item.clone()
        };
        let request = render(&self.prompt, &item);
        let answers = request.map(|request| self.fingerprints(&item, &request));
        Some(FollowUp {
            entry: item.entry,
            repeat: 0,
            about: None,
            answers: answers.unwrap_or_default(),
        })
    }

    /// The valid answers of a row for a scorer.
    fn sides(&self, scorer: usize, lines: &[&Outcome]) -> Vec<FollowUp> {
        let side = |line: &&Outcome| {
            let entry = self.marker.shape.side(scorer, line.item.entry as usize)?;
            let answer = self.marker.valid(line)?;
            let item = Item {
                entry: u32::try_from(entry).unwrap_or(u32::MAX),
                ..line.item.clone()
            };
            let answers = match self.program(scorer) {
                Some(program) => vec![program.fingerprint(&item.row, &answer)],
                None => match self.about(&item, &answer)? {
                    Ok((request, _)) => self.fingerprints(&item, &request),
                    Err(_) => Vec::new(),
                },
            };
            Some(FollowUp {
                entry: item.entry,
                repeat: item.repeat,
                about: Some(answer),
                answers,
            })
        };
        lines.iter().filter_map(side).collect()
    }

    fn fingerprints(&self, item: &Item, request: &Request) -> Vec<Digest> {
        let entry = self.entries.get(item.entry as usize);
        let route = entry.and_then(|entry| entry.route(&item.row).ok().flatten());
        let route = route.unwrap_or_default().iter();
        route
            .map(|backend| self.identities[*backend].fingerprint(request))
            .collect()
    }
}

/// What a judge must say.
fn demand(judge: Arc<Judge>, tag: Tag) -> Demand {
    let check = move |text: &str| match judge.ruling(text, &tag) {
        Ok(_) => Ok(()),
        Err(reason) => Err(Rejected {
            demand: judge.demand(&reason),
            reason,
        }),
    };
    Demand {
        check: Some(Arc::new(check)),
        reask: JUDGED_AGAIN,
        judges: true,
    }
}

/// Reads what a round asks from the store, as [`super::fan_out::read_ahead`] reads rows. `begins` is called if there is
/// anything to do.
pub(super) fn read_round(
    reader: Reader,
    plan: &Plan,
    follow_ups: &Arc<FollowUps>,
    round: Round,
    begins: impl FnOnce(&Reader, &FollowUps) -> Result<(), StoreError> + Send + 'static,
) -> Dues {
    let (columns, on_unknown) = (Arc::clone(&plan.columns), plan.on_unknown);
    let follow_ups = Arc::clone(follow_ups);
    let mut begins = Some(begins);
    read_pages(move |after| {
        let follows = |all: &[Stored]| follow_ups.follows(round, all);
        let page = reader.due_follow_ups(&columns, after, READ_AHEAD, on_unknown, &follows)?;
        if !page.0.is_empty()
            && let Some(begins) = begins.take()
        {
            begins(&reader, &follow_ups)?;
        }
        Ok(page)
    })
}
