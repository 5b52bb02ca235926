//! A state or runtime directory that is full, read-only or removed, before a run and while it lasts.
//!
//! Each story is one shell script in a mount namespace of its own, with small file systems in memory where rcc keeps things. It
//! waits for the agent, and the agent for it, at the agent's standard streams, which are two FIFOs.

use crate::program;
use crate::scene::Scene;
use rcc_testkit::require;
use rcc_testkit::world::Output;

/// What every story begins with. `start FLAGS…` starts a run whose agent has begun when it returns, `finish` lets it end with code 7
/// and tells how rcc ended; `fill FILE` takes all room, to the last byte.
const TOOLS: &str = r#"
    rcc=$0 state=$HOME/.local/state
    mkdir -p "$state" && mount -t tmpfs -o mode=700,size=256k none "$state" && mkfifo up go || exit 99
    inside='echo up; read -r word; echo "$word"; exit 7'
    start() { "$rcc" run "$@" -- bash -c "$inside" <go >up 2>err & pid=$!; exec 4>go 3<up; read -r _ <&3; at_the_desk; }
    at_the_desk() { until [ -S "$state"/rcc/runs/*/desk ]; do :; done; }
    finish() { echo word >&4; ended; }
    ended() { exec 4>&-; cat <&3; wait $pid; echo "code $?"; grep -v refused err | sed 's/^/said: /'; }
    fill() { cat /dev/zero >"$1" 2>/dev/null; [ -s "$1" ]; }
    told() { "$rcc" ps --all --json | sed 's/.*"exit_code":\([^,]*\),.*"state":"\([a-z]*\)".*/told \2 \1/'; }
    forget() { rm -rf "$state"/*; }
"#;

/// Runs a story as root of a user namespace; none where there is no `unshare`.
fn story(name: &str, script: &str) -> Option<(Scene, Output)> {
    if !require("unshare") {
        return None;
    }
    let scene = Scene::new(name)?;
    let script = format!("{TOOLS}{script}");
    let output = scene
        .command("unshare")
        .args(["-rm", "bash", "-c", &script])
        .arg(program())
        .output();
    Some((scene, output))
}

/// Compares what a story printed, line by line; a line that ends with `…` is the beginning of one.
#[track_caller]
fn assert_told(output: &Output, expected: &[&str]) {
    let text = output.assert_success().stdout_text();
    let lines: Vec<&str> = text.lines().collect();
    let fits = |(line, expected): (&&str, &&str)| match expected.strip_suffix('…') {
        Some(start) => line.starts_with(start),
        None => line == expected,
    };
    let all_fit = lines.iter().zip(expected).all(fits);
    assert!(
        lines.len() == expected.len() && all_fit,
        "expected {expected:#?}\n{output}"
    );
}

/// A run whose end could not be recorded is not started; every run that is started has its end in its record, whoever took the
/// rest of the disk.
#[test]
fn a_full_state_directory_refuses_a_run_or_has_its_end() {
    let Some((_, output)) = story(
        "disk_full",
        r#"
        echo positive control; start -n; finish; told; forget

        echo full before
        fill "$state/filler"
        "$rcc" run -n -- touch ran 2>err; echo "code $?"; sed 's/^/said: /' err
        ls "$state/rcc/runs"; [ -e ran ] && echo it ran

        echo room again
        rm "$state/filler"; start -n; finish; told; forget

        for flags in -n "--network allowlist" "-n --cow"; do
            echo "filled during $flags"
            start $flags; fill "$state/filler"; "$rcc" ps --quiet | wc -l; finish; told; forget
        done

        echo refusals that cannot be logged
        orderly=$inside inside='echo up; read -r word; exec 2>/dev/null; exec 3<>/dev/tcp/203.0.113.10/80 && echo x >&3 && cat <&3; exit 7'
        start --network allowlist; fill "$state/filler"; finish; told; forget
        inside=$orderly

        echo room given back before the end
        start -n; fill "$state/filler"; rm "$state/filler"; finish; told; forget

        echo stopped while it is full
        start -n; fill "$state/filler"; "$rcc" kill "$("$rcc" ps -q)"; echo "kill $?"; ended; told; forget
        "#,
    ) else {
        return;
    };
    assert_told(
        &output,
        &[
            "positive control",
            "word",
            "code 7",
            "told ended 7",
            "full before",
            "code 125",
            "said: error: cannot make the record of the run in…",
            "said:   caused by: No space left on device (ENOSPC)",
            "said: hint: the disk is full: free space on the file system named above",
            "room again",
            "word",
            "code 7",
            "told ended 7",
            "filled during -n",
            "1",
            "word",
            "code 7",
            "told ended 7",
            "filled during --network allowlist",
            "1",
            "word",
            "code 7",
            "told ended 7",
            "filled during -n --cow",
            "1",
            "word",
            "code 7",
            "told ended 7",
            "refusals that cannot be logged",
            "code 7",
            "said: warning: the audit log lacks 1 line of this run: No space left on device (ENOSPC)",
            "told ended 7",
            "room given back before the end",
            "word",
            "code 7",
            "told ended 7",
            "stopped while it is full",
            "kill 0",
            "code 137",
            "told ended 137",
        ],
    );
}

/// The output of a detached run that cannot be recorded any more is cut after a whole piece, and everybody who asks is told.
#[test]
fn a_recording_that_is_given_up_says_so() {
    let Some((_, output)) = story(
        "disk_recording",
        r#"
        # 128 KiB in pieces: the recording finds no room for them.
        piece=$(head -c 1024 /dev/zero | tr '\0' x)
        inside="echo first; read -r word <go; for (( i = 0; i < 128; i++ )); do echo $piece; done; exit 7"
        follow() { "$rcc" logs -f big 2>err | { read -r line; echo "$line"; echo >going; cat >rest; }; sed 's/^/said: /' err; }
        mkfifo going

        echo positive control
        "$rcc" run -nd --name big -- bash -c "$inside" >id; follow & read -r _ <going; echo >go
        "$rcc" wait big >code; wait; cat code; told; "$rcc" logs big | wc -c; forget

        echo full before
        fill "$state/filler"; "$rcc" run -nd -- bash -c "$inside"; echo "code $?"; ls -A "$state/rcc/runs"; forget

        echo filled during
        "$rcc" run -nd --name big -- bash -c "$inside" >id; follow & read -r _ <going
        fill "$state/filler"; echo >go
        "$rcc" wait big >code; wait; cat code; told; cat "$state"/rcc/runs/*/supervisor.log; forget
        "#,
    ) else {
        return;
    };
    assert_told(
        &output,
        &[
            "positive control",
            "first",
            "7",
            "told ended 7",
            "131206",
            "full before",
            "code 125",
            "filled during",
            "first",
            "said: warning: the recording ends here: the rest could not be written, as on a full disk",
            "7",
            "told ended 7",
            "warning: what the agent writes is not recorded any more: No space left on device (ENOSPC)",
        ],
    );
}

/// A directory that cannot be written to, or is gone, costs the record of the run's end and nothing else.
#[test]
fn a_state_directory_that_is_read_only_or_removed_costs_the_end_alone() {
    let Some((_, output)) = story(
        "disk_read_only",
        r#"
        read_only() { mount -o "remount,bind,$1" "$state" || echo "cannot make it $1"; }

        echo read-only before
        read_only ro; "$rcc" run -n -- touch ran 2>err; echo "code $?"; sed 's/^/said: /' err; [ -e ran ] && echo it ran; read_only rw

        # The kernel keeps a file system writable on which something is open for writing: the lock of the agent home.
        echo read-only during
        start -n; read_only ro 2>/dev/null; finish; told; forget

        echo removed during
        start --network allowlist; rm -rf "$state"/rcc; finish; told
        start -n; finish; told; forget
        start -n --cow; rm -rf "$state"/rcc; finish; told

        echo removed during, detached
        inside='read -r word <go; echo "$word"; exit 7'
        "$rcc" run -nd --name x -- bash -c "$inside" >id; pid=$("$rcc" ps --json | sed 's/.*"supervisor_pid":\([0-9]*\).*/\1/')
        rm -rf "$state"/rcc; echo >go
        while grep -q '^State:[[:space:]]*[RSDT]' /proc/$pid/status 2>/dev/null; do :; done; "$rcc" ps -a
        "#,
    ) else {
        return;
    };
    assert_told(
        &output,
        &[
            "read-only before",
            "code 125",
            "said: error: cannot keep the agent home for this run",
            "said:   caused by: cannot open the directory of the agent homes",
            "said:   caused by: cannot open the directory …",
            "said:   caused by: Read-only file system (EROFS)",
            "said: hint: that file system is mounted read-only; let XDG_STATE_HOME name a directory on one that is not",
            "read-only during",
            "cannot make it ro",
            "word",
            "code 7",
            "told ended 7",
            "removed during",
            "word",
            "code 7",
            "said: warning: the record of this run was removed while it lasted, with all that it kept: …",
            "word",
            "code 7",
            "told ended 7",
            "word",
            "code 7",
            "said: warning: the record of this run was removed while it lasted, with all that it kept: …",
            "removed during, detached",
        ],
    );
}

/// Where the control socket finds no place in the runtime directory it is in the record; removed, the run goes on as it is.
#[test]
fn a_runtime_directory_that_is_full_read_only_or_removed_changes_nothing() {
    let Some((_, output)) = story(
        "disk_runtime",
        r#"
        export XDG_RUNTIME_DIR=$HOME/runtime; mkdir "$XDG_RUNTIME_DIR"
        runtime() { mount -t tmpfs -o "mode=700,size=64k,$1" none "$XDG_RUNTIME_DIR"; mkdir -m 700 "$XDG_RUNTIME_DIR/rcc"; }
        rules() { "$rcc" net rules 2>&1 | grep -o -e 'allow example.com' -e 'its control socket was removed'; find "$XDG_RUNTIME_DIR" -name control | wc -l; }
        story() { start --network allowlist --allow example.com; eval "$1"; rules; finish; told; umount "$XDG_RUNTIME_DIR" 2>/dev/null; forget; }

        echo positive control; runtime nr_inodes=50; story :
        echo full; runtime nr_inodes=50; fill "$XDG_RUNTIME_DIR/filler"; story :
        echo no inode; runtime nr_inodes=2; story :
        echo read-only; runtime nr_inodes=50; mount -o remount,bind,ro "$XDG_RUNTIME_DIR"; story :
        echo missing; runtime nr_inodes=50; umount "$XDG_RUNTIME_DIR"; rmdir "$XDG_RUNTIME_DIR"; story :
        mkdir -p "$XDG_RUNTIME_DIR"; echo removed during; runtime nr_inodes=50; story 'rm -r "$XDG_RUNTIME_DIR/rcc"'
        echo read-only during; runtime nr_inodes=50; story 'mount -o remount,bind,ro "$XDG_RUNTIME_DIR"'
        "#,
    ) else {
        return;
    };
    assert_told(
        &output,
        &[
            "positive control",
            "allow example.com",
            "1",
            "word",
            "code 7",
            "told ended 7",
            "full",
            "allow example.com",
            "1",
            "word",
            "code 7",
            "told ended 7",
            "no inode",
            "allow example.com",
            "0",
            "word",
            "code 7",
            "told ended 7",
            "read-only",
            "allow example.com",
            "0",
            "word",
            "code 7",
            "told ended 7",
            "missing",
            "allow example.com",
            "1",
            "word",
            "code 7",
            "told ended 7",
            "removed during",
            "its control socket was removed",
            "0",
            "word",
            "code 7",
            "told ended 7",
            "read-only during",
            "allow example.com",
            "1",
            "word",
            "code 7",
            "told ended 7",
        ],
    );
}
