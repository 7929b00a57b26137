//! A terminal as a picture: what a command prints, as an SVG file that needs no font and no script of its own.

/// The width of a character and the height of a line, in pixels.
const CELL: (f64, f64) = (8.4, 19.0);
const MARGIN: f64 = 18.0;
/// The height of the bar on top.
const BAR: f64 = 34.0;

/// Draws a command and what it printed.
pub fn terminal(command: &str, printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().collect();
    let longest = lines.iter().map(|line| line.chars().count()).max();
    let longest = longest.unwrap_or(0).max(command.len() + 2);
    let width = (longest as f64 * CELL.0 + 2.0 * MARGIN).ceil();
    let height = ((lines.len() + 1) as f64 * CELL.1 + 2.0 * MARGIN + BAR).ceil();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{}\">\n\
         <style>text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d6deeb;white-space:pre}}\
         .p{{fill:#7fdbca}}.c{{fill:#fff;font-weight:600}}.h{{fill:#82aaff}}.b{{fill:#ff8b7b}}.d{{fill:#7c8ea6}}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"9\" fill=\"#0b1622\"/>\n\
         <circle cx=\"20\" cy=\"18\" r=\"6\" fill=\"#ff5f57\"/><circle cx=\"40\" cy=\"18\" r=\"6\" fill=\"#febc2e\"/>\
         <circle cx=\"60\" cy=\"18\" r=\"6\" fill=\"#28c840\"/>\n",
        escape(command)
    );
    let mut y = BAR + MARGIN;
    svg.push_str(&format!(
        "<text x=\"{MARGIN}\" y=\"{y}\"><tspan class=\"p\">$ </tspan><tspan class=\"c\">{}</tspan></text>\n",
        escape(command)
    ));
    for line in lines {
        y += CELL.1;
        svg.push_str(&format!(
            "<text x=\"{MARGIN}\" y=\"{y}\"{}>{}</text>\n",
            class(line),
            escape(line)
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Heads of tables in blue, what went wrong in red, what is only named in grey.
fn class(line: &str) -> &'static str {
    let word = line.split_whitespace().next().unwrap_or_default();
    match word {
        "backend" | "entry" => " class=\"h\"",
        "first" => " class=\"b\"",
        "wrote" | "unchanged" => " class=\"d\"",
        _ => "",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
