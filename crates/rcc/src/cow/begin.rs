//! How a copy-on-write run begins: with new layers, or with those of an earlier run. Must not change what a layer lies over.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rcc_host::Project;
use rcc_host::cow::{CowError, Layer, Root};
use rcc_plan::{FileIdentity, RwLayer};
use rustix::fs::{CWD, Mode, OFlags};

use super::{ChoiceError, CowRun, all, by_id, named, refuse_open};
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::record::Record;

/// A run whose changes the next one goes on with, kept to this process.
#[derive(Debug)]
pub(crate) struct Earlier {
    run: CowRun,
    _held: OwnedFd,
}

/// The layers as the plan names them.
#[derive(Debug)]
pub(crate) struct Laid {
    /// The project's.
    pub(crate) project: PathBuf,
    /// Those of further directories.
    pub(crate) further: BTreeMap<PathBuf, RwLayer>,
}

/// Finds the run of `--continue`.
pub(crate) fn earlier(context: &Context, project: &Project, id: &str) -> Result<Earlier, CliError> {
    let runs = all(context);
    let id = named(context, &runs, id).unwrap_or_else(|| id.to_owned());
    let run = by_id(runs, &id)?;
    if run.project() != project.root {
        let project = run.project().to_owned();
        let id = run.id;
        return Err(CliError::new(
            Kind::User,
            ChoiceError::OtherProject { id, project },
        ));
    }
    run.layers.project().lower()?;
    let held = run.lock()?;
    refuse_open(&run)?;
    Ok(Earlier { run, _held: held })
}

/// Makes the layers of a run that begins, or takes over those of an earlier one: over the project, and over each of `roots`.
pub(crate) fn begin(
    project: &Project,
    record: &Record,
    earlier: Option<Earlier>,
    roots: &[PathBuf],
) -> Result<Laid, CliError> {
    let mut layers = match earlier {
        None => record.make_layers(project)?,
        Some(Earlier { run, _held }) => {
            let mut layers = run.layers;
            let is_meant = |layer: &Layer| {
                roots
                    .iter()
                    .any(|root| layer.base().project.as_path() == root)
            };
            let further = layers.further().iter();
            let lost = further
                .into_iter()
                .find(|layer| !is_meant(layer) && !layer.is_empty());
            if let Some(lost) = lost {
                let (id, root) = (run.id, lost.base().project.as_path().to_owned());
                return Err(
                    CliError::new(Kind::User, ChoiceError::NotGranted { id, root })
                        .hint("name it with --rw, or decide about these changes first: rcc apply PATH or rcc discard"),
                );
            }
            layers.remove_further(|layer| !is_meant(layer))?;
            for layer in layers.further() {
                layer.lower()?;
            }
            let mut layers = layers.move_to(record.path())?;
            layers.settle(false)?;
            layers
        }
    };
    let mut further = BTreeMap::new();
    for root in roots {
        let directory = open(root)?;
        let identity = identity(root, &directory)?;
        let there = layers.further().iter();
        let there = there
            .map(|layer| (layer.base().project.as_path(), layer.path()))
            .find(|(over, _)| *over == root);
        let layer = match there {
            Some((_, path)) => canonical(path)?,
            None => {
                let root = Root {
                    path: root,
                    directory: directory.as_fd(),
                };
                canonical(layers.add(root)?.path())?
            }
        };
        further.insert(root.clone(), RwLayer { layer, identity });
    }
    Ok(Laid {
        project: canonical(layers.project().path())?,
        further,
    })
}

/// What is only shown has layers in name alone.
pub(crate) fn shown(state: &Path, roots: &[PathBuf]) -> Result<Laid, CliError> {
    let project = state.join("runs/plan/cow");
    let mut further = BTreeMap::new();
    for (index, root) in roots.iter().enumerate() {
        let layer = project.join(format!("rw/{}", index + 1));
        let identity = identity(root, &open(root)?)?;
        further.insert(root.clone(), RwLayer { layer, identity });
    }
    Ok(Laid { project, further })
}

fn canonical(path: &Path) -> Result<PathBuf, CliError> {
    std::fs::canonicalize(path).map_err(|error| CliError::new(Kind::Host, error))
}

/// Opens a directory that is to get a layer; its path is canonical, so no link is followed.
fn open(root: &Path) -> Result<OwnedFd, CowError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, root, flags, Mode::empty()).map_err(failed("open", root))
}

fn identity(root: &Path, directory: &OwnedFd) -> Result<FileIdentity, CowError> {
    let status = rustix::fs::fstat(directory).map_err(failed("look at", root))?;
    Ok(FileIdentity {
        device: status.st_dev,
        inode: status.st_ino,
    })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> CowError {
    move |errno| CowError::Call {
        action,
        path: path.to_owned(),
        source: errno.into(),
    }
}
