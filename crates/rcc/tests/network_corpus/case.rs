//! What a case is: a client's script and what must become of it.
//!
//! Must not run anything.

/// Cases that share a policy, and so a run of rcc.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// Flags of `rcc run`.
    pub(crate) flags: Vec<&'static str>,
    pub(crate) cases: Vec<Case>,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Case {
    /// What is tried; a published bypass of another sandbox is named by its number.
    pub(crate) name: String,
    /// What it is about, for counting.
    pub(crate) kind: &'static str,
    /// Programs without which it is skipped and counted.
    pub(crate) needs: Vec<&'static str>,
    /// For sh(1), in the sandbox and, as the control, outside of it. `$PROBE` is rcc-probe,
    /// `$WAIT` how many milliseconds to wait for the end of an answer. A line with `milliseconds N` or
    /// `seconds N` is the client's own measurement; the longest counts.
    pub(crate) script: String,
    pub(crate) expect: Expect,
}

/// How it ends.
#[derive(Debug)]
pub(crate) enum Expect {
    /// The output holds all of these, and the log no refusal.
    Allowed(Vec<String>),
    Refused(Refusal),
}

/// A refusal in all its forms.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The output holds all of these: the form that the client's protocol knows.
    pub(crate) shows: Vec<String>,
    /// Reason and rule of every refusing line in the log; `None` where nothing comes before the gateway that it could refuse.
    pub(crate) log: Option<(&'static str, &'static str)>,
    /// Listeners that may be connected to (`ADDRESS:PORT`), but hear no byte: what is refused is what would be said there.
    pub(crate) touches: Vec<&'static str>,
    /// Listeners that may hear something: only what comes later, or beside it, is refused.
    pub(crate) talks: Vec<&'static str>,
    /// Bytes that must not leave the host, in whatever case.
    pub(crate) unseen: Option<&'static str>,
    /// Whether the control outside of the sandbox reaches somebody.
    pub(crate) control: bool,
    /// Milliseconds that the client itself needs before and after, for clients that cannot tell the time.
    pub(crate) own: f64,
}

impl Case {
    /// A case that must work.
    pub(crate) fn allowed(
        kind: &'static str,
        name: impl Into<String>,
        script: impl Into<String>,
        sees: &[&str],
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            needs: Vec::new(),
            script: script.into(),
            expect: Expect::Allowed(owned(sees)),
        }
    }

    /// A case that must be refused for this reason, by the rule that begins with this text (`""`: by none).
    pub(crate) fn refused(
        kind: &'static str,
        name: impl Into<String>,
        script: impl Into<String>,
        shows: &[&str],
        (reason, rule): (&'static str, &'static str),
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            needs: Vec::new(),
            script: script.into(),
            expect: Expect::Refused(Refusal {
                shows: owned(shows),
                log: Some((reason, rule)),
                touches: Vec::new(),
                talks: Vec::new(),
                unseen: None,
                control: true,
                own: 0.0,
            }),
        }
    }

    /// A case of which nothing is in the log: the kernel inside refuses, so that nothing reaches the gateway, or nothing was asked.
    pub(crate) fn refused_by_kernel(
        kind: &'static str,
        name: impl Into<String>,
        script: impl Into<String>,
        shows: &[&str],
    ) -> Self {
        let mut case = Self::refused(kind, name, script, shows, ("", ""));
        case.refusal(|refusal| refusal.log = None);
        case
    }

    /// Names a program that it needs.
    pub(crate) fn needs(mut self, program: &'static str) -> Self {
        self.needs.push(program);
        self
    }

    /// Allowed listeners that may be connected to although the case is refused.
    pub(crate) fn touches(mut self, listeners: &[&'static str]) -> Self {
        self.refusal(|refusal| refusal.touches.extend(listeners));
        self
    }

    /// Allowed listeners that may hear something although the case is refused.
    pub(crate) fn talks(mut self, listeners: &[&'static str]) -> Self {
        self.refusal(|refusal| refusal.talks.extend(listeners));
        self
    }

    /// Bytes that must not leave.
    pub(crate) fn unseen(mut self, label: &'static str) -> Self {
        self.refusal(|refusal| refusal.unseen = Some(label));
        self
    }

    /// Outside nobody would be reached either: the name or the form of the message does not exist there.
    pub(crate) fn without_control(mut self) -> Self {
        self.refusal(|refusal| refusal.control = false);
        self
    }

    /// The client's own time in milliseconds is not the refusal's.
    pub(crate) fn own_time(mut self, milliseconds: f64) -> Self {
        self.refusal(|refusal| refusal.own = milliseconds);
        self
    }

    /// Whether it must be refused.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.expect, Expect::Refused(_))
    }

    fn refusal(&mut self, change: impl FnOnce(&mut Refusal)) {
        match &mut self.expect {
            Expect::Refused(refusal) => change(refusal),
            Expect::Allowed(_) => panic!("{} is allowed", self.name),
        }
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Calls rcc-probe with these words.
pub(crate) fn probe(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("\"$PROBE\" {}", words.join(" "))
}

/// Calls curl(1) with these arguments as sh reads them; shows heads, bodies, code and time.
pub(crate) fn curl(arguments: &str) -> String {
    format!(
        "curl -sSk -D - --max-time 5 -w '\\nstatus %{{http_code}} version %{{http_version}} seconds %{{time_total}}\\n' {arguments}"
    )
}

/// Sends bytes over TCP and shows the answer; `\r`, `\n` and `\xNN` are read.
pub(crate) fn talk(host: &str, port: u16, text: &str) -> String {
    format!(
        "{} $WAIT",
        probe(&["tcp-talk", host, &port.to_string(), text])
    )
}

/// Bytes in the form that [`talk`] reads.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}
