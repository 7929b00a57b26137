use crate::formats::{asked, gzip, job, pairs, refused, zstd};
use crate::scratch::Scratch;

/// What a check says of these files, with no more memory than this many MiB.
#[cfg(target_os = "linux")]
fn checked_within(mebibytes: u64, inputs: &str, name: &str, bytes: &[u8]) -> (i32, String) {
    let scratch = Scratch::new();
    scratch.write(name, bytes);
    job(&scratch, inputs, "");
    let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", mebibytes << 10);
    let ran = scratch.under("bash", &["-c", &limited], &["check", "job.yaml"]);
    (ran.code.unwrap_or(-1), ran.stderr)
}

#[cfg(target_os = "linux")]
#[test]
fn a_small_file_of_millions_of_cells_is_told_before_they_take_the_memory() {
    let commas = gzip(&vec![b','; 40 << 20]);
    assert!(commas.len() < 100_000);
    let (code, stderr) = checked_within(1024, "rows.csv", "rows.csv", &commas);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("a record has more than 1000000 cells (is a quote never closed?)"),
        "{stderr}"
    );
    let keys: String = (0..4_000_000).map(|key| format!("\"{key}\":1,")).collect();
    let line = gzip(format!("{{{keys}\"text\":1}}\n").as_bytes());
    let (code, stderr) = checked_within(512, "rows.jsonl", "rows.jsonl", &line);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("up to line 1 there are more than 4096 different keys"),
        "{stderr}"
    );
    // What a person writes may have many delimiters.
    let many = format!("text\n\"{}\"\n", ",".repeat(900_000)).repeat(2);
    let rows = asked("rows.csv", &[("rows.csv", many.as_bytes())]);
    assert_eq!(rows.len(), 3);
}

#[test]
fn a_packed_file_without_even_its_beginning_is_cut_and_not_empty() {
    let said = |name: &str, bytes: &[u8], by: &str| {
        let stderr = refused(name, &[(name, bytes)]);
        let said = format!("cannot read input {name}: what {by} packed is cut or damaged");
        assert!(stderr.contains(&said), "{name} {bytes:?}: {stderr}");
    };
    let (gz, zst) = (gzip(b"text\nx\n"), zstd(b"text\nx\n"));
    for keep in 0..5 {
        said("rows.csv.gz", &gz[..keep], "gzip");
        said("rows.jsonl.GZ", &gz[..keep], "gzip");
        said("rows.csv.zst", &zst[..keep], "zstd");
    }
    said("rows.csv", &gz[..2], "gzip");
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    said("rows.csv.zst", &skipped, "zstd");
    let behind = [&skipped[..], &zst].concat();
    let rows = asked("rows.csv.zst", &[("rows.csv.zst", &behind)]);
    assert_eq!(rows, pairs(&[("rows.csv.zst:1", "x")]));
    // Nothing, packed whole, is nothing.
    for packed in [gzip(b""), zstd(b"")] {
        assert_eq!(asked("rows.csv.gz", &[("rows.csv.gz", &packed)]), []);
    }
}

#[test]
fn keys_that_only_lines_of_another_encoding_have_are_columns_if_those_lines_are_mended() {
    let lines = b"{\"text\": \"a\"}\n{\"text\": \"b\", \"n\": \"\xff\"}\n{\"t\xffg\": 1, \"text\": \"c\"}\n";
    let files: &[(&str, &[u8])] = &[("rows.jsonl", lines)];
    let rows = asked("{ path: rows.jsonl, on_bad_encoding: replace }", files);
    let expected = [
        ("rows.jsonl:1", "a"),
        ("rows.jsonl:2", "b"),
        ("rows.jsonl:3", "c"),
    ];
    assert_eq!(rows, pairs(&expected));
    let all = b"{\"text\": \"\xff\"}\n{\"text\": \"\xfe\"}\n";
    let files: &[(&str, &[u8])] = &[("rows.jsonl", all)];
    let rows = asked("{ path: rows.jsonl, on_bad_encoding: replace }", files);
    assert_eq!(rows.len(), 2);
    let scratch = Scratch::new();
    scratch.write("rows.jsonl", all);
    job(&scratch, "{ path: rows.jsonl, on_bad_encoding: skip }", "");
    let ran = scratch.runner(&["check", "job.yaml"]).exits(0);
    let note = "note: 0 rows: rows.jsonl has no line that is UTF-8 text (`on_bad_encoding`)\n";
    assert_eq!(ran.stderr, note);
}

#[test]
fn blank_lines_and_a_byte_order_mark_are_nothing() {
    for blank in ["\n\r\n\n", "\u{feff}", "\u{feff}\n"] {
        for (name, more) in [
            ("blank.csv", ""),
            ("blank.tsv", ""),
            ("blank.jsonl", " \t\n"),
        ] {
            let scratch = Scratch::new();
            scratch.write(name, format!("{blank}{more}")).rows(2);
            job(&scratch, name, "");
            let ran = scratch.runner(&["check", "job.yaml"]).exits(0);
            assert_eq!(
                ran.stderr,
                format!("note: 0 rows: {name} is empty\n"),
                "{blank:?}"
            );
            job(&scratch, &format!("[{name}, rows.csv]"), "");
            let (ran, published) = scratch.run(0);
            assert_eq!(published.lines.len(), 2);
            ran.says(&format!("note: {name} is empty"));
        }
    }
}

#[cfg(feature = "parquet")]
#[allow(clippy::unwrap_used, reason = "a test's helper may panic")]
mod in_parquet {
    use std::sync::Arc;

    use parquet::basic::{Compression, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::{EnabledStatistics, WriterProperties};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use tokio_prompt_orchestrator::{Options, Runner};

    use super::*;
    use crate::formats::with_parquet::{texts, written};

    #[test]
    fn a_byte_of_the_end_that_is_another_never_makes_a_shorter_file() {
        let schema = "message rows { optional byte_array text (utf8); }";
        let sound = written(
            schema,
            4,
            &[&|column| texts(column, &[Some(&b"same"[..]); 10])],
        );
        let scratch = Scratch::new();
        job(&scratch, "rows.parquet", "");
        let length: [u8; 4] = sound[sound.len() - 8..][..4].try_into().unwrap();
        let footer = sound.len() - 8 - u32::from_le_bytes(length) as usize;
        let mut read = 0;
        for at in footer..sound.len() {
            for flipped in [0x01, 0x02, 0x10, 0x40] {
                let mut bytes = sound.clone();
                bytes[at] ^= flipped;
                scratch.write("rows.parquet", &bytes);
                let loaded = Runner::load(scratch.path().join("job.yaml"), &Options::default());
                if let Ok(runner) = loaded {
                    assert_eq!(runner.rows(), 40, "byte {at}, {flipped:#x}");
                    read += 1;
                }
            }
        }
        assert!(read > 0, "some bytes mean nothing to rows");
    }

    /// A file of equal cells, with a dictionary of one or without.
    #[cfg(target_os = "linux")]
    fn equal_cells(size: usize, rows: usize, by_dictionary: bool) -> Vec<u8> {
        let schema = "message rows { required byte_array text (utf8); }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_enabled(by_dictionary)
            .set_dictionary_page_size_limit(1 << 30)
            .set_data_page_size_limit(1 << 30)
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties));
        let mut file = file.unwrap();
        let mut group = file.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values = vec![ByteArray::from(vec![b'x'; size]); rows];
        let texts = column.typed::<ByteArrayType>();
        texts.write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        file.into_inner().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_small_parquet_file_cannot_ask_for_any_amount_of_memory() {
        // Only the first record is used: the others are not to be read ahead.
        let shared = equal_cells(4 << 20, 256, true);
        assert!(shared.len() < 10_000);
        let inputs = "{ path: rows.parquet, limit: 1 }";
        let (code, stderr) = checked_within(320, inputs, "rows.parquet", &shared);
        assert_eq!((code, stderr.as_str()), (0, ""));
        let page = equal_cells(20 << 20, 16, false);
        let (code, stderr) = checked_within(320, "rows.parquet", "rows.parquet", &page);
        assert_eq!(code, 2, "{stderr}");
        assert!(
            stderr.contains("a page of a column is larger than 256 MiB"),
            "{stderr}"
        );
        let cell = equal_cells(65 << 20, 1, true);
        let stderr = refused("rows.parquet", &[("rows.parquet", &cell)]);
        assert!(
            stderr.contains("a record is larger than 64 MiB"),
            "{stderr}"
        );
    }
}
