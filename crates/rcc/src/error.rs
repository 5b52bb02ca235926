//! Errors as the user sees them: what failed, why, what to do, and the exit code.
//!
//! Library errors are turned into [`CliError`] here or at the call, where the hint is known. Must not print.

use std::error::Error;
use std::fmt::Write as _;

use rcc_host::{DirectoryError, HostError, ProjectError, UserError};

use crate::exit::Exit;
use crate::output::Style;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What was asked for is wrong or incomplete.
    User,
    /// A policy file or preset is wrong.
    Config,
    /// The host lacks something or refused something.
    Host,
    /// The policy, or rcc's own safety rules, refuse it.
    Denied,
    /// A fault in rcc.
    Internal,
    /// The command cannot be executed inside.
    CannotExecute,
    /// The command does not exist inside.
    NotFound,
}

/// A failure with everything that is shown of it.
#[derive(Debug)]
pub(crate) struct CliError {
    kind: Kind,
    source: Box<dyn Error + Send + Sync>,
    hints: Vec<String>,
}

impl CliError {
    /// Wraps an error of a library, or a plain text.
    pub(crate) fn new(kind: Kind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: source.into(),
            hints: Vec::new(),
        }
    }

    /// Adds a line of advice.
    #[must_use]
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hints.push(text.into());
        self
    }

    /// Whose fault it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What failed, in one line without causes and hints.
    pub(crate) fn headline(&self) -> String {
        clean(&*self.source)
    }

    /// Adds what the host is out of, when that is why it failed, else a line of advice.
    #[must_use]
    pub(crate) fn shortage_or(self, text: impl Into<String>) -> Self {
        let shortage = shortage(&*self.source);
        self.hint(shortage.unwrap_or_else(|| text.into()))
    }

    /// The exit code that belongs to it.
    pub(crate) fn exit(&self) -> Exit {
        match self.kind {
            Kind::CannotExecute => Exit::CannotExecute,
            Kind::NotFound => Exit::NotFound,
            Kind::User | Kind::Config | Kind::Host | Kind::Denied | Kind::Internal => Exit::Failed,
        }
    }

    /// Renders it for standard error. Text of others in it is escaped: file names and policy text may be hostile.
    pub(crate) fn render(&self, style: Style) -> String {
        let mut out = String::new();
        let label = if self.kind == Kind::Internal {
            "internal error"
        } else {
            "error"
        };
        let _ = writeln!(
            out,
            "{} {}",
            style.error(&format!("{label}:")),
            clean(&*self.source)
        );
        let mut cause = self.source.source();
        while let Some(error) = cause {
            let _ = writeln!(out, "  {} {}", style.dim("caused by:"), clean(error));
            cause = error.source();
        }
        let shortage = shortage(&*self.source).filter(|_| self.hints.is_empty());
        for hint in self.hints.iter().chain(&shortage) {
            let _ = writeln!(out, "{} {}", style.hint("hint:"), lines(hint));
        }
        if self.kind == Kind::Internal {
            let _ = writeln!(
                out,
                "{} this is a fault in rcc, please report it",
                style.hint("hint:")
            );
        }
        out
    }
}

/// What the host is out of, when the last cause of an error says so.
fn shortage(error: &(dyn Error + 'static)) -> Option<String> {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let told = last.downcast_ref::<std::io::Error>()?;
    rcc_native::shortage(rustix::io::Errno::from_io_error(told)?)
}

/// An error with its causes in one line, for a warning.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = clean(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {}", clean(error));
        cause = error.source();
    }
    text
}

/// One error without its sources: escaped, and errno shown with its symbol.
fn clean(error: &(dyn Error + 'static)) -> String {
    if let Some(code) = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::raw_os_error)
    {
        return rcc_sys::describe_errno(rustix::io::Errno::from_raw_os_error(code));
    }
    lines(&error.to_string())
}

/// Escapes a text but keeps its line breaks, which rcc's own messages use.
fn lines(text: &str) -> String {
    let escaped: Vec<String> = text.trim_end().lines().map(rcc_plan::escape).collect();
    escaped.join("\n       ")
}

impl From<UserError> for CliError {
    fn from(error: UserError) -> Self {
        let hint = "set HOME to a directory of your own";
        Self::new(Kind::Host, error).hint(hint)
    }
}

impl From<DirectoryError> for CliError {
    fn from(error: DirectoryError) -> Self {
        let hint = match &error {
            DirectoryError::Writable { path, .. } => {
                Some(format!("chmod go-w {}", rcc_plan::escape(path)))
            }
            DirectoryError::Owner { .. } => Some(
                "was HOME kept across sudo? Run rcc as the user whose files it should use"
                    .to_owned(),
            ),
            _ => None,
        };
        let error = Self::new(Kind::Host, error);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl From<ProjectError> for CliError {
    fn from(error: ProjectError) -> Self {
        let hint = match &error {
            ProjectError::CurrentDirectory { .. } => {
                "the current directory may have been deleted: cd to the project, or name it with --project DIR"
            }
            ProjectError::Open { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => "name an existing directory with --project DIR",
                std::io::ErrorKind::NotADirectory => "a project is a directory",
                _ => "the project must be a directory that you may list and enter",
            },
            _ => {
                "cd to the directory of one project, or name it with --project DIR; other paths can be granted with --ro and --rw"
            }
        };
        Self::new(Kind::User, error).hint(hint)
    }
}

impl From<HostError> for CliError {
    fn from(error: HostError) -> Self {
        let hint = match &error {
            HostError::Addresses { .. } => Some("rcc needs /proc mounted"),
            HostError::Protected { .. } => {
                Some("check the permissions of that path, or move it away")
            }
            _ => None,
        };
        let error = Self::new(Kind::Host, error);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open a\u{1b}[2Jb")]
    struct Outer {
        #[source]
        source: std::io::Error,
    }

    #[test]
    fn causes_and_hints_are_shown_and_hostile_text_is_escaped() {
        let error = CliError::new(
            Kind::User,
            Outer {
                source: std::io::Error::from_raw_os_error(2),
            },
        )
        .hint("try c");
        assert_eq!(
            error.render(Style::Plain),
            "error: cannot open a\\u{1b}[2Jb\n  caused by: No such file or directory (ENOENT)\nhint: try c\n"
        );
        assert_eq!(u8::from(error.exit()), 125);
    }
}
