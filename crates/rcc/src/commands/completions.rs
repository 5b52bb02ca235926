//! `rcc completions SHELL`: the completion script, generated from the command line's definition.

use crate::cli::{CompletionsArgs, documented};
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(args: &CompletionsArgs) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut documented(), "rcc", &mut script);
    output::result(&String::from_utf8_lossy(&script))
        .map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_and_commands_are_completed_in_every_shell() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Elvish,
            clap_complete::Shell::Fish,
            clap_complete::Shell::PowerShell,
            clap_complete::Shell::Zsh,
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut documented(), "rcc", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["claude", "doctor", "no-internet"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
