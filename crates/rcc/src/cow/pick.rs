//! `rcc apply --patch`: asks about each change, and about each hunk of a text. Must not change anything: what was chosen is
//! applied afterwards, all at once.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use rcc_host::cow::{
    Choice, Differences, Guarded, Layer, Offer, Part, Pick, Standing, Status, Tree,
    attribute_changes, content, offers,
};

use super::CowRun;
use super::hunks::{Hunk, Texts};
use super::text::{Pair, body, heading, pair};
use crate::error::{CliError, Kind};
use crate::output::{self, Style};

/// Why nothing is asked.
#[derive(Debug, thiserror::Error)]
enum PickError {
    #[error("rcc apply --patch asks about each change, and there is no terminal to ask on")]
    NoTerminal,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// This one and all that follows in the file.
    All,
    /// Neither this one nor what follows in the file.
    Done,
    Split,
    Quit,
}

/// Refuses where nobody can answer.
pub(crate) fn require_terminal() -> Result<(), CliError> {
    if output::can_ask() {
        return Ok(());
    }
    Err(CliError::new(Kind::User, PickError::NoTerminal)
        .hint("rcc apply PATH… applies what you name; rcc diff --name-status lists it"))
}

/// Asks about the changes that the choices leave open, and notes in them what was picked.
pub(crate) fn pick(
    run: &CowRun,
    choices: &mut [Option<Choice>],
    guarded: Guarded<'_>,
) -> Result<(), CliError> {
    let mut rest = Rest::Asked;
    for (layer, choice) in run.layers.all().zip(choices) {
        if let Some(choice) = choice {
            let mut picks = BTreeMap::new();
            if rest != Rest::Quit {
                rest = pick_in(layer, choice, guarded, &mut picks)?;
            }
            choice.picks = Some(picks);
        }
    }
    Ok(())
}

/// Asks about the changes of one layer.
fn pick_in(
    layer: &Layer,
    choice: &Choice,
    guarded: Guarded<'_>,
    picks: &mut BTreeMap<PathBuf, Pick>,
) -> Result<Rest, CliError> {
    let (upper, lower) = (layer.upper()?, layer.lower()?);
    let mut refused: Vec<PathBuf> = Vec::new();
    for offer in offers(layer, choice, guarded)? {
        let name = layer.name(&offer.path);
        let shown = rcc_plan::escape(&name);
        if refused.iter().any(|top| offer.path.starts_with(top)) {
            continue;
        }
        match offer.standing {
            Standing::Open => {}
            Standing::Guarded => output::note(&format!("your programs run or obey {shown}")),
            Standing::Held(why) => {
                output::note(&format!("held back: {shown} ({why})"));
                continue;
            }
            Standing::Conflict => {
                output::note(&format!(
                    "conflict: {shown} was changed by you after the run began; not asked about"
                ));
                continue;
            }
        }
        let asked = Asked {
            offer: &offer,
            name: &name,
            upper: &upper,
            lower: &lower,
            style: Style::stderr(),
        };
        let (part, rest) = asked.ask();
        match part {
            Some(part) => {
                let seen = offer.change.lower;
                picks.insert(offer.path, Pick { seen, part });
            }
            // What is in a directory cannot come without it.
            None => refused.push(offer.path),
        }
        if rest == Rest::Quit {
            return Ok(rest);
        }
    }
    Ok(Rest::Asked)
}

/// What happens to the rest of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// It is asked about.
    Asked,
    Yes,
    No,
    /// It is not applied, nor is what comes after the file.
    Quit,
}

/// One change to be asked about.
struct Asked<'a> {
    offer: &'a Offer,
    /// The path as people read it.
    name: &'a Path,
    upper: &'a Tree,
    lower: &'a Tree,
    style: Style,
}

impl Asked<'_> {
    /// What is applied of it, and whether more is to be asked.
    fn ask(&self) -> (Option<Part>, Rest) {
        let (path, change) = (&self.offer.path, &self.offer.change);
        let attributes = attribute_changes((self.upper, self.lower), path, change);
        output::say(&heading(self.name, change, &attributes, self.style));
        let side = |tree: &Tree, meta: Option<_>| meta.map(|meta| content(tree, path, &meta));
        let texts = pair(
            side(self.lower, change.lower),
            side(self.upper, change.upper),
        );
        if let (Status::Modified(differs), Pair::Text { old, new }) = (change.status, &texts)
            && change.upper.is_some_and(|meta| meta.is_file())
            && differs.content
        {
            return self.parts(differs, &Texts::compare(old, new));
        }
        output::say(&body(self.name, change, &texts, self.style));
        let what = match change.status {
            Status::Added => "this addition",
            Status::Removed => "this removal",
            Status::Retyped => "this change of type",
            _ => "this change",
        };
        match self.question(what, "", Cut::Whole) {
            Answer::Yes | Answer::All => (Some(Part::Whole), Rest::Asked),
            Answer::Quit => (None, Rest::Quit),
            _ => (None, Rest::Asked),
        }
    }

    /// Asks about mode, attributes and each hunk.
    fn parts(&self, differs: Differences, texts: &Texts<'_>) -> (Option<Part>, Rest) {
        let mut rest = Rest::Asked;
        let mut is_chosen = |differs: bool, what: &str| {
            differs && self.one(&mut rest, what, "", Cut::Whole) == Answer::Yes
        };
        let mode = is_chosen(differs.mode, "the change of its mode");
        let attributes = is_chosen(differs.attributes, "the change of its attributes");
        let mut waiting: Vec<Hunk> = texts.hunks();
        waiting.reverse();
        let (mut chosen, mut passed) = (Vec::new(), 0);
        while let Some(hunk) = waiting.pop() {
            if rest == Rest::Asked {
                output::say(&texts.show(&hunk, self.style));
            }
            let (parts, counter) = (hunk.split(), passed + 1);
            let cut = match parts {
                Some(_) => Cut::More,
                None => Cut::Whole,
            };
            let counter = format!("({counter}/{}) ", counter + waiting.len());
            match (self.one(&mut rest, "this hunk", &counter, cut), parts) {
                (Answer::Split, Some(parts)) => {
                    waiting.extend(parts.into_iter().rev());
                    continue;
                }
                (Answer::Yes, _) => chosen.push(hunk),
                _ => {}
            }
            passed += 1;
        }
        let all =
            chosen.len() == passed && (mode, attributes) == (differs.mode, differs.attributes);
        let part = if all {
            Some(Part::Whole)
        } else if chosen.is_empty() && !mode && !attributes {
            None
        } else {
            Some(Part::Of {
                content: (!chosen.is_empty()).then(|| texts.merge(&chosen).into_bytes()),
                mode,
                attributes,
            })
        };
        (part, rest)
    }

    /// Asks about one part of a file, unless an answer before was for the rest of it.
    fn one(&self, rest: &mut Rest, what: &str, counter: &str, cut: Cut) -> Answer {
        if *rest == Rest::Asked {
            let answer = self.question(what, counter, cut);
            *rest = match answer {
                Answer::All => Rest::Yes,
                Answer::Done => Rest::No,
                Answer::Quit => Rest::Quit,
                Answer::Yes | Answer::No | Answer::Split => return answer,
            };
        }
        match rest {
            Rest::Yes => Answer::Yes,
            _ => Answer::No,
        }
    }

    /// Asks until the answer is one.
    fn question(&self, what: &str, counter: &str, cut: Cut) -> Answer {
        let split = if cut == Cut::More { ",s" } else { "" };
        let shown = rcc_plan::escape(self.name);
        loop {
            let text = format!("{counter}Apply {what}? [y,n,q,a,d{split},?] {shown}: ");
            output::say(&self.style.hint(&text));
            let mut answer = String::new();
            match std::io::stdin().lock().read_line(&mut answer) {
                Ok(0) | Err(_) => {
                    output::say("\n");
                    return Answer::Quit;
                }
                Ok(_) => {}
            }
            match answer.trim() {
                "y" => return Answer::Yes,
                "n" => return Answer::No,
                "q" => return Answer::Quit,
                "a" => return Answer::All,
                "d" => return Answer::Done,
                "s" if cut == Cut::More => return Answer::Split,
                _ => output::say(HELP),
            }
        }
    }
}

/// Whether a hunk can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Whole,
    More,
}

const HELP: &str = "y - apply it
n - do not apply it
q - quit: neither this nor anything after it; what was chosen before is applied
a - apply it and all that follows in the file
d - apply neither it nor what follows in the file
s - cut the hunk into smaller ones
? - this help
";
