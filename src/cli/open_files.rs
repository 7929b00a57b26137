//! The limit on open files, which a connection counts against: raised to what a job needs.

use tokio_prompt_orchestrator::Runner;

use super::display::thousands;

/// Lets this process open as many files as a run of the job may. Where it may not, the run has fewer rows in flight,
/// and that is told.
pub fn allow(runner: Runner, tell: impl FnOnce(&str)) -> Runner {
    let needed = runner.open_files();
    let most = raise(needed);
    if most >= needed {
        return runner;
    }
    let wanted = runner.plan().concurrency as u64;
    let runner = runner.with_open_files(most);
    tell(&format!(
        "{} rows in flight may need {} open files, and this process is allowed {}: no more than {} are in flight \
         at once; allow more (`ulimit -n {needed}`), or lower `concurrency`",
        thousands(wanted),
        thousands(needed),
        thousands(most),
        thousands(runner.plan().concurrency as u64),
    ));
    runner
}

/// Raises the limit to so many if need be, or as far as it goes. Returns how many it is then.
#[cfg(unix)]
fn raise(needed: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Where there is no limit, nothing is in the way.
    let current = || getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if current() < needed {
        // No further than needed: programs that a run starts inherit it, and some go through every number up to it.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let raised = Rlimit {
            current: Some(needed.min(maximum.unwrap_or(u64::MAX))),
            maximum,
        };
        // Where that is refused, the limit is what it was.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    current()
}

/// Elsewhere connections are not counted among files.
#[cfg(not(unix))]
fn raise(_needed: u64) -> u64 {
    u64::MAX
}
