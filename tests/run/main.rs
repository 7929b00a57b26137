//! The `runner` command and the library, end to end, against scripted backends and loopback servers.

// Helpers, shared with other test binaries.
#[path = "../common/loopback.rs"]
#[allow(clippy::unwrap_used, reason = "a test's helper may panic")]
mod loopback;
#[path = "../common/published.rs"]
mod published;
#[path = "../common/scratch.rs"]
mod scratch;
#[path = "../common/served.rs"]
mod served;
#[path = "../common/streamed.rs"]
mod streamed;
#[cfg(target_os = "linux")]
#[path = "../common/tty.rs"]
mod tty;

// The job that the project ships and that its README shows.
mod main_job;
// results.csv, results.jsonl and report.json: order, bytes, columns, money.
mod outputs;
// What an attempt is charged: fees, hours, counts that contradict each other.
mod charges;
// The cost report: what it adds up to, whatever goes wrong, and what it says to people.
mod money;
// Price files, what applies, what a finished run comes to by other prices.
mod prices;
// What each class of failure leads to: attempts, waits, the next backend, the exit code.
mod resume;
mod retry;
// Answers that jobs share: what is not asked again, what is never taken for an answer.
mod budget;
mod cache;
// A cache that others use, lock, damage or replace; one that is something else.
mod cache_harm;
// What a run must come to: thresholds, exit code 7.
mod gate;
// Runs that are compared with others, stored or in a file.
mod baseline;
// junit.xml and the summary of a step on GitHub Actions: what CI systems show.
mod junit;
// Two runs side by side, and the noise between runs that should be alike.
mod diff;
// Rows that ask the same, asked once.
mod dedupe;
// Which backend is asked when, and when nobody else is.
mod fallback;
// Every row to several entries, by rules, several times: matrix, route, repeat.
mod order;
// Backends that the job declares, without a line of Rust.
mod declared;
// Replies that come as streams of events.
mod streams;
// Servers and rows that mean harm: keys, terminals, endless replies.
mod hostile;
// What a model may write to harm those who look at the results: formulas, markup, commands to terminals.
mod payloads;
// What people are told about a wrong job, input, backend or command, case by case.
mod told;
// What is said of limits, pauses and outages, and that nothing is said without any.
mod tell;
// What is never exceeded: requests a minute, requests at once, tokens a minute.
mod limits;
// What a run would ask, take and cost, told before.
mod plan;
// What an answer must be: what is understood, refused, asked again; where the form is sent.
mod answer;
// How good answers are, by what the row says or a program says.
mod score;
// A model that judges, and candidates that would rather judge themselves.
mod follow_ups;
mod judge;
// Rows on which the entries of a matrix disagree; labels.csv.
mod escalate;
// What is shown of a run: on terminals of many widths, elsewhere, and whatever it is that is to be shown.
#[cfg(target_os = "linux")]
mod progress;
// The same for programs, and the log.
mod events;
mod logs;
// Signals, a second runner, a reader that leaves.
mod stop;
// What becomes of answers for which there is no room.
mod full_disk;
// What is refused before anything is sent, and how that looks; which rows an input gives.
mod inputs;
// A first job of one's own, written for an input.
mod init;
// A job as it is run, and what it would send.
mod explain;
// One row to each backend, before thousands go there.
mod probe;
// What shells and readers of manuals are told of the command line.
mod shell;
// What inputs may be: delimiters, JSON Lines, Parquet, packed files, standard input; results on standard output.
mod formats;
// Inputs that are small and ask for much, or are damaged so that they look like shorter ones.
mod input_harm;
// Each exit code that no other file shows.
mod exit_codes;
// The library: workers of one's own, events, errors.
mod library;
// Results and reports from the store alone: of runs that ended, were killed, could not write.
mod export;
// How far a run is: from another terminal, after a kill, where nothing can be written.
mod status;
// Every total and every file recomputed: what was edited, cut, or is from another run.
mod verify;
// Thousands of rows in virtual time: rates, waits, pauses, stops.
