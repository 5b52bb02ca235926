//! The hunks of two texts: cut, shown, cut smaller, and put together again as somebody chose. Bounded in time.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use similar::{Algorithm, ChangeTag, DiffOp, DiffTag, TextDiff};

use crate::output::Style;

/// Lines around a change.
const CONTEXT: usize = 3;
/// How long one file may be compared for the shortest difference; after that a longer one will do.
const PATIENCE: Duration = Duration::from_millis(500);

/// Lines that were added and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) added: usize,
    pub(super) removed: usize,
}

/// Two texts and where they differ.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    old: Vec<&'a str>,
    new: Vec<&'a str>,
    ops: Vec<DiffOp>,
}

/// Changes that are near each other, with the lines around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hunk(Vec<DiffOp>);

impl<'a> Texts<'a> {
    pub(super) fn compare(old: &'a str, new: &'a str) -> Self {
        let diff = TextDiff::configure()
            .algorithm(Algorithm::Myers)
            .deadline(Instant::now() + PATIENCE)
            .diff_lines(old, new);
        Self {
            old: diff.old_slices().to_vec(),
            new: diff.new_slices().to_vec(),
            ops: diff.ops().to_vec(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for op in self.ops.iter().filter(|op| is_change(op)) {
            counts.added += op.new_range().len();
            counts.removed += op.old_range().len();
        }
        counts
    }

    pub(super) fn hunks(&self) -> Vec<Hunk> {
        let groups = similar::group_diff_ops(self.ops.clone(), CONTEXT);
        groups.into_iter().map(Hunk).collect()
    }

    /// A hunk in the unified format, every character that could drive a terminal escaped.
    pub(super) fn show(&self, hunk: &Hunk, style: Style) -> String {
        let range = |of: fn(&DiffOp) -> Range<usize>| {
            let start = hunk.0.first().map_or(0, |op| of(op).start);
            let length = hunk.0.last().map_or(0, |op| of(op).end) - start;
            match length {
                0 => format!("{start},0"),
                1 => format!("{}", start + 1),
                _ => format!("{},{length}", start + 1),
            }
        };
        let (old, new) = (range(DiffOp::old_range), range(DiffOp::new_range));
        let mut out = style.hint(&format!("@@ -{old} +{new} @@"));
        out.push('\n');
        for op in &hunk.0 {
            for (tag, lines) in op.iter_slices(&self.old, &self.new) {
                for line in lines {
                    show_line(&mut out, tag, line, style);
                }
            }
        }
        out
    }

    /// The old text with some of the changes in it.
    pub(super) fn merge(&self, chosen: &[Hunk]) -> String {
        let chosen: BTreeSet<(usize, usize)> =
            chosen.iter().flat_map(Hunk::changes).map(place).collect();
        let mut text = String::new();
        for op in &self.ops {
            let lines = if is_change(op) && chosen.contains(&place(op)) {
                self.new.get(op.new_range())
            } else {
                self.old.get(op.old_range())
            };
            text.extend(lines.unwrap_or_default().iter().copied());
        }
        text
    }
}

impl Hunk {
    fn changes(&self) -> impl Iterator<Item = &DiffOp> {
        self.0.iter().filter(|op| is_change(op))
    }

    /// Cuts it where lines between its changes are the same; none when there is only one change.
    pub(super) fn split(&self) -> Option<Vec<Self>> {
        let mut parts: Vec<Vec<DiffOp>> = vec![Vec::new()];
        for op in &self.0 {
            let part = parts.last_mut()?;
            let begins = !is_change(op) && part.iter().any(is_change);
            part.push(*op);
            if begins {
                parts.push(vec![*op]);
            }
        }
        parts.retain(|part| part.iter().any(is_change));
        (parts.len() > 1).then(|| parts.into_iter().map(Self).collect())
    }
}

fn is_change(op: &DiffOp) -> bool {
    op.tag() != DiffTag::Equal
}

/// Where a change begins in both texts: no other one begins there.
fn place(op: &DiffOp) -> (usize, usize) {
    (op.old_range().start, op.new_range().start)
}

fn show_line(out: &mut String, tag: ChangeTag, line: &str, style: Style) {
    let text = printable(line);
    let text = match tag {
        ChangeTag::Equal => format!(" {text}"),
        ChangeTag::Insert => style.added(&format!("+{text}")),
        ChangeTag::Delete => style.removed(&format!("-{text}")),
    };
    let _ = writeln!(out, "{text}");
    if !line.ends_with(['\n', '\r']) {
        out.push_str("\\ No newline at end of file\n");
    }
}

/// A line without its end; tabs stay.
fn printable(line: &str) -> String {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let parts: Vec<String> = line.split('\t').map(rcc_plan::escape).collect();
    parts.join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nn";
    const NEW: &str = "a\nB\nc\nd\ne\nf\nF\ng\nh\ni\nj\nk\nl\nm\nn\n";

    #[test]
    fn hunks_are_shown_as_git_does() {
        let texts = Texts::compare(OLD, NEW);
        let hunks = texts.hunks();
        assert_eq!(hunks.len(), 2);
        assert_eq!(
            texts.show(&hunks[0], Style::Plain),
            "@@ -1,9 +1,10 @@\n a\n-b\n+B\n c\n d\n e\n f\n+F\n g\n h\n i\n"
        );
        assert_eq!(
            texts.show(&hunks[1], Style::Plain),
            "@@ -11,4 +12,4 @@\n k\n l\n m\n-n\n\\ No newline at end of file\n+n\n"
        );
        let new = Texts::compare("", "x\ty\x1b\r\n");
        let shown = new.show(&new.hunks()[0], Style::Plain);
        assert_eq!(shown, "@@ -0,0 +1 @@\n+x\ty\\u{1b}\\u{d}\n");
    }

    #[test]
    fn what_was_chosen_is_put_together() {
        let texts = Texts::compare(OLD, NEW);
        let hunks = texts.hunks();
        assert_eq!(texts.merge(&[]), OLD);
        assert_eq!(texts.merge(&hunks), NEW);
        assert_eq!(texts.merge(&hunks[1..]), format!("{OLD}\n"));
        let parts = hunks[0].split().unwrap();
        assert_eq!(parts.len(), 2);
        assert!(parts[0].split().is_none() && hunks[1].split().is_none());
        assert_eq!(texts.merge(&parts[..1]), OLD.replace("b\n", "B\n"));
        assert_eq!(texts.merge(&parts[1..]), OLD.replace("f\n", "f\nF\n"));
        // After one part was applied the other one remains.
        let half = texts.merge(&parts[..1]);
        let rest = Texts::compare(&half, NEW);
        assert_eq!(rest.hunks().len(), 2);
        assert_eq!(rest.merge(&rest.hunks()), NEW);
    }
}
