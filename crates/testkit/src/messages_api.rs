//! A stand-in of the Messages API that a real agent can talk to: the script that a prompt can hold.
//!
//! Lines of the prompt that begin with one of these words are the script; the stand-in asks for one tool call after the
//! other and at the end says `FINAL[result][result]…`. A prompt without a script is answered `ok`.
//!
//! | line | what the agent is asked to do |
//! |---|---|
//! | `WRITE: PATH TEXT` | write TEXT and a line end to PATH with its own file tool |
//! | `RUN: COMMAND` | run COMMAND in its shell tool |
//! | `FETCH: URL` | run `curl` on URL in its shell tool; the result holds status, time and error |
//! | `SAY: TEXT` | end the turn with TEXT |
//!
//! The server is part of every world, at `http://api.agent.example` and `https://api.agent.example`;
//! [`crate::world::World::messages_requests`] has what it was sent.
//!
//! Must not decide anything by time or by earlier requests: the conversation sent is the whole state.

use std::ffi::OsString;

use serde_json::{Value, json};

use crate::world::World;

/// One step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write a file.
    Write {
        /// Where.
        path: String,
        /// What, without the final line end.
        text: String,
    },
    /// Run a shell command.
    Run(String),
    /// End the turn with this text.
    Say(String),
}

impl Step {
    /// Gives the tool and its input, out of the tools that the agent has offered.
    ///
    /// Names and fields are those of Claude Code: `Write` takes `file_path` and `content`, `Bash` takes `command`.
    /// An agent without a file tool writes with its shell.
    #[must_use]
    pub fn tool_call(&self, tools: &[&str]) -> Option<(String, Value)> {
        let has = |name: &str| tools.contains(&name);
        match self {
            Self::Write { path, text } if has("Write") => Some((
                "Write".to_owned(),
                json!({ "file_path": path, "content": format!("{text}\n") }),
            )),
            Self::Write { path, text } if has("Bash") => {
                let command = format!("printf '%s\\n' {} > {}", quote(text), quote(path));
                Some((
                    "Bash".to_owned(),
                    json!({ "command": command, "description": "write a file" }),
                ))
            }
            Self::Run(command) if has("Bash") => Some((
                "Bash".to_owned(),
                json!({ "command": command, "description": "run a command" }),
            )),
            Self::Write { .. } | Self::Run(_) | Self::Say(_) => None,
        }
    }
}

/// The variables that make Claude Code talk to the stand-in over https, and to nobody else.
///
/// It must run as an ordinary user: as root it refuses `--dangerously-skip-permissions`.
#[must_use]
pub fn claude_variables(world: &World) -> Vec<(&'static str, OsString)> {
    vec![
        ("ANTHROPIC_BASE_URL", "https://api.agent.example".into()),
        ("ANTHROPIC_API_KEY", "dummy".into()),
        ("NODE_EXTRA_CA_CERTS", world.ca_pem_path().into_os_string()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
        ("DISABLE_AUTOUPDATER", "1".into()),
    ]
}

/// Reads the script out of a prompt; other lines are ignored.
#[must_use]
pub fn script(prompt: &str) -> Vec<Step> {
    let steps = prompt.lines().filter_map(|line| {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("WRITE: ") {
            let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
            return Some(Step::Write {
                path: path.to_owned(),
                text: text.to_owned(),
            });
        }
        if let Some(url) = line.strip_prefix("FETCH: ") {
            let format = "status=%{http_code} seconds=%{time_total}\\n";
            return Some(Step::Run(format!(
                "curl -sS -w '{format}' {} 2>&1; echo exit=$?",
                quote(url)
            )));
        }
        if let Some(text) = line.strip_prefix("SAY: ") {
            return Some(Step::Say(text.to_owned()));
        }
        line.strip_prefix("RUN: ")
            .map(|command| Step::Run(command.to_owned()))
    });
    steps.collect()
}

/// Quotes a word for sh(1).
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_becomes_steps_in_order() {
        let steps = script(
            "please\nWRITE: a/b.txt two words\n RUN: ls -l\nFETCH: http://x.example/\nSAY: bye\nRUNNING: no",
        );
        assert_eq!(steps.len(), 4);
        assert_eq!(
            steps[0],
            Step::Write {
                path: "a/b.txt".to_owned(),
                text: "two words".to_owned()
            }
        );
        assert_eq!(steps[1], Step::Run("ls -l".to_owned()));
        assert!(
            matches!(&steps[2], Step::Run(command) if command.starts_with("curl ") && command.contains("'http://x.example/'"))
        );
        assert_eq!(steps[3], Step::Say("bye".to_owned()));
    }

    #[test]
    fn tools_are_chosen_from_those_offered() {
        let write = Step::Write {
            path: "it's".to_owned(),
            text: "x".to_owned(),
        };
        assert_eq!(write.tool_call(&["Bash", "Write"]).unwrap().0, "Write");
        let (name, input) = write.tool_call(&["Bash"]).unwrap();
        assert_eq!(
            (name.as_str(), input["command"].as_str().unwrap()),
            ("Bash", r"printf '%s\n' 'x' > 'it'\''s'")
        );
        assert_eq!(write.tool_call(&["Read"]), None);
    }
}
