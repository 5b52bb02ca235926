//! Just enough Markdown for the gate: code spans, links, fenced blocks, tables, headings.

/// One page.
pub(super) struct Page {
    /// All lines, in order.
    pub(super) lines: Vec<Line>,
}

/// One line and what it names.
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    /// As written.
    pub(super) text: String,
    /// Contents of its code spans; empty inside a fenced block.
    pub(super) code: Vec<String>,
    /// Targets of its links; empty inside a fenced block.
    pub(super) links: Vec<String>,
    /// The command, when the line stands in a fenced block of commands.
    pub(super) command: Option<String>,
    /// It says "not yet", or the heading above does.
    pub(super) not_yet: bool,
}

impl Page {
    /// Reads a page.
    pub(super) fn parse(text: &str) -> Self {
        let mut lines = Vec::new();
        let mut fence: Option<String> = None;
        let mut heading_says_not_yet = false;
        for (index, text) in text.lines().enumerate() {
            let trimmed = text.trim();
            let says_not_yet = trimmed.to_lowercase().contains("not yet");
            if trimmed.starts_with('#') && fence.is_none() {
                heading_says_not_yet = says_not_yet;
            }
            let mut line = Line {
                number: index + 1,
                text: text.to_owned(),
                code: Vec::new(),
                links: Vec::new(),
                command: None,
                not_yet: says_not_yet || heading_says_not_yet,
            };
            if let Some(info) = trimmed.strip_prefix("```") {
                fence = if fence.is_some() {
                    None
                } else {
                    Some(info.trim().to_owned())
                };
            } else if let Some(language) = &fence {
                line.command = match language.as_str() {
                    "sh" | "bash" => Some(trimmed.to_owned()),
                    "console" => trimmed.strip_prefix("$ ").map(str::to_owned),
                    _ => None,
                };
            } else {
                line.code = code_spans(text);
                line.links = links(text);
            }
            lines.push(line);
        }
        Self { lines }
    }

    /// The first row of the table that a line stands in.
    pub(super) fn table_head(&self, number: usize) -> Option<&Line> {
        self.lines[..number]
            .iter()
            .rev()
            .take_while(|line| line.text.trim_start().starts_with('|'))
            .last()
    }
}

/// Contents of the code spans of a line.
pub(super) fn code_spans(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(|span| span.trim().to_owned())
        .collect()
}

/// Targets of the `[text](target)` links of a line, those inside code spans left out.
fn links(text: &str) -> Vec<String> {
    let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join("x");
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| {
            rest.split_once(')')
                .map(|(target, _)| target.trim().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_links_and_commands_are_found() {
        let text = "See `a b` and [x](y.md).\n```console\n$ rcc run -- true\noutput\n```\n```toml\nkey = 1\n```\n";
        let page = Page::parse(text);
        assert_eq!(page.lines[0].code, ["a b"]);
        assert_eq!(page.lines[0].links, ["y.md"]);
        let commands: Vec<&str> = page
            .lines
            .iter()
            .filter_map(|line| line.command.as_deref())
            .collect();
        assert_eq!(commands, ["rcc run -- true"]);
    }

    #[test]
    fn not_yet_holds_for_its_line_and_below_its_heading() {
        let page = Page::parse("`a` is not yet there\n`b`\n## Not yet\n`c`\n## Now\n`d`\n");
        let exempt: Vec<bool> = page.lines.iter().map(|line| line.not_yet).collect();
        assert_eq!(exempt, [true, false, true, true, false, false]);
    }
}
