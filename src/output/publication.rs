//! Everything that a run publishes, as bytes: where they go is another matter.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::csv::Csv;
use super::frame::Frame;
use super::jsonl::Jsonl;
use super::labels::Labels;
use super::parquet_file::Parquet;
use super::report::Report;
use super::{OutputError, csv, html, jsonl, junit, labels, markdown, parquet_file, report_json};
use crate::job::{OutputFormat, OutputPlan};
use crate::words::{Columns, Decided, ResultLine};

/// Where the bytes of a file go.
pub trait Sink: Sized + Send {
    /// Begins the file `dir/name`.
    fn begin(dir: &Path, name: &'static str) -> Result<Self, OutputError>;

    /// Adds bytes: a line of the results, or a whole report.
    fn add(&mut self, bytes: &[u8]) -> Result<(), OutputError>;
}

/// A results file as it was written.
pub(super) struct Written {
    pub(super) name: &'static str,
    pub(super) bytes: u64,
    /// As `sha256sum` prints it.
    pub(super) sha256: String,
}

/// The files of a run while they are written: outcomes pass through one at a time.
pub struct Publication<'a, S> {
    dir: &'a Path,
    files: Vec<ResultsFile<S>>,
    rows: junit::Rows,
    line: Vec<u8>,
}

struct ResultsFile<S> {
    name: &'static str,
    form: Form,
    sink: S,
    hash: Sha256,
    bytes: u64,
}

enum Form {
    Csv(Csv),
    Labels(Labels),
    Jsonl(Jsonl),
    Parquet(Box<Parquet>),
}

impl<'a, S: Sink> Publication<'a, S> {
    /// Begins the results files that the frame asks for.
    pub fn begin(dir: &'a Path, frame: &Frame, columns: &Columns) -> Result<Self, OutputError> {
        let plan = frame.output(dir);
        let mut files = Vec::new();
        // In this order, whatever the order in the job.
        for format in OutputFormat::ALL {
            if !frame.formats.contains(&format) {
                continue;
            }
            let name = file_name(format);
            files.push(ResultsFile {
                name,
                form: Form::new(format, &plan, columns).map_err(|source| OutputError {
                    path: dir.join(name),
                    source,
                })?,
                sink: S::begin(dir, name)?,
                hash: Sha256::new(),
                bytes: 0,
            });
        }
        if frame.decides {
            let name = labels::NAME;
            files.push(ResultsFile {
                name,
                form: Form::Labels(Labels::new(&plan)),
                sink: S::begin(dir, name)?,
                hash: Sha256::new(),
                bytes: 0,
            });
        }
        let mut publication = Self {
            dir,
            files,
            rows: junit::Rows::of(frame),
            line: Vec::new(),
        };
        publication.each(|form, line| match form {
            Form::Csv(csv) => {
                csv.header(columns, line);
                Ok(())
            }
            Form::Labels(labels) => {
                labels.header(columns, line);
                Ok(())
            }
            Form::Jsonl(_) | Form::Parquet(_) => Ok(()),
        })?;
        Ok(publication)
    }

    /// Adds a row's line to each file. Rows must come in order.
    pub fn add(&mut self, result: &ResultLine<'_>) -> Result<(), OutputError> {
        self.rows.add(result);
        self.each(|form, line| {
            match form {
                Form::Csv(csv) => csv.line(result, line),
                Form::Jsonl(jsonl) => jsonl.line(result, line),
                Form::Parquet(parquet) => return parquet.line(result, line),
                Form::Labels(_) => {}
            }
            Ok(())
        })
    }

    /// Adds what the answers to a row come to. Rows must come in order.
    pub fn decide(&mut self, decided: &Decided) -> Result<(), OutputError> {
        self.each(|form, line| {
            if let Form::Labels(labels) = form {
                labels.line(decided, line);
            }
            Ok(())
        })
    }

    /// Adds the reports. Returns every file, whole, in the order in which they are put in their places.
    pub fn finish(mut self, report: &Report, exit_code: u8) -> Result<Vec<S>, OutputError> {
        self.each(|form, line| match form {
            Form::Parquet(parquet) => parquet.finish(line),
            Form::Csv(_) | Form::Jsonl(_) | Form::Labels(_) => Ok(()),
        })?;
        let (mut sinks, mut written) = (Vec::new(), Vec::new());
        for file in self.files {
            written.push(Written {
                name: file.name,
                bytes: file.bytes,
                sha256: hexadecimal(&file.hash.finalize()),
            });
            sinks.push(file.sink);
        }
        let reports = [
            (
                report_json::NAME,
                report_json::render(report, exit_code, &written),
            ),
            (markdown::NAME, markdown::render(report)),
            (html::NAME, html::render(report)),
            (junit::NAME, self.rows.render(report, exit_code)),
        ];
        for (name, text) in reports {
            let mut sink = S::begin(self.dir, name)?;
            sink.add(text.as_bytes())?;
            sinks.push(sink);
        }
        Ok(sinks)
    }

    fn each(
        &mut self,
        render: impl Fn(&mut Form, &mut Vec<u8>) -> std::io::Result<()>,
    ) -> Result<(), OutputError> {
        for file in &mut self.files {
            self.line.clear();
            render(&mut file.form, &mut self.line).map_err(|source| OutputError {
                path: self.dir.join(file.name),
                source,
            })?;
            if self.line.is_empty() {
                continue;
            }
            file.hash.update(&self.line);
            file.bytes += self.line.len() as u64;
            file.sink.add(&self.line)?;
        }
        Ok(())
    }
}

impl Form {
    fn new(format: OutputFormat, plan: &OutputPlan, columns: &Columns) -> std::io::Result<Self> {
        Ok(match format {
            OutputFormat::Csv => Form::Csv(Csv::new(plan)),
            OutputFormat::Jsonl => Form::Jsonl(Jsonl::new(plan)),
            OutputFormat::Parquet => Form::Parquet(Box::new(Parquet::new(plan, columns)?)),
        })
    }
}

/// The name of the results file of a form.
pub fn file_name(format: OutputFormat) -> &'static str {
    match format {
        OutputFormat::Csv => csv::NAME,
        OutputFormat::Jsonl => jsonl::NAME,
        OutputFormat::Parquet => parquet_file::NAME,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
