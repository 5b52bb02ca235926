//! Git's configuration format (git-config(1), "CONFIGURATION FILE", and git's `config.c`): what a file says, and which of it
//! is not known to be harmless.
//!
//! Must not be more generous than git: what git could read in another way is an error here, and who asks treats an error
//! as the worst. Must not follow includes.

/// Largest configuration that is read, in bytes.
pub const GIT_CONFIG_LIMIT_BYTES: usize = 256 << 10;
/// Most settings of one file.
const SETTING_LIMIT: usize = 10_000;

/// One line of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSetting {
    /// Section in lower case.
    pub section: String,
    /// The quoted part of the section's head, or what stands behind its first dot.
    pub subsection: Option<String>,
    /// Key in lower case.
    pub key: String,
    /// Value without quotes; none where only the key stands, which means true.
    pub value: Option<String>,
}

/// A text that is no configuration of git, or not certainly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot be understood in line {line}")]
pub struct GitConfigError {
    /// Line, counted from 1.
    pub line: usize,
}

impl GitSetting {
    /// `section.subsection.key`, as git's command line names it.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.subsection {
            Some(subsection) => format!("{}.{subsection}.{}", self.section, self.key),
            None => format!("{}.{}", self.section, self.key),
        }
    }

    /// What git does with the setting that runs a program or leads git elsewhere; none when it is known to be harmless.
    ///
    /// An allow-list: git learns new settings that run programs every year.
    #[must_use]
    pub fn danger(&self) -> Option<&'static str> {
        let value = self.value.as_deref().unwrap_or("true");
        let known = RUNS.iter().find(|(section, key, _)| {
            *section == self.section && (*key == "*" || *key == self.key)
        });
        let reason = known.map(|(_, _, reason)| *reason);
        match (self.section.as_str(), self.key.as_str()) {
            // Git's own daemon, or nothing at all.
            ("core", "fsmonitor") if is_boolean(value) => None,
            ("pager", _) if is_boolean(value) => None,
            ("filter", "clean" | "smudge" | "process")
                if self.subsection.as_deref() == Some("lfs") && is_lfs(value) =>
            {
                None
            }
            ("filter", "required") => None,
            ("remote" | "submodule", "url" | "pushurl") => {
                (!is_plain_url(value)).then_some("git starts the remote helper that it names")
            }
            ("submodule", "update") => {
                (!["checkout", "rebase", "merge", "none"].contains(&value)).then_some("git runs it")
            }
            _ if reason.is_some() => reason,
            (section, key) => {
                let harmless = HARMLESS.iter().any(|(known, keys)| {
                    *known == section && (keys.is_empty() || keys.contains(&key))
                });
                (!harmless).then_some("it is not known to be harmless")
            }
        }
    }
}

/// Settings that run programs or take configuration from elsewhere: section, key (`*` for every key), what git does.
const RUNS: &[(&str, &str, &str)] = &[
    (
        "core",
        "fsmonitor",
        "git runs it on status, diff and commit",
    ),
    ("core", "hookspath", "git runs the hooks in it"),
    ("core", "sshcommand", "git runs it on fetch and push"),
    ("core", "gitproxy", "git runs it on fetch"),
    ("core", "askpass", "git runs it to ask for a password"),
    ("core", "pager", "git runs it to show output"),
    ("core", "editor", "git runs it on commit"),
    ("core", "alternaterefscommand", "git runs it on fetch"),
    ("core", "worktree", "git writes files there"),
    ("core", "attributesfile", "it attaches programs to files"),
    ("pager", "*", "git runs it to show output"),
    ("alias", "*", "git runs it by that name"),
    ("diff", "external", "git runs it on diff"),
    ("diff", "command", "git runs it on diff"),
    ("diff", "textconv", "git runs it on diff"),
    ("difftool", "*", "git runs it on difftool"),
    ("mergetool", "*", "git runs it on mergetool"),
    ("merge", "driver", "git runs it on merge"),
    ("filter", "*", "git runs it on status, add and checkout"),
    ("credential", "*", "git runs it to log in"),
    ("gpg", "*", "git runs it on commit and log"),
    ("sequence", "editor", "git runs it on rebase"),
    ("interactive", "difffilter", "git runs it on add --patch"),
    ("include", "*", "git reads more configuration from there"),
    ("includeif", "*", "git reads more configuration from there"),
    ("protocol", "*", "it opens protocols that run programs"),
    ("remote", "uploadpack", "git runs it on fetch"),
    ("remote", "receivepack", "git runs it on push"),
    (
        "remote",
        "vcs",
        "git starts the remote helper that it names",
    ),
    ("url", "*", "it changes where git connects to"),
    ("trailer", "*", "git runs it on commit"),
    ("sendemail", "*", "git runs it on send-email"),
    ("imap", "*", "git runs it on imap-send"),
    ("browser", "*", "git runs it to show a page"),
    ("man", "*", "git runs it to show a page"),
    ("web", "*", "git runs it to show a page"),
    ("instaweb", "*", "git runs it on instaweb"),
    ("guitool", "*", "git gui runs it"),
    ("hook", "*", "git runs it as a hook"),
    (
        "uploadpack",
        "packobjectshook",
        "git runs it on fetch from here",
    ),
    ("init", "templatedir", "git copies hooks from it"),
    ("gc", "recentobjectshook", "git runs it on gc"),
];

/// Settings that only hold data: section and keys, all of the section where none is named.
const HARMLESS: &[(&str, &[&str])] = &[
    (
        "core",
        &[
            "repositoryformatversion",
            "filemode",
            "bare",
            "logallrefupdates",
            "ignorecase",
            "precomposeunicode",
            "symlinks",
            "autocrlf",
            "eol",
            "safecrlf",
            "sparsecheckout",
            "sparsecheckoutcone",
            "compression",
            "untrackedcache",
            "quotepath",
            "abbrev",
            "commitgraph",
            "multipackindex",
            "preloadindex",
            "longpaths",
            "protecthfs",
            "protectntfs",
            "whitespace",
            "checkstat",
            "trustctime",
            "fscache",
            "commentchar",
            "sharedrepository",
            "splitindex",
        ],
    ),
    (
        "remote",
        &[
            "fetch",
            "push",
            "tagopt",
            "prune",
            "prunetags",
            "mirror",
            "promisor",
            "partialclonefilter",
            "pushdefault",
            "skipfetchall",
            "skipdefaultupdate",
            "followremotehead",
        ],
    ),
    (
        "branch",
        &[
            "remote",
            "merge",
            "rebase",
            "pushremote",
            "description",
            "autosetupmerge",
            "autosetuprebase",
            "sort",
            "vscode-merge-base",
            "gh-merge-base",
        ],
    ),
    (
        "submodule",
        &[
            "active",
            "branch",
            "ignore",
            "fetchrecursesubmodules",
            "recurse",
            "path",
            "shallow",
            "fetchjobs",
            "propagatebranches",
        ],
    ),
    (
        "extensions",
        &[
            "worktreeconfig",
            "objectformat",
            "partialclone",
            "refstorage",
            "noop",
            "preciousobjects",
            "relativeworktrees",
            "compatobjectformat",
        ],
    ),
    ("user", &["name", "email", "signingkey", "useconfigonly"]),
    ("author", &[]),
    ("committer", &[]),
    ("pull", &[]),
    ("push", &[]),
    ("color", &[]),
    ("column", &[]),
    ("advice", &[]),
    ("status", &[]),
    ("fetch", &[]),
    ("rebase", &[]),
    ("rerere", &[]),
    ("index", &[]),
    (
        "pack",
        &[
            "threads",
            "window",
            "depth",
            "compression",
            "usesparse",
            "windowmemory",
        ],
    ),
    (
        "receive",
        &[
            "denycurrentbranch",
            "denynonfastforwards",
            "denydeletes",
            "advertiseatomic",
        ],
    ),
    (
        "gc",
        &[
            "auto",
            "autodetach",
            "pruneexpire",
            "worktreepruneexpire",
            "reflogexpire",
            "autopacklimit",
        ],
    ),
    ("maintenance", &["auto", "strategy"]),
    ("commit", &["gpgsign", "verbose", "cleanup", "status"]),
    ("tag", &["gpgsign", "sort"]),
    ("merge", &["ff", "conflictstyle", "renames", "log", "stat"]),
    (
        "diff",
        &[
            "renames",
            "algorithm",
            "colormoved",
            "mnemonicprefix",
            "noprefix",
            "submodule",
            "context",
        ],
    ),
    ("init", &["defaultbranch"]),
    ("lfs", &["repositoryformatversion", "locksverify", "access"]),
    ("sparse", &[]),
    ("feature", &[]),
    ("checkout", &[]),
    ("stash", &[]),
    ("log", &["date", "decorate", "abbrevcommit"]),
    ("blame", &[]),
];

fn is_boolean(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    ["true", "yes", "on", "1", "false", "no", "off", "0", ""].contains(&value.as_str())
}

/// The commands that `git lfs install` writes, word for word.
fn is_lfs(value: &str) -> bool {
    [
        "git-lfs clean -- %f",
        "git-lfs smudge -- %f",
        "git-lfs smudge --skip -- %f",
        "git-lfs filter-process",
        "git-lfs filter-process --skip",
    ]
    .contains(&value)
}

/// A path, or a URL of a protocol that git speaks itself. `ext::`, `fd::` and every other `helper::` run programs, and so
/// does `helper://` for a helper on the path; a leading hyphen has been read as an option before.
fn is_plain_url(value: &str) -> bool {
    let protocol = value.split_once("://").map(|(protocol, _)| protocol);
    let host = value.split("://").nth(1).unwrap_or(value);
    !value.is_empty()
        && !value.contains("::")
        && !value.starts_with('-')
        && !host.starts_with('-')
        && !value.chars().any(char::is_control)
        && protocol.is_none_or(|protocol| {
            ["http", "https", "ssh", "git", "git+ssh", "ssh+git", "file"].contains(&protocol)
        })
}

/// Reads a configuration.
///
/// # Errors
/// At the first line that git would refuse, or that is too much.
pub fn parse_git_config(text: &str) -> Result<Vec<GitSetting>, GitConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        rest: text.chars().peekable(),
        line: 1,
    };
    let mut settings = Vec::new();
    let mut section: Option<(String, Option<String>)> = None;
    loop {
        match reader.next() {
            None => return Ok(settings),
            Some('\n' | ' ' | '\t' | '\r') => {}
            Some('#' | ';') => reader.skip_comment(),
            Some('[') => section = Some(reader.section()?),
            Some(first) if first.is_ascii_alphabetic() => {
                let (section, subsection) = section.clone().ok_or_else(|| reader.error())?;
                let (key, value) = reader.setting(first)?;
                settings.push(GitSetting {
                    section,
                    subsection,
                    key,
                    value,
                });
                if settings.len() > SETTING_LIMIT {
                    return Err(reader.error());
                }
            }
            Some(_) => return Err(reader.error()),
        }
    }
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut next = self.rest.next()?;
        // A carriage return before a line's end is not part of it (`get_next_char`).
        if next == '\r' && self.rest.peek() == Some(&'\n') {
            next = self.rest.next()?;
        }
        if next == '\n' {
            self.line += 1;
        }
        Some(next)
    }

    fn error(&self) -> GitConfigError {
        GitConfigError { line: self.line }
    }

    fn skip_comment(&mut self) {
        while self.next().is_some_and(|next| next != '\n') {}
    }

    fn section(&mut self) -> Result<(String, Option<String>), GitConfigError> {
        let mut name = String::new();
        loop {
            match self.next() {
                Some(']') if !name.is_empty() => {
                    return Ok(match name.split_once('.') {
                        Some((section, rest)) => (section.to_owned(), Some(rest.to_owned())),
                        None => (name, None),
                    });
                }
                Some(' ' | '\t') => return Ok((name, Some(self.subsection()?))),
                Some(next) if next.is_ascii_alphanumeric() || next == '-' || next == '.' => {
                    name.push(next.to_ascii_lowercase());
                }
                _ => return Err(self.error()),
            }
        }
    }

    fn subsection(&mut self) -> Result<String, GitConfigError> {
        loop {
            match self.next() {
                Some(' ' | '\t') => {}
                Some('"') => break,
                _ => return Err(self.error()),
            }
        }
        let mut name = String::new();
        loop {
            match self.next() {
                Some('"') => break,
                Some('\\') => match self.next() {
                    Some(next) if next != '\n' => name.push(next),
                    _ => return Err(self.error()),
                },
                Some(next) if next != '\n' && next != '\0' => name.push(next),
                _ => return Err(self.error()),
            }
        }
        match self.next() {
            Some(']') => Ok(name),
            _ => Err(self.error()),
        }
    }

    fn setting(&mut self, first: char) -> Result<(String, Option<String>), GitConfigError> {
        let mut key = String::from(first.to_ascii_lowercase());
        let mut next = self.next();
        while let Some(part) = next.filter(|next| next.is_ascii_alphanumeric() || *next == '-') {
            key.push(part.to_ascii_lowercase());
            next = self.next();
        }
        while matches!(next, Some(' ' | '\t')) {
            next = self.next();
        }
        match next {
            None | Some('\n') => Ok((key, None)),
            Some('=') => Ok((key, Some(self.value()?))),
            Some(_) => Err(self.error()),
        }
    }

    fn value(&mut self) -> Result<String, GitConfigError> {
        let mut value = String::new();
        let mut quoted = false;
        // Length up to the last character that counts: space around a value does not.
        let mut length = 0;
        loop {
            match self.next() {
                None | Some('\n') if quoted => return Err(self.error()),
                None | Some('\n') => break,
                Some('\0') => return Err(self.error()),
                Some(' ' | '\t') if !quoted && value.is_empty() => {}
                Some(space @ (' ' | '\t')) if !quoted => value.push(space),
                Some('#' | ';') if !quoted => {
                    self.skip_comment();
                    break;
                }
                Some('"') => {
                    quoted = !quoted;
                    length = value.len();
                }
                Some('\\') => {
                    match self.next() {
                        Some('\n') => continue,
                        Some('n') => value.push('\n'),
                        Some('t') => value.push('\t'),
                        Some('b') => value.push('\u{8}'),
                        Some(plain @ ('\\' | '"')) => value.push(plain),
                        _ => return Err(self.error()),
                    }
                    length = value.len();
                }
                Some(next) => {
                    value.push(next);
                    length = value.len();
                }
            }
        }
        value.truncate(length);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        let settings = parse_git_config(text).unwrap();
        settings
            .into_iter()
            .map(|setting| (setting.name(), setting.value))
            .collect()
    }

    #[test]
    fn the_forms_of_a_configuration() {
        let text = "\u{feff}# c\n[Core]\r\n\tBare = false ; c\n fsmonitor\n[remote \"a \\\"b\\\\\"] url=x#y\n[Alias.St]x= \"a # b\" c \n\
                    [a-b]\n k = one\\\n two\\tthree  \n q = \" s \"";
        let expected = [
            ("core.bare", Some("false")),
            ("core.fsmonitor", None),
            ("remote.a \"b\\.url", Some("x")),
            ("alias.st.x", Some("a # b c")),
            ("a-b.k", Some("one two\tthree")),
            ("a-b.q", Some(" s ")),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
            .collect();
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn what_git_refuses_is_refused() {
        for bad in [
            "a = b",
            "[core",
            "[]",
            "[co_re]\n",
            "[core \"x]\n",
            "[core \"x\"y]\n",
            "[core]\n1 = x",
            "[core]\na_b = x",
            "[core]\na = \"x\n",
            "[core]\na = \\x",
            "[core]\na = \0",
            "[core]\na b",
            "\u{7f}",
            "[core]\n\u{e9} = 1",
        ] {
            assert!(parse_git_config(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn settings_that_run_programs_are_known_and_the_unknown_are_not_trusted() {
        let danger = |text: &str| parse_git_config(text).unwrap()[0].danger();
        for bad in [
            "[core]\nfsmonitor = ./x",
            "[core]\nsshCommand = x",
            "[core] hooksPath = .",
            "[core]\npager=x",
            "[diff]\nexternal = x",
            "[diff \"a\"]\ntextconv = x",
            "[filter \"a\"]\nclean = x",
            "[alias]\nst = !x",
            "[alias]\nst = -c core.pager=x log",
            "[credential]\nhelper = x",
            "[include]\npath = x",
            "[includeIf \"gitdir:/\"]\npath = x",
            "[gpg]\nprogram = x",
            "[gpg \"ssh\"]\nprogram = x",
            "[sequence]\neditor = x",
            "[protocol \"ext\"]\nallow = always",
            "[remote \"o\"]\nuploadpack = x",
            "[remote \"o\"]\nurl = ext::sh -c x",
            "[remote \"o\"]\nurl = -x",
            "[remote \"o\"]\nurl = ssh://-x/y",
            "[remote \"o\"]\nurl = foo://x",
            "[submodule \"s\"]\nupdate = !x",
            "[submodule \"s\"]\nurl = ext::x",
            "[hook \"x\"]\ncommand = x",
            "[filter \"lfs\"]\nclean = git-lfs clean -- %f && x",
            "[pager]\nlog = x",
            "[newer]\nthing = 1",
            "[core]\nnewthing = 1",
            "[url \"ext::x\"]\ninsteadOf = https://",
            "[CORE]\nFSMONITOR = x",
            "[core.x]\nfsmonitor = x",
            "[core]\nworktree = /",
        ] {
            assert!(danger(bad).is_some(), "{bad:?}");
        }
        for good in [
            "[core]\nbare = false",
            "[core]\nfsmonitor = true",
            "[core]\nfsmonitor",
            "[pager]\nlog = false",
            "[remote \"o\"]\nurl = https://example.com/x",
            "[remote \"o\"]\nurl = git@example.com:x",
            "[remote \"o\"]\nurl = ../x",
            "[branch \"main\"]\nmerge = refs/heads/main",
            "[user]\nname = x",
            "[filter \"lfs\"]\nclean = git-lfs clean -- %f",
            "[submodule \"s\"]\nactive = true",
        ] {
            assert_eq!(danger(good), None, "{good:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\[\\]a-c.=\"\\\\ \t\r\n#;!é]{0,60}") {
            let _ = parse_git_config(&text);
        }
    }
}
