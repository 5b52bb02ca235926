//! Writing for people: colour only on a terminal and never with `NO_COLOR`, everything of others escaped.
//!
//! Results go to standard output, everything else to standard error. A closed pipe is not an error.

use std::io::{self, IsTerminal as _, Write as _};

/// Whether escape sequences of our own may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Text only.
    Plain,
    /// ANSI colours (ECMA-48 SGR).
    Colour,
}

impl Style {
    /// The style for standard error.
    pub(crate) fn stderr() -> Self {
        Self::of(io::stderr().is_terminal())
    }

    /// The style for standard output.
    pub(crate) fn stdout() -> Self {
        Self::of(io::stdout().is_terminal())
    }

    fn of(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if terminal && !refused {
            Self::Colour
        } else {
            Self::Plain
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    pub(crate) fn hint(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn title(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn added(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn removed(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// Writes to standard error; a failure has nowhere to be reported.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes one line `rcc: …` to standard error.
pub(crate) fn note(text: &str) {
    say(&format!("rcc: {text}\n"));
}

/// Writes one line of warning to standard error.
pub(crate) fn warn(text: &str) {
    say(&format!("{} {text}\n", Style::stderr().warning("warning:")));
}

/// Writes a result to standard output. A reader that went away (`rcc plan | head`) is not an error.
pub(crate) fn result(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Asks a yes-or-no question on the terminal. Anything but `y` or `yes` is no.
pub(crate) fn confirm(question: &str) -> bool {
    say(&format!("{question} [y/N] "));
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(_) => matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"),
        Err(_) => false,
    }
}

/// Tells whether a question can be asked: both ends of the conversation are terminals.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A line that stays while something takes long: on a terminal it counts the seconds, elsewhere it is said once.
#[derive(Debug)]
pub(crate) struct Progress {
    ticker: Option<(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl Progress {
    /// Shows the line.
    pub(crate) fn start(text: String) -> Self {
        if !io::stderr().is_terminal() {
            note(&text);
            return Self { ticker: None };
        }
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for seconds in 0_u32.. {
                let count = if seconds < 2 {
                    String::new()
                } else {
                    format!(" … {seconds} s")
                };
                say(&format!("\rrcc: {text}{count}"));
                let wait = stopped.recv_timeout(std::time::Duration::from_secs(1));
                if wait != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    break;
                }
            }
            say("\n");
        });
        Self {
            ticker: Some((stop, thread)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            // It only writes lines; if it panicked there is nothing to repair.
            let _ = thread.join();
        }
    }
}
