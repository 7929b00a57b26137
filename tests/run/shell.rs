//! What shells and readers of manuals are told of the command line.

use std::fs;
use std::process::Command;

use crate::scratch::{Scratch, skipped};

/// The commands, as the help lists them.
fn commands(scratch: &Scratch) -> Vec<String> {
    let help = scratch.runner(&["--help"]).exits(0).stdout;
    let (_, list) = help.split_once("Commands:").expect("the help lists them");
    let names = list
        .lines()
        .skip(1)
        .take_while(|line| !line.trim().is_empty());
    let names = names.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[test]
fn every_shell_has_completions_with_every_command() {
    let scratch = Scratch::new();
    let commands = commands(&scratch);
    assert!(commands.len() > 12, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scratch.runner(&["completions", shell]).exits(0).stdout;
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
    }
    scratch.runner(&["completions", "tcsh"]).exits(2);
}

#[test]
fn bash_completes_commands_and_options() {
    let scratch = Scratch::new();
    let script = scratch.runner(&["completions", "bash"]).exits(0).stdout;
    scratch.write("runner.bash", script);
    let complete = |words: &str, last: usize| {
        let line = format!(
            "source ./runner.bash && COMP_WORDS=({words}) COMP_CWORD={last} \
             && _runner runner \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{}]}}\" \
             && echo \"${{COMPREPLY[*]}}\"",
            last - 1
        );
        let ran = Command::new("bash")
            .args(["-c", &line])
            .current_dir(scratch.path())
            .output();
        ran.ok()
            .map(|ran| String::from_utf8_lossy(&ran.stdout).trim().to_owned())
    };
    let Some(found) = complete("runner che", 1) else {
        return skipped("bash_completes_commands_and_options", "there is no bash");
    };
    assert_eq!(found, "check");
    assert_eq!(
        complete("runner plan --out", 2).unwrap(),
        "--out --output-tokens"
    );
    assert_eq!(complete("runner completions z", 2).unwrap(), "zsh");
}

#[test]
fn the_manual_has_every_command() {
    let scratch = Scratch::new();
    let page = scratch.runner(&["man"]).exits(0).stdout;
    assert!(page.contains(".TH runner 1"), "{page}");
    scratch.runner(&["man", "--dir", "pages"]).exits(0);
    for command in commands(&scratch) {
        assert!(
            page.contains(&format!("runner\\-{command}(1)")),
            "{command}\n{page}"
        );
        let own = scratch.path().join(format!("pages/runner-{command}.1"));
        assert!(
            fs::read_to_string(own).unwrap().contains(".SH NAME"),
            "{command}"
        );
    }
    scratch.write("file", "");
    scratch
        .runner(&["man", "--dir", "file/pages"])
        .exits(1)
        .says("cannot write the pages");
}
