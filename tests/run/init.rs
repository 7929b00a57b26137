//! A first job of one's own: what is found out, what is written, and that it runs at once whatever the input is like.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scratch::Scratch;
use crate::served::{Served, ok, says};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9";

/// A directory in which nobody can be asked.
fn alone() -> Scratch {
    Scratch::new()
        .without_env("OPENAI_API_KEY")
        .env("LLAMA_CPP_URL", NOBODY)
        .env("VLLM_URL", NOBODY)
}

/// A directory in which a server speaks for OpenAI.
fn beside(served: &Served) -> Scratch {
    Scratch::new()
        .env("OPENAI_BASE_URL", &format!("{}/v1", served.url()))
        .env("LLAMA_CPP_URL", NOBODY)
        .env("VLLM_URL", NOBODY)
}

fn read(scratch: &Scratch, name: &str) -> String {
    fs::read_to_string(scratch.path().join(name)).expect("the file is there")
}

/// Twelve rows with an id, a text and one of two labels.
fn reviews() -> String {
    let rows = (1..=12).map(|row| {
        let label = if row % 3 == 0 { "bad" } else { "good" };
        format!("r{row},\"It is the text of number {row}, with some words.\",{label}\n")
    });
    format!("ref_id,body,Sentiment\n{}", rows.collect::<String>())
}

#[test]
fn a_csv_file_and_a_key_get_to_a_report_in_three_commands() {
    let served = Served::always(says("good"));
    let scratch = beside(&served);
    scratch.write("data.csv", reviews());

    scratch
        .runner(&["init", "data.csv"])
        .exits(0)
        .says("12 rows of data.csv, each asked about its `body` and known by its `ref_id`")
        .says("answers are one of 2 labels and are compared with the column `Sentiment`")
        .says("asked: gpt (gpt-4o-mini)")
        .says("runner data.yaml --limit 5");
    assert_eq!(served.requests(), 0);
    scratch.runner(&["data.yaml", "--limit", "5"]).exits(0);
    assert_eq!(served.requests(), 5);
    scratch.runner(&["data.yaml"]).exits(0).says("accuracy");
    assert_eq!(served.requests(), 12);

    let report = read(&scratch, "runs/data/report.json");
    assert!(report.contains("\"answered\": 12"), "{report}");
    let job = read(&scratch, "data.yaml");
    let as_json: Value = serde_yaml::from_str(&job).unwrap();
    let schema = tokio_prompt_orchestrator::job::schema();
    assert!(jsonschema::is_valid(&schema, &as_json), "{job}");
    for line in [
        "    id: ref_id ",
        "    {{ body }}\n",
        "  labels: [good, bad]\n",
        "  - equals: '{{ Sentiment }}'\n",
        "    max_tokens: 16 ",
        "budget: 0.10 ",
    ] {
        assert!(job.contains(line), "{line} is missing in\n{job}");
    }
}

#[test]
fn an_empty_folder_gets_an_example_that_runs_at_once() {
    let scratch = alone();
    scratch
        .runner(&["init"])
        .exits(0)
        .says("a scripted echo answers, which costs nothing");
    scratch.runner(&["check", "reviews.yaml"]).exits(0);
    scratch
        .runner(&["reviews.yaml"])
        .exits(0)
        .says("12 of 12 rows answered");
    let schema = read(&scratch, "job.schema.json");
    assert_eq!(schema, scratch.runner(&["schema"]).exits(0).stdout);
    assert!(
        read(&scratch, "reviews.yaml")
            .starts_with("# yaml-language-server: $schema=job.schema.json\n")
    );
}

#[test]
fn nothing_is_written_over_or_guessed_among_several() {
    let scratch = alone();
    scratch
        .write("a.csv", "text\nhello\n")
        .write("a.yaml", "mine");
    scratch
        .runner(&["init"])
        .exits(2)
        .says("a.yaml is there already")
        .says("--force");
    assert_eq!(read(&scratch, "a.yaml"), "mine");
    scratch.runner(&["init", "--force"]).exits(0);
    scratch.runner(&["a.yaml"]).exits(0);

    scratch.write("b.csv", "text\nhello\n");
    let several = "there are several inputs here: a.csv, b.csv; name one of them";
    scratch.runner(&["init"]).exits(2).says(several);
    scratch
        .runner(&["init", "b.csv", "--to", "jobs.of/b one.yaml"])
        .exits(2)
        .says("cannot write to the folder jobs.of");
    fs::create_dir(scratch.path().join("jobs.of")).unwrap();
    scratch
        .runner(&["init", "b.csv", "--to", "jobs.of/b one.yaml"])
        .exits(0)
        .says("'jobs.of/b one.yaml'");
    scratch.runner(&["jobs.of/b one.yaml"]).exits(0);
}

#[test]
fn an_input_with_problems_has_them_told_and_no_job() {
    let scratch = alone();
    scratch.write("a.csv", "text,label\nhello\n");
    scratch.runner(&["init"]).exits(2).says("a.csv:2");
    scratch
        .runner(&["init", "none.csv"])
        .exits(2)
        .says("none.csv");
    assert!(!scratch.path().join("a.yaml").exists());
    assert!(!scratch.path().join("job.schema.json").exists());
}

/// What a column may be called by those who know neither YAML nor templates.
const HOSTILE: &[&str] = &[
    "Customer Name",
    "a\"\"b",
    "it's",
    "a: b",
    "{{x}}",
    "{{",
    "}}",
    "{% raw %}",
    "{# x",
    "#c",
    "- x",
    "? x",
    "true",
    "none",
    "None",
    "not",
    "in",
    "loop",
    "self",
    "row",
    "prompt",
    "a\\b",
    "a\\",
    "line\nbreak",
    "é",
    "😀 e",
    "\u{202e}x",
    "\u{feff}x",
    "answer",
    "run_status",
    "result_x",
    "run_score_equals",
    "123",
    "1.5",
    "&anchor",
    "*alias",
    "!tag",
    "%x",
    "@x",
    "`x`",
    "x]",
    "[x",
    "a\tb",
    "a\u{7}b",
    "a,b",
    "a\u{85}b",
    "sk-proj-0123456789abcdef0123456789abcdef",
];

#[test]
fn whatever_a_column_is_called_the_job_runs() {
    for name in HOSTILE {
        let scratch = alone();
        let cell = "the text of it, which is rather long";
        scratch.write(
            "in.csv",
            format!("\"{name}\",other\n\"{cell}, one\",1\n\"{cell}, two\",2\n"),
        );
        scratch.runner(&["init", "in.csv"]).exits(0);
        scratch.runner(&["check", "in.yaml"]).exits(0);
        scratch.runner(&["in.yaml"]).exits(0);
        let results = read(&scratch, "runs/in/results.jsonl");
        let answer = results.contains(&format!("answer\":\"{cell}, one\""));
        assert!(answer, "{name:?} is not asked about: {results}");
    }
}

#[test]
fn whatever_a_label_is_called_the_job_runs() {
    for label in [
        "{{ x }}",
        "{% if %}",
        "it's",
        "a\"\"b",
        "yes",
        "no",
        "null",
        "1",
        "1.0",
        "- x",
        "#c",
        "a, b",
        "[x]",
        "a: b",
        "é",
        "😀",
        "\u{202e}x",
        "two words",
        "a\\n",
        "0x1f",
        "line\nbreak",
        " padded ",
        "",
        "~",
        "*x",
        "&x",
    ] {
        let scratch = alone();
        let rows: String = (0..8)
            .map(|row| format!("{row},\"some text, number {row}\",\"{label}\"\n"))
            .collect();
        scratch.write(
            "in.csv",
            format!("id,body,label\n{rows}8,some text,other\n9,more text,other\n"),
        );
        scratch.runner(&["init"]).exits(0);
        scratch.runner(&["check", "in.yaml"]).exits(0);
        scratch.runner(&["in.yaml"]).exits(0);
    }
}

#[test]
fn whatever_the_file_is_called_the_job_runs() {
    for name in [
        "a b.csv",
        "it's.csv",
        "#1.csv",
        "a: b.csv",
        "[1].csv",
        "*.csv",
        "{{x}}.csv",
        "é.csv",
        "a\nb.csv",
        "-x.csv",
        "true.csv",
    ] {
        let scratch = alone();
        scratch.write(name, "text\nhello\n");
        scratch.runner(&["init"]).exits(0);
        let job = fs::read_dir(scratch.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let job = job
            .into_iter()
            .find(|name| name.ends_with(".yaml"))
            .unwrap();
        scratch.runner(&["check", &format!("./{job}")]).exits(0);
        scratch.runner(&[&format!("./{job}")]).exits(0);
    }
}

#[test]
fn only_what_tells_rows_apart_is_an_id_and_only_what_repeats_is_a_label() {
    let scratch = alone();
    scratch.write("in.csv", "id,text,expected\n1,aaaaaaaaaaaa,An answer.\n1,bbbbbbbbbbbbbb,Another one.\n2,ccccccccc,A third.\n");
    scratch
        .runner(&["init"])
        .exits(0)
        .says("answers are compared with the column `expected`")
        .never_says("known by");
    let job = read(&scratch, "in.yaml");
    assert!(
        !job.contains("\nanswer:") && job.contains("ignore: [case, space, punctuation]"),
        "{job}"
    );
    scratch.runner(&["in.yaml"]).exits(0);

    // A name such as this one stands over many things.
    scratch.write(
        "in.csv",
        "uuid,text,type\n1,aaaaaaaaaaaa,x\n2,bbbbbbbbbbbbbb,y\n3,ccccccccc,z\n",
    );
    scratch
        .runner(&["init", "--force"])
        .exits(0)
        .says("known by its `uuid`")
        .never_says("compared");
}

#[test]
fn a_server_on_this_machine_is_found_and_a_slow_one_not_waited_for() {
    let models = json!({ "data": [{ "id": "tiny model: \"q4\"" }] });
    let served = Served::new(move |_, _| ok(&models));
    let slow = Served::slowly(Duration::from_secs(5), |_, _| says("late"));
    let scratch = Scratch::new()
        .without_env("OPENAI_API_KEY")
        .env("VLLM_URL", served.url())
        .env("LLAMA_CPP_URL", slow.url());
    scratch.write("a.csv", "text\nhello\n");
    let ran = scratch
        .runner(&["init"])
        .exits(0)
        .says("asked: vllm (tiny model: \"q4\")");
    assert!(ran.took < Duration::from_secs(4), "{:?}", ran.took);
    assert_eq!(served.requests(), 1);
    scratch
        .runner(&["check", "a.yaml"])
        .exits(0)
        .says("for vllm");
    assert!(!read(&scratch, "a.yaml").contains("\nbudget"));
}

#[test]
fn a_name_that_says_so_is_asked_about_and_numbers_are_compared_as_numbers() {
    let scratch = alone();
    let mut rows = "question,solution,answer\n".to_owned();
    for (number, answer) in ["18", "3", "70000", "0.5"].iter().enumerate() {
        rows.push_str(&format!(
            "What is {number}?,A much longer way to say what it is.,{answer}\n"
        ));
    }
    scratch.write("sums.csv", rows);
    let ran = scratch.runner(&["init"]).exits(0);
    ran.says("each asked about its `question`")
        .says("answers are compared with the column `answer`");
    let job = read(&scratch, "sums.yaml");
    assert!(job.contains("\nanswer:\n  number: true"), "{job}");
    assert!(job.contains("- number: '{{ answer }}'"), "{job}");
    scratch.runner(&["check", "sums.yaml"]).exits(0);
    scratch.runner(&["sums.yaml"]).exits(0);
}

#[test]
fn what_stands_between_the_cells_is_found_out_and_nothing_is_said_to_be_nothing() {
    for (delimiter, written) in [(";", "\";\""), ("|", "\"|\""), ("\t", "tab")] {
        let scratch = alone();
        let rows = ["id,Kommentar", "1,Gut", "2,Schlecht"].join("\n");
        scratch.write("in.csv", rows.replace(',', delimiter));
        scratch.runner(&["init", "in.csv"]).exits(0);
        let job = read(&scratch, "in.yaml");
        assert!(job.contains(&format!("delimiter: {written} #")), "{job}");
        scratch.runner(&["in.yaml"]).exits(0);
    }
    for nothing in ["", "\n\n", "\u{feff}"] {
        let scratch = alone();
        scratch.write("in.csv", nothing);
        let ran = scratch.runner(&["init", "in.csv"]).exits(2);
        ran.says("in.csv is empty: it has no column that could be asked about");
        assert!(!scratch.path().join("in.yaml").exists());
    }
}

#[test]
fn answers_are_only_compared_with_what_is_asked_for() {
    let scratch = alone();
    let rows = (0..80).map(|row| format!("Text {row},class {}\n", row % 40));
    scratch.write(
        "in.csv",
        format!("text,label\n{}", rows.collect::<String>()),
    );
    scratch
        .runner(&["init"])
        .exits(0)
        .never_says("compared with");
    assert!(read(&scratch, "in.yaml").contains("# score:"));
}
