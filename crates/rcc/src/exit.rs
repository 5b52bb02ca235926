//! Exit codes: one table, from which `docs/exit-codes.md` is generated (see the test below).

use std::process::ExitCode;

/// How rcc itself ends. The agent's own code passes through as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Success = 0,
    /// The answer to the question is no (`rcc plan --why`, `rcc net test`), or something had to be left alone (`rcc apply`, `rcc undo`).
    Denied = 1,
    /// The run took too long, or did nothing for too long, and was ended.
    TimedOut = 124,
    /// rcc failed before the command started, or was asked for something it cannot do.
    Failed = 125,
    /// The command exists but cannot be executed.
    CannotExecute = 126,
    /// The command does not exist.
    NotFound = 127,
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        exit as Self
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(u8::from(exit))
    }
}

/// The table of the documentation: code and meaning.
#[cfg(test)]
const TABLE: &[(&str, &str)] = &[
    (
        "0",
        "The command ended with success, or rcc did what was asked.",
    ),
    (
        "1",
        "`rcc plan --why` and `rcc net test`: the connection is not allowed. `rcc apply`, `rcc undo` and `rcc redo`: you changed something meanwhile, which was left as it is.",
    ),
    (
        "124",
        "The run was ended by `--timeout` or `--idle-timeout`, whatever the command's own code was then.",
    ),
    (
        "125",
        "rcc failed: bad input, refused policy, missing kernel feature, or a fault in rcc. Nothing was run, or the run was ended.",
    ),
    (
        "126",
        "The command was found in the sandbox but cannot be executed.",
    ),
    ("127", "The command was not found in the sandbox."),
    (
        "128+n",
        "The command was ended by signal n (130 is Ctrl-C, 137 is SIGKILL).",
    ),
    ("other", "The command's own exit code."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn the_documentation_page_is_the_table() {
        let mut page = String::from(
            "# Exit codes\n\nGenerated from `crates/rcc/src/exit.rs` by its test (`RCC_UPDATE_DOCS=1 cargo test -p rcc`).\n\n| code | meaning |\n|---|---|\n",
        );
        for (code, meaning) in TABLE {
            writeln!(page, "| {code} | {meaning} |").unwrap();
        }
        crate::documentation::check("exit-codes.md", &page);
    }

    #[test]
    fn the_enum_and_the_table_agree() {
        for exit in [
            Exit::Success,
            Exit::Denied,
            Exit::TimedOut,
            Exit::Failed,
            Exit::CannotExecute,
            Exit::NotFound,
        ] {
            let code = u8::from(exit).to_string();
            assert!(TABLE.iter().any(|(listed, _)| *listed == code), "{exit:?}");
        }
    }
}
