//! The summary of a step on GitHub Actions: the report goes there too.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The variable that names the file.
const VARIABLE: &str = "GITHUB_STEP_SUMMARY";
/// GitHub refuses a summary that is larger than this.
const MOST: u64 = 1 << 20;

/// Appends the report of a run to the summary of the step, where there is one. That it cannot be is no failure.
pub fn append(files: &[PathBuf], tell: impl FnOnce(&str)) {
    let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
        return;
    };
    let path = Path::new(&path);
    let mut files = files.iter();
    let Some(report) = files.find(|file| file.ends_with("report.md")) else {
        return;
    };
    if let Err(error) = copy(report, path) {
        let (report, path) = (report.display(), path.display());
        tell(&format!(
            "{report} cannot be added to the step summary {path}: {error}"
        ));
    }
}

/// Appends one file to another, as much as that has room for.
fn copy(report: &Path, to: &Path) -> std::io::Result<()> {
    let mut text = Vec::new();
    File::open(report)?.take(MOST + 1).read_to_end(&mut text)?;
    let mut summary = OpenOptions::new().create(true).append(true).open(to)?;
    let taken = summary.seek(SeekFrom::End(0))?;
    let room = usize::try_from(MOST.saturating_sub(taken)).unwrap_or(usize::MAX);
    summary.write_all(&fitted(text, room))
}

/// The text, or as many whole lines of it as there is room for, and a word about the rest.
fn fitted(mut text: Vec<u8>, room: usize) -> Vec<u8> {
    const CUT: &[u8] = b"\n\nThe rest of the report has no room here: see report.md.\n";
    // A report that follows another one begins on a line of its own.
    text.push(b'\n');
    if text.len() <= room {
        return text;
    }
    let Some(room) = room.checked_sub(CUT.len()) else {
        return Vec::new();
    };
    let end = text[..room].iter().rposition(|byte| *byte == b'\n');
    text.truncate(end.unwrap_or(0));
    text.extend_from_slice(CUT);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_cut_at_the_end_of_a_line() {
        let text = "line\n".repeat(100).into_bytes();
        assert_eq!(fitted(text.clone(), 501).len(), 501);
        for room in 0..501 {
            let fitted = String::from_utf8(fitted(text.clone(), room)).expect("text");
            assert!(fitted.len() <= room, "{room}");
            let rest = fitted.trim_start_matches("line\n");
            assert!(
                rest.is_empty() || rest.contains("The rest of the report"),
                "{room}: {rest}"
            );
        }
    }
}
