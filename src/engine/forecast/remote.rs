//! Tokens counted by the servers that would be asked. They answer that for nothing.

use std::sync::Arc;

use futures::{StreamExt, stream};

use super::survey::Stratum;
use crate::engine::fan_out::render;
use crate::job::Plan;
use crate::words::with_causes;
use crate::worker::ModelWorker;

/// How many requests are with a server at once.
const AT_ONCE: usize = 8;

/// The input tokens of each request of a sample, in order, or why they are not known. `None` where nothing is asked of
/// the backend, or it has no way to count.
pub(super) async fn count(
    plan: &Plan,
    worker: &Arc<dyn ModelWorker>,
    stratum: &Stratum,
) -> Option<Result<Vec<u64>, String>> {
    let requests = stratum.sample.iter();
    let requests = requests.filter_map(|sampled| render(&plan.prompt, &sampled.item).ok());
    let mut counting = stream::iter(requests)
        .map(|request| async move { worker.count_tokens(&request).await })
        .buffered(AT_ONCE);
    let mut counts = Vec::with_capacity(stratum.sample.len());
    while let Some(counted) = counting.next().await {
        match counted? {
            Ok(tokens) => counts.push(tokens),
            // The others would fail alike, and a part of a sample is none.
            Err(error) => return Some(Err(with_causes(&error))),
        }
    }
    (!counts.is_empty()).then_some(Ok(counts))
}
