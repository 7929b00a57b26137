use crate::scratch::Scratch;

const ECHO: &str = "backends: { a: { type: echo, delay: 1ms, price: { input: 1, output: 1 }, usage: { input_tokens: 100, output_tokens: 0 } } }";

fn scratch(gate: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.rows(20).job(&format!("{ECHO}\ngate:\n{gate}"));
    scratch
}

#[test]
fn a_gate_that_is_met_says_so_and_the_run_ends_well() {
    let scratch = scratch(
        "  cost_usd: \"<= 0.002\"\n  cost_per_row_usd: \"<= 0.0001\"\n  failed: \"<= 1%\"\n  \
         unanswered: \"== 0\"\n  latency_ms_p99: \"< 10000\"\n",
    );
    let (ran, _) = scratch.run(0);
    ran.says("gate: met")
        .says("  ok      cost_usd is $0.002; wanted <= 0.002\n")
        .says("  ok      cost_per_row_usd is $0.0001; wanted <= 0.0001\n")
        .says("  ok      failed is 0.000 of 20")
        .says("  ok      unanswered is 0; wanted == 0\n");
}

#[test]
fn a_gate_that_is_not_met_ends_the_run_with_7_and_says_which_check() {
    let scratch = scratch("  cost_usd: \"< 0.002\"\n  failed: \"<= 1%\"\n");
    let (ran, _) = scratch.run(7);
    ran.says("gate: not met")
        .says("  not so  cost_usd is $0.002; wanted < 0.002\n")
        .says("  ok      failed is 0.000")
        .says("exit 7: the gate is not met: cost_usd");
    // The answers are there: with another gate nothing is asked again, and all is well.
    let ran = scratch.runner(&["job.yaml", "--set", "gate.cost_usd=\"<= 0.002\""]);
    ran.exits(0).says("unchanged 20").says("gate: met");
}

#[test]
fn what_is_wrong_otherwise_comes_before_the_gate() {
    let scratch = Scratch::new();
    let failing = "backends: { a: { type: echo, delay: 1ms, failures: { row_fatal: 1 } } }";
    scratch
        .rows(3)
        .job(&format!("{failing}\ngate: {{ failed: \"== 0\" }}"));
    let (ran, _) = scratch.run(3);
    ran.says("  not so  failed is 1.000 of 3");
    let ran = scratch.runner(&["job.yaml", "--set", "max_failures=3"]);
    ran.exits(7);
}

#[test]
fn a_gate_on_what_nobody_knows_is_not_met() {
    let scratch = Scratch::new();
    let unpriced = "backends: { a: { type: http, url: \"http://127.0.0.1:9/\", body: { p: \"{{ prompt }}\" }, \
                    pointers: { text: /t } } }\nretry: { attempts: 1 }\nmax_failures: 3";
    scratch.rows(3).job(&format!(
        "{unpriced}\ngate: {{ latency_ms_p50: \"<= 1000\" }}"
    ));
    let ran = scratch.runner(&["job.yaml"]);
    ran.says("  not so  latency_ms_p50 is not known: there was no reply");
}

#[test]
fn money_that_may_have_been_billed_is_no_money_saved() {
    let scratch = Scratch::new();
    scratch.rows(3).job(
        "backends: { a: { type: echo, delay: 0ms, failures: { ambiguous: 1 }, price: { input: 1, output: 1 } } }\n\
         retry: { attempts: 1 }\nmax_failures: 100%\ngate: { cost_usd: \"<= 0\", cost_per_row_usd: \"<= 1\" }",
    );
    let ran = scratch.runner(&["job.yaml"]).exits(7);
    ran.says("  not so  cost_usd is $0.00 (at most $0.0")
        .says("requests that failed may have been billed); wanted <= 0")
        .says("  ok      cost_per_row_usd is $0.00 (at most $0.0");
}

#[test]
fn the_gate_is_judged_again_from_the_store_alone() {
    let scratch = scratch("  cost_usd: \"< 0.002\"\n");
    scratch.run(7);
    let before = std::fs::read(scratch.path().join("out/report.json")).expect("a report");
    std::fs::remove_file(scratch.path().join("job.yaml")).expect("the job goes");
    scratch.runner(&["export", "out"]).exits(0);
    let after = std::fs::read(scratch.path().join("out/report.json")).expect("a report");
    assert_eq!(before, after);
    scratch
        .runner(&["report", "out"])
        .exits(0)
        .says("gate: not met");
    scratch.runner(&["verify", "out"]).exits(0);
}

/// A job that is compared with what is at this path.
fn against(path: &str) -> Scratch {
    let scratch = Scratch::new();
    let score = "score: [{ equals: \"{{ text }}\" }]";
    scratch.rows(3).job(&format!(
        "{ECHO}\n{score}\ngate: {{ baseline: {{ path: {path} }} }}"
    ));
    scratch
}

#[test]
fn a_baseline_that_is_none_is_found_before_anything_is_sent() {
    let told = "there is nothing to compare with: ";
    let missing = against("main.json");
    let ran = missing.runner(&["check", "job.yaml"]).exits(2);
    ran.says(&format!("error: {told}main.json is not there"))
        .says("--> job.yaml:")
        .says("`runner baseline DIR --to FILE` writes the scores of a run to a file");
    missing.write("main.json", "{}");
    let ran = missing.runner(&["check", "job.yaml"]).exits(2);
    ran.says(&format!(
        "{told}main.json is no baseline file: missing field `schema`"
    ));
    let empty = against("main");
    empty.write("main/notes.txt", "");
    let ran = empty.runner(&["job.yaml"]).exits(2);
    ran.says(&format!("{told}main holds no run"));
    let unscored = against("main");
    unscored.write(
        "plain.yaml",
        "inputs: rows.csv\nprompt: x\nbackends: { a: { type: echo } }\n",
    );
    unscored.runner(&["plain.yaml", "--out", "main"]).exits(0);
    for path in [
        "main",
        "main/run.db",
        "main/report.json",
        "main/results.jsonl",
    ] {
        let set = format!("gate.baseline.path={path}");
        let ran = unscored
            .runner(&["check", "job.yaml", "--set", &set])
            .exits(2);
        ran.says(&format!("{told}main has no scores"));
    }
    let own = unscored
        .runner(&["check", "job.yaml", "--out", "main"])
        .exits(2);
    own.says("main is where this run writes: it would be compared with itself");
}

/// Three rows, of which two models disagree on one, and a third one decides.
fn escalating(gate: &str) -> Scratch {
    let scratch = Scratch::new();
    let echo = |reply: &str| {
        format!(
            "{{ type: echo, delay: 0ms, price: {{ input: 1, output: 1 }}, reply: \"{reply}\" }}"
        )
    };
    scratch.write("rows.csv", "text,gold\n1,x\n2,y\n3,x\n").job(&format!(
        "answer: {{ labels: [x, y] }}\nmatrix: [a, b]\nescalate: c\nscore: [{{ equals: \"{{{{ gold }}}}\" }}, \
         {{ name: said, judge: {{ backend: j, rubric: Good? }} }}]\n\
         backends:\n  a: {}\n  b: {}\n  c: {}\n  j: {}\ngate:\n{gate}",
        echo("x"),
        echo("{{ gold }}"),
        echo("y"),
        echo("{}"),
    ));
    scratch
}

#[test]
fn a_gate_can_look_at_what_is_escalated_and_at_what_the_answers_come_to() {
    let scratch = escalating(
        "  accuracy: \">= 0.8\"\n  escalated.accuracy: \"== 1\"\n  escalated.failed: \"== 0\"\n  \
         escalated.unanswered: \"== 0\"\n  escalated.cost_usd: \"> 0\"\n  final.accuracy: \"== 1\"\n  \
         final.f1.y: \"== 1\"\n  final.failed: \"< 50%\"\n  final.unanswered: \"== 0\"\n  final.answered: { at_least: 0.1 }\n",
    );
    let ran = scratch.runner(&["job.yaml"]);
    ran.says("  ok      accuracy is 0.833 of 6")
        .says("  ok      escalated.accuracy is 1.000 of 1")
        .says("  ok      escalated.failed is 0.000 of 1")
        .says("  ok      escalated.unanswered is 0;")
        .says("  ok      escalated.cost_usd is $0.0")
        .says("  ok      final.accuracy is 1.000 of 3")
        .says("  ok      final.f1.y is 1.000 of")
        .says("  ok      final.failed is 0.000 of 3")
        .says("  ok      final.unanswered is 0;")
        .says("  ok      final.answered is 1.000 of 3");
    let ran = scratch.runner(&["job.yaml", "--set", "backends.c.reply=x"]);
    ran.says("  not so  escalated.accuracy is 0.000 of 1")
        .says("  not so  final.accuracy is 0.667 of 3");
    let ran = scratch.runner(&["job.yaml", "--set", "backends.c.reply=?"]);
    ran.says("  not so  escalated.accuracy is 0.000 of 1")
        .says("  ok      final.failed is 0.333 of 3")
        .says("  not so  final.unanswered is 1;");
}

#[test]
fn a_gate_on_figures_that_these_lines_cannot_have_is_a_problem() {
    let unknown = [
        "final.cost_usd: \"<= 1\"",
        "final.latency_ms_p50: \"<= 1\"",
        "final.said: \">= 0.5\"",
        "final.kappa: \">= 0.5\"",
        "escalated.alpha: \">= 0.5\"",
        "escalated.final.accuracy: \">= 0.5\"",
    ];
    for line in unknown {
        let ran = escalating(&format!("  {line}\n"))
            .runner(&["check", "job.yaml"])
            .exits(2);
        let (name, _) = line.split_once(':').expect("a key");
        ran.says(&format!("error: the job has no figure `{name}`"));
    }
    // A scorer that asks comes first: nobody says what the answers come to is worth.
    let scratch = escalating("  final.accuracy: \">= 0.5\"\n");
    let judged = "score=[{ name: said, judge: { backend: j, rubric: Good? } }]";
    let ran = scratch.runner(&["check", "job.yaml", "--set", judged]);
    ran.exits(2).says("the job has no figure `final.accuracy`");
    let plain = self::scratch("  escalated.failed: \"== 0\"\n  final.answered: \"== 1\"\n");
    let ran = plain.runner(&["check", "job.yaml"]).exits(2);
    ran.says("the job has no figure `escalated.failed`")
        .says("the job has no figure `final.answered`");
}
