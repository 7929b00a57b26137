//! Faults at chosen system calls, by `strace`.
//!
//! `strace -f -e inject=CALL:…:when=N` counts for each thread and each name of a call on its own: the first
//! thread that makes its Nth call of this name gets the fault. So every point of a run is a name and a
//! number. Opening the store and writing to it are done by different threads, and the first calls of the
//! writer are hidden behind those of the one that opens a new store; a store that is there already needs few
//! calls to be opened, so that the same numbers reach them in the runs after the first. Opening is counted
//! for each path (`-P`), for every program opens a dozen libraries first, and so is `write`, which is used for
//! sockets as well; but not where the name of a file is random. (`--seccomp-bpf` does not count right in strace 6.1.)

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::scratch::skipped;

/// Every call that changes what is on the disk. A question mark: not every system has it.
const CALLS: [&str; 17] = [
    "write",
    "pwrite64",
    "writev",
    "?pwritev",
    "fsync",
    "fdatasync",
    "?rename",
    "?renameat",
    "renameat2",
    "ftruncate",
    "fallocate",
    "openat",
    "?unlink",
    "unlinkat",
    "?mkdir",
    "?link",
    "linkat",
];

/// Where `strace` is, if it is there and may trace; else says so.
pub fn find(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("strace"));
    let Some(strace) = places.find(|place| place.is_file()) else {
        skipped(test, "strace is not installed (install strace to run it)");
        return None;
    };
    let mut command = Command::new(&strace);
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "true"]);
    let may = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        skipped(test, "strace may not trace on this machine");
        return None;
    }
    Some(strace)
}

/// The options that log every call that changes what is on the disk.
pub fn logging() -> Vec<String> {
    vec!["-e".to_owned(), format!("trace={}", CALLS.join(","))]
}

/// A point of a run: the nth call of this name in a thread.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub name: String,
    pub nth: usize,
    /// Only calls with this path count, as the program writes it; `~` is the directory of the test.
    pub path: Option<String>,
}

impl Point {
    /// The options that make this happen here: `signal=KILL`, `error=EIO`; with a `+` after it also at every
    /// later call of the name.
    pub fn inject(&self, fault: &str, home: &Path) -> Vec<String> {
        let (fault, more) = match fault.strip_suffix('+') {
            Some(fault) => (fault, "+"),
            None => (fault, ""),
        };
        let Self { name, nth, path } = self;
        let mut options = vec!["-e".to_owned(), format!("trace={name}")];
        options.extend([
            "-e".to_owned(),
            format!("inject={name}:{fault}:when={nth}{more}"),
        ]);
        if let Some(path) = path {
            let path = path.replacen('~', &home.to_string_lossy(), 1);
            options.extend(["-P".to_owned(), path]);
        }
        options
    }

    /// What the call was about that the fault hit, if it did.
    pub fn hit(&self, log: &Path) -> Option<Site> {
        let is_it = |call: &Call| match self.path {
            Some(_) => call.point == *self,
            None => call.point.name == self.name && call.of_all == self.nth,
        };
        let mut hits = calls(log).into_iter().filter(is_it);
        hits.next_back().map(|call| call.site)
    }
}

/// What a call is about: its name and the file, such as `fsync run.db-wal`. Random names end in `*`.
pub type Site = String;

/// A call in a log.
#[derive(Debug)]
pub struct Call {
    pub point: Point,
    /// The how manieth it is of this name in its thread, whatever its path.
    of_all: usize,
    pub site: Site,
    /// Whether it is about a file in the output directory, or the directory itself.
    pub output: bool,
}

/// The calls of a log, in their order. The log lies in the directory of its test.
pub fn calls(log: &Path) -> Vec<Call> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let home = log
        .parent()
        .map_or_else(String::new, |home| home.to_string_lossy().into_owned());
    let mut counts = BTreeMap::<(&str, &str, Option<String>), usize>::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else {
            continue;
        };
        let Some((name, arguments)) = call.trim_start().split_once('(') else {
            continue;
        };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            continue;
        }
        let path = file(arguments);
        let folder = Path::new(&path).parent().and_then(Path::file_name);
        let output = path.ends_with("/out") || folder.is_some_and(|name| name == "out");
        let counted = match name {
            "openat" => arguments.split('"').nth(1),
            "write" if output => Some(path.as_str()),
            _ => None,
        };
        let is_random = |path: &str| {
            path.rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with('.'))
        };
        let counted = counted.filter(|path| !is_random(path));
        let counted = counted.map(|path| path.replacen(&home, "~", 1));
        let mut count = |path: &Option<String>| {
            let count = counts.entry((thread, name, path.clone())).or_default();
            *count += 1;
            *count
        };
        let of_all = count(&None);
        let nth = counted.as_ref().map_or(of_all, |_| count(&counted));
        calls.push(Call {
            point: Point {
                name: name.to_owned(),
                nth,
                path: counted,
            },
            of_all,
            site: format!("{name} {}", short(&path)),
            output,
        });
    }
    calls
}

/// What a call is about: the last name among its arguments, else the file of its first.
fn file(arguments: &str) -> String {
    let quoted: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
    if let Some(path) = quoted.iter().rev().find(|text| !text.is_empty()) {
        let folder = arguments
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'));
        let folder = folder.map_or("", |(folder, _)| folder);
        return Path::new(folder).join(path).to_string_lossy().into_owned();
    }
    let file = arguments
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    file.map_or_else(String::new, |(file, _)| file.to_owned())
}

/// The name of a file without its folder, and without what is random in it.
fn short(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name
        .strip_prefix('.')
        .and_then(|name| name.rsplit_once('.'))
    {
        Some((name, _)) => format!(".{name}.*"),
        None => name.split('[').next().unwrap_or(name).to_owned(),
    }
}

/// How often each site was hit.
#[derive(Debug, Default)]
pub struct Hits(BTreeMap<Site, BTreeMap<String, usize>>);

impl Hits {
    /// Notes how the run ended in which this site was hit.
    pub fn add(&mut self, site: Site, end: &str) {
        *self
            .0
            .entry(site)
            .or_default()
            .entry(end.to_owned())
            .or_default() += 1;
    }

    pub fn contains(&self, site: &str) -> bool {
        self.0.contains_key(site)
    }

    pub fn count(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).sum()
    }

    /// A line for each site.
    pub fn table(&self) -> String {
        let line = |(site, ends): (&Site, &BTreeMap<String, usize>)| {
            let ends: Vec<String> = ends.iter().map(|(end, n)| format!("{n} {end}")).collect();
            format!("  {site}: {}\n", ends.join(", "))
        };
        self.0.iter().map(line).collect()
    }
}
