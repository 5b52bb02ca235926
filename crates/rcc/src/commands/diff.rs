//! `rcc diff`: what copy-on-write runs changed.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcc_host::cow::{Change, Content, Layer, Tree, attribute_changes, content, direct_changes};

use crate::cli::DiffArgs;
use crate::context::Context;
use crate::cow::direct::{self, DirectRun};
use crate::cow::{self, Compared, CowRun, Form};
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output::{self, Style};

pub(crate) fn run(args: &DiffArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    if args.list {
        return list(&context, args.json);
    }
    let (id, paths) = cow::split(&context, &args.words);
    if let Some(run) = direct::shown(&context, &args.choice, id.as_deref())? {
        return diff_direct(args, &run, &paths);
    }
    let run = cow::choose(&context, &args.choice, id.as_deref())?;
    let chosen = run.choose(&paths)?;
    let mut out = Output::open(form(args));
    for (layer, chosen) in run.layers.all().zip(&chosen) {
        if let Some(chosen) = chosen
            && !diff_layer(form(args), layer, chosen, &mut out)?
        {
            break;
        }
    }
    out.close();
    Ok(Exit::Success.into())
}

/// Writes what differs in one layer; whether more is wanted.
fn diff_layer(
    form: Form,
    layer: &Layer,
    chosen: &[PathBuf],
    out: &mut Output,
) -> Result<bool, CliError> {
    let Compared {
        upper,
        lower,
        changes,
        ..
    } = Compared::new(layer)?;
    let mut listed: Vec<_> = changes
        .listed()
        .filter_map(|index| Some((changes.path(index), changes.nodes().get(index)?)))
        .filter(|(path, _)| cow::is_chosen(path, chosen))
        .collect();
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, change) in listed {
        let name = layer.name(&path);
        let side = |tree: &Tree, meta: Option<_>| meta.map(|meta| content(tree, &path, &meta));
        let sides = |change: &Change| -> (Option<Content>, Option<Content>) {
            (side(&lower, change.lower), side(&upper, change.upper))
        };
        let text = match form {
            Form::NameStatus => cow::name_status(&name, change),
            Form::Json => cow::json(layer.base().project.as_path(), &name, change),
            Form::Stat => {
                let (old, new) = sides(change);
                cow::stat(&name, change, old, new, out.style)
            }
            Form::Text => {
                let (old, new) = sides(change);
                let attributes = attribute_changes((&upper, &lower), &path, change);
                cow::unified(&name, change, old, new, &attributes, out.style)
            }
        };
        if !out.write(&text)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn form(args: &DiffArgs) -> Form {
    match args {
        DiffArgs { json: true, .. } => Form::Json,
        DiffArgs { stat: true, .. } => Form::Stat,
        DiffArgs {
            name_status: true, ..
        } => Form::NameStatus,
        _ => Form::Text,
    }
}

/// What a direct run with a snapshot changed.
fn diff_direct(args: &DiffArgs, run: &DirectRun, paths: &[PathBuf]) -> Result<u8, CliError> {
    let chosen = cow::inside(&run.project, paths)?;
    let form = form(args);
    let mut out = Output::open(form);
    let Some(found) = direct_changes(&run.record)? else {
        return Ok(Exit::Success.into());
    };
    let mut since = Vec::new();
    for change in &found.changes {
        if !cow::is_chosen(&change.path, &chosen) {
            continue;
        }
        let top = change.path.as_os_str().is_empty();
        let path = if top { Path::new(".") } else { &change.path };
        if change.since {
            since.push(rcc_plan::escape(path));
        }
        let sides = || (found.before(change), found.after(change));
        let text = match form {
            Form::NameStatus => cow::name_status(path, &change.change),
            Form::Json => cow::json(&run.project, path, &change.change),
            Form::Stat => {
                let (old, new) = sides();
                cow::stat(path, &change.change, old, new, out.style)
            }
            Form::Text => {
                let (old, new) = sides();
                let attributes = found.attributes(change);
                cow::unified(path, &change.change, old, new, &attributes, out.style)
            }
        };
        if !out.write(&text)? {
            break;
        }
    }
    out.close();
    if !since.is_empty() {
        output::note(&format!(
            "changed again since the run ended, so rcc undo leaves them alone: {}",
            since.join(", ")
        ));
    }
    Ok(Exit::Success.into())
}

/// Where the changes are written: standard output, or on a terminal the caller's pager.
struct Output {
    style: Style,
    pager: Option<std::process::Child>,
}

impl Output {
    fn open(form: Form) -> Self {
        let style = Style::stdout();
        let terminal = std::io::stdout().is_terminal() && matches!(form, Form::Text | Form::Stat);
        Self {
            style,
            pager: terminal.then(pager).flatten(),
        }
    }

    /// Writes a part; no more is wanted when the reader went away.
    fn write(&mut self, text: &str) -> Result<bool, CliError> {
        let fail = |error| CliError::new(Kind::Host, error);
        let written = match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(stdin) => stdin.write_all(text.as_bytes()),
            None => {
                let mut stdout = std::io::stdout().lock();
                stdout
                    .write_all(text.as_bytes())
                    .and_then(|()| stdout.flush())
            }
        };
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(fail(error)),
        }
    }

    fn close(mut self) {
        if let Some(mut pager) = self.pager.take() {
            drop(pager.stdin.take());
            // How the reader ended is the reader's own business.
            let _ = pager.wait();
        }
    }
}

/// Starts `$PAGER`, the caller's own command, by the shell as git does; `less` shows colours and ends by itself when the
/// text fits.
fn pager() -> Option<std::process::Child> {
    let command = std::env::var_os("PAGER").unwrap_or_else(|| "less".into());
    if command.is_empty() || command == "cat" {
        return None;
    }
    let mut shell = Command::new("/bin/sh");
    if std::env::var_os("LESS").is_none() {
        shell.env("LESS", "FRX");
    }
    shell
        .arg("-c")
        .arg(command)
        .stdin(Stdio::piped())
        .spawn()
        .ok()
}

/// The runs with changes, newest first.
fn list(context: &Context, as_json: bool) -> Result<u8, CliError> {
    let mut text = String::new();
    for run in cow::all(context) {
        if run.is_settled() {
            continue;
        }
        let live = run.is_live();
        let CowRun { id, layers, .. } = &run;
        let project = &layers.project().base().project;
        let further = layers.further().iter();
        let further: Vec<_> = further.map(|layer| &layer.base().project).collect();
        if as_json {
            let json =
                serde_json::json!({"id": id, "project": project, "rw": further, "running": live});
            text.push_str(&format!("{json}\n"));
        } else {
            let state = if live { "  (running)" } else { "" };
            let further: String = further.iter().map(|root| format!(" + {root}")).collect();
            text.push_str(&format!(
                "{}  {project}{further}{state}\n",
                rcc_plan::escape(id)
            ));
        }
    }
    for run in direct::all(context) {
        let project = rcc_plan::SafeBytes::from(run.project.as_path());
        if as_json {
            let json = serde_json::json!({"id": run.id, "project": project, "running": run.is_live, "snapshot": true});
            text.push_str(&format!("{json}\n"));
        } else {
            let state = if run.is_live { ", running" } else { "" };
            let id = rcc_plan::escape(&run.id);
            text.push_str(&format!("{id}  {project}  (snapshot{state})\n"));
        }
    }
    if text.is_empty() && !as_json {
        output::note("no run has changes that wait");
    }
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}
