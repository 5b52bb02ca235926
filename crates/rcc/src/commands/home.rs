//! `rcc home`: the agent homes, what one holds, and a fresh start.

use std::time::Duration;

use rcc_host::{Home, HomeError, ImportRecord, Size, home, homes, imported, reset, size};
use rcc_plan::escape;
use serde_json::json;

use crate::cli::{HomeArgs, HomeCommand, HomeListArgs, HomeResetArgs, HomeShowArgs};
use crate::commands::ps::ago;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::record::now_ms;
use crate::runs::{self, Found};

/// Imported files that are listed by name.
const LISTED: usize = 20;

/// A home that was not reset.
#[derive(Debug, thiserror::Error)]
#[error("the agent home {} was not reset", escape(name))]
struct NotReset {
    name: String,
}

pub(crate) fn run(args: HomeArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    match args.command {
        None => list(&context, HomeListArgs { json: args.json }),
        Some(HomeCommand::List(below)) => list(
            &context,
            HomeListArgs {
                json: below.json || args.json,
            },
        ),
        Some(HomeCommand::Show(args)) => show(&context, &args),
        Some(HomeCommand::Reset(args)) => start_afresh(&context, &args),
    }
}

fn list(context: &Context, args: HomeListArgs) -> Result<u8, CliError> {
    let found = homes(&context.directories)?;
    let live = live(context);
    let text: String = if args.json {
        let lines = found.iter().map(|home| value(home, &live).to_string());
        lines.map(|line| line + "\n").collect()
    } else {
        table(&found, &live)
    };
    if found.is_empty() && !args.json {
        output::note("there are no agent homes yet; the first run makes one");
    }
    print(&text)
}

fn show(context: &Context, args: &HomeShowArgs) -> Result<u8, CliError> {
    let home = home(&context.directories, &args.name)?;
    let size = size(&home)?;
    let note = imported(&context.directories, &args.name)?;
    let live = live(context);
    if args.json {
        let mut value = value(&home, &live);
        value["entries"] = size.entries.into();
        value["bytes"] = size.bytes.into();
        value["complete"] = (size.closed == 0 && !size.stopped).into();
        value["imported"] = json!(note);
        return print(&format!("{value:#}\n"));
    }
    let users = users(&home, &live);
    let in_use = if users.is_empty() {
        "by no run".to_owned()
    } else {
        users.join(", ")
    };
    let text = format!(
        "path      {}\nholds     {}\nused      {}\nin use    {in_use}\n{}",
        escape(&home.path),
        amount(&size),
        used(&home),
        import_lines(note.as_ref()),
    );
    print(&text)
}

fn start_afresh(context: &Context, args: &HomeResetArgs) -> Result<u8, CliError> {
    let home = home(&context.directories, &args.name);
    let found = match home {
        Ok(found) => Some(found),
        // The rest of a reset that was interrupted can be there without a home.
        Err(HomeError::Unknown { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(home) = found.filter(|_| !args.yes) {
        let name = escape(&args.name);
        let refused = CliError::new(
            Kind::User,
            NotReset {
                name: args.name.clone(),
            },
        );
        if !output::can_ask() {
            return Err(refused.hint("without a terminal confirm it with: --yes"));
        }
        // Measured for the question alone; a home that cannot be opened is removed all the same.
        let holds = size(&home).map_or_else(|_| "all in it".to_owned(), |size| amount(&size));
        let question = format!("Remove the agent home {name} ({holds}), its login too?");
        if !output::confirm(&question) {
            return Err(refused);
        }
    }
    reset(&context.directories, &args.name)?;
    output::note(&format!(
        "removed the agent home {}; the next run begins with a fresh one",
        escape(&args.name)
    ));
    Ok(Exit::Success.into())
}

fn live(context: &Context) -> Vec<Found> {
    let runs = runs::all(&context.directories.state).into_iter();
    runs.filter(|run| run.is_live).collect()
}

/// The runs that have it as their home.
fn users(home: &Home, live: &[Found]) -> Vec<String> {
    let runs = live.iter().map(|run| &run.description);
    runs.filter(|run| home.name == *run.home)
        .map(|run| escape(&run.id))
        .collect()
}

fn value(home: &Home, live: &[Found]) -> serde_json::Value {
    json!({
        "name": home.name.to_string_lossy(),
        "path": rcc_plan::SafeBytes::from(home.path.as_path()),
        "last_used_s": home.last_used_s,
        "runs": users(home, live),
    })
}

fn table(homes: &[Home], live: &[Found]) -> String {
    let rows = homes.iter().map(|home| {
        let users = users(home, live);
        let state = if users.is_empty() {
            used(home)
        } else {
            format!("in use by {}", users.join(", "))
        };
        (escape(&home.name), state)
    });
    let rows: Vec<(String, String)> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter();
    lines
        .map(|(name, state)| format!("{name:<width$}  {state}\n"))
        .collect()
}

fn used(home: &Home) -> String {
    let Some(at) = home.last_used_s.and_then(|at| u64::try_from(at).ok()) else {
        return "never used".to_owned();
    };
    let age = Duration::from_millis(now_ms().saturating_sub(at.saturating_mul(1000)));
    format!("last used {} ago", ago(age))
}

fn amount(size: &Size) -> String {
    let more = if size.stopped || size.closed > 0 {
        "more than "
    } else {
        ""
    };
    let entries = if size.entries == 1 {
        "entry"
    } else {
        "entries"
    };
    format!("{more}{} {entries}, {}", size.entries, bytes(size.bytes))
}

/// A size as people read it.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut left = bytes.div_ceil(1024);
    let mut unit = 0;
    while left >= 10_000 && unit + 1 < UNITS.len() {
        left /= 1024;
        unit += 1;
    }
    format!("{left} {}", UNITS[unit])
}

fn import_lines(note: Option<&ImportRecord>) -> String {
    let Some(note) = note else {
        return "imported  nothing\n".to_owned();
    };
    let age = ago(Duration::from_millis(now_ms().saturating_sub(note.at_ms)));
    let (copied, skipped) = (note.copied.len(), note.skipped.len());
    let files = if copied == 1 { "file" } else { "files" };
    let mut text = format!("imported  {copied} {files}, {age} ago\n");
    for path in note.copied.iter().take(LISTED) {
        text.push_str(&format!("          ~/{path}\n"));
    }
    if copied > LISTED {
        text.push_str(&format!("          and {} more\n", copied - LISTED));
    }
    if skipped > 0 {
        text.push_str(&format!(
            "          left out: {skipped} links and special files\n"
        ));
    }
    text
}

fn print(text: &str) -> Result<u8, CliError> {
    output::result(text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}

impl From<HomeError> for CliError {
    fn from(error: HomeError) -> Self {
        let (kind, hint) = match &error {
            HomeError::Name { .. } => (
                Kind::User,
                "names are letters, digits, dots, underscores and hyphens",
            ),
            HomeError::Unknown { .. } => (Kind::User, "rcc home lists those that there are"),
            HomeError::InUse { .. } => (Kind::User, "wait for its end; rcc ps lists the runs"),
            HomeError::Remove { .. } => (
                Kind::Host,
                "what is left has a name that begins with .removing-; the same command again goes on",
            ),
            _ => (
                Kind::Host,
                "the agent homes are below $XDG_DATA_HOME/rcc/homes",
            ),
        };
        Self::new(kind, error).hint(hint)
    }
}
