//! Starts with little of everything that a process may have little of: each works whole, or says what is missing and leaves nothing.

use crate::program;
use crate::scene::Scene;
use rcc_testkit::world::{HostCommand, Output};
use rcc_testkit::{is_second_run, require_that};

/// `try LIMIT VALUE FLAGS…` prints one line: the exit code, what the agent said, and what rcc said, without line breaks.
const TOOLS: &str = r#"
    rcc=$0 runs=$HOME/.local/state/rcc/runs
    try() {
        local limit=$1 value=$2; shift 2
        (ulimit $limit $value || exit 98; exec "$rcc" "$@") >out 2>err; echo "$value: $? $(tr '\n' ' ' <out)|$(tr '\n' ' ' <err)"
    }
    agent="echo in; exit 7"
"#;

fn story(scene: &Scene, script: &str) -> HostCommand<'static> {
    let bash = scene.command("bash");
    bash.args(["-c", &format!("{TOOLS}{script}")])
        .arg(program())
}

/// The lines of a story as value, exit code, what the agent said and what rcc said.
#[track_caller]
fn lines(output: &Output) -> Vec<(u64, i32, String, String)> {
    let text = output.assert_success().stdout_text();
    let line = |line: &str| {
        let (value, rest) = line.split_once(": ").unwrap();
        let (code, rest) = rest.split_once(' ').unwrap();
        let (out, err) = rest.split_once('|').unwrap();
        let (value, code) = (value.parse().unwrap(), code.parse().unwrap());
        (value, code, out.trim().to_owned(), err.trim().to_owned())
    };
    text.lines().map(line).collect()
}

/// What is left in the records: the names of runs that have no end.
fn unfinished(scene: &Scene) -> Vec<String> {
    let runs = std::fs::read_dir(scene.home().join(".local/state/rcc/runs"));
    let runs = runs.into_iter().flatten().map(|run| run.unwrap().path());
    runs.filter(|run| !run.join("end.json").exists())
        .map(|run| run.display().to_string())
        .collect()
}

/// Below the floor nothing is tried, at the floor everything works: no number of descriptors lets a run go on without a part.
#[test]
fn with_few_descriptors_a_run_is_refused_or_whole() {
    let Some(scene) = Scene::new("limits_descriptors") else {
        return;
    };
    // With three the loader of a program that is linked dynamically cannot open a library.
    let output = story(
        &scene,
        r#"for n in {4..74}; do try -n $n run -n -- bash -c "$agent"; done"#,
    )
    .output();
    let mut works = None;
    for (n, code, out, err) in lines(&output) {
        match code {
            7 => {
                assert_eq!((out.as_str(), err.as_str()), ("in", ""), "{n}");
                works.get_or_insert(n);
            }
            _ => {
                assert_eq!((works, code, out.as_str()), (None, 125, ""), "{n}: {err}");
                let told = format!("RLIMIT_NOFILE is {n} with ");
                assert!(
                    err.contains(&told) && err.contains("ulimit -n"),
                    "{n}: {err}"
                );
            }
        }
    }
    let floor = works.expect("74 descriptors are enough");
    assert!((65..80).contains(&floor), "{floor}");
    // What takes the most.
    let output = story(
        &scene,
        &format!(
            r#"
            try -n {floor} run --network allowlist -p 127.0.0.1:48213:80 --cow -- bash -c "$agent"
            # Only the layers have changes; the guard begins after 50 ms.
            try -n {floor} run --network allowlist --stats -- bash -c "sleep 0.1; $agent"
            try -n {floor} run -d --name all --network allowlist -- bash -c 'until [ -e end ]; do sleep 0.01; done; exit 7'
            try -n {floor} exec all -- bash -c "$agent"
            touch end; "$rcc" wait all | sed 's/^/0: /; s/$/ in|/'
            "#
        ),
    )
    .output();
    let codes: Vec<i32> = lines(&output).iter().map(|line| line.1).collect();
    assert_eq!(codes, [7, 7, 0, 7, 7], "{output}");
    assert_eq!(unfinished(&scene), [""; 0]);
}

/// Every number of processes, from too few for anything to enough: each start works, or tells of the limit.
#[test]
fn with_few_processes_a_run_is_refused_or_whole() {
    let Some(scene) = Scene::new("limits_processes") else {
        return;
    };
    // The limit does not bind root, who runs this test again as another user.
    if scene.is_root() {
        assert!(!is_second_run());
        return;
    }
    let inner = format!(
        r#"{TOOLS}
        for n in {{2..12}}; do
            try -u $n run -n -- bash -c "$agent"
            try -u $n run --network allowlist -p 127.0.0.1:48214:80 -- bash -c "$agent"
        done"#
    );
    // A user namespace of its own counts this story's processes and nobody else's.
    let unshare = scene.command("unshare").args(["-r", "bash", "-c", &inner]);
    let output = unshare.arg(program()).output();
    let lines = lines(&output);
    for (n, code, out, err) in &lines {
        match code {
            7 => assert_eq!((out.as_str(), err.as_str()), ("in", ""), "{n}"),
            // What ended after the agent had begun ended the agent.
            _ => assert!(
                *code == 125 && err.contains("RLIMIT_NPROC is ") && err.contains("ulimit -u"),
                "{n}: {code} {out} {err}"
            ),
        }
    }
    let codes = |n: u64| {
        lines
            .iter()
            .filter(move |line| line.0 == n)
            .map(|line| line.1)
    };
    assert!(
        codes(2).all(|code| code == 125) && codes(12).all(|code| code == 7),
        "{output}"
    );
    assert_eq!(unfinished(&scene), [""; 0]);
}

/// Where rcc's own memory does not suffice it ends, and its sandbox with it: none is left half-built.
#[test]
fn with_little_memory_a_run_ends_as_a_whole() {
    let Some(scene) = Scene::new("limits_memory") else {
        return;
    };
    let output = story(
        &scene,
        r#"for n in {12..48..6} 96; do
            try -v $((n * 1024)) run -n -- "$BASH" -c "$agent"
            try -v $((n * 1024)) run --network allowlist -- "$BASH" -c "$agent"
        done"#,
    )
    .output();
    let lines = lines(&output);
    for (n, code, out, _) in &lines {
        assert!(
            *code != 0 && (*code != 7 || out == "in"),
            "{n}: {code} {out}"
        );
    }
    assert!(
        lines.iter().any(|line| line.1 == 7),
        "the control\n{output}"
    );
    assert!(
        lines.iter().any(|line| line.1 != 7),
        "nothing was short\n{output}"
    );
}

/// A file that may not grow fails: it does not end rcc by a signal, and the agent has the signal's default action.
#[test]
fn with_small_files_a_run_is_refused_or_whole() {
    let Some(scene) = Scene::new("limits_files") else {
        return;
    };
    let output = story(
        &scene,
        r#"
        # Told through a pipe, which may grow.
        for n in 0 1 2; do
            err=$( (ulimit -f $n; exec "$rcc" run -n -- touch ran) 2>&1 | tr '\n' ' '; exit ${PIPESTATUS[0]}); echo "$n: $? |$err"
        done
        try -f 64 run -n -- bash -c 'head -c 1M /dev/zero >large; echo $?; exit 7'
        piece=$(head -c 1024 /dev/zero | tr '\0' x)
        try -f 64 run -nd --name grown -- bash -c "for (( i = 0; i < 256; i++ )); do echo $piece; done; exit 7"
        "$rcc" wait grown | sed 's/^/0: /; s/$/ in|/'
        "$rcc" logs grown 2>err >out; echo "0: $(($(wc -c <out) > 0)) |$(cat err)"
        "#,
    )
    .output();
    let lines = lines(&output);
    let [refused @ .., killed, detached, waited, logged] = lines.as_slice() else {
        panic!("{output}");
    };
    for (n, code, out, err) in refused {
        assert_eq!((*code, out.as_str()), (125, ""), "{n}: {err}");
        assert!(err.contains("RLIMIT_FSIZE is"), "{n}: {err}");
    }
    // SIGXFSZ is 25.
    assert_eq!((killed.1, killed.2.as_str()), (7, "153"), "{output}");
    assert_eq!((detached.1, waited.1), (0, 7), "{output}");
    assert_eq!(logged.1, 1, "{output}");
    assert!(logged.3.contains("the recording ends here"), "{output}");
    assert_eq!(unfinished(&scene), [""; 0]);
}

#[test]
fn a_small_stack_and_a_umask_against_its_owner_are_refused_and_nothing_is_made() {
    let Some(scene) = Scene::new("limits_stack") else {
        return;
    };
    let output = story(
        &scene,
        r#"
        for n in 512 1000; do try -s $n run -n -- touch ran; done
        for mask in 0777 0277 0700 0400; do (umask $mask; exec "$rcc" run -n -- touch ran 2>&1 | head -n 1 | sed 's/^/0: 0 |/'); done
        ls -A "$HOME/.local" 2>/dev/null | sed 's/^/made: 0 |/'
        (umask 077; "$rcc" run -n -- bash -c umask | sed 's/^/77: 0 /; s/$/|/')
        (umask 0; "$rcc" run -n -- bash -c umask | sed 's/^/0: 0 /; s/$/|/')
        "#,
    )
    .output();
    let told: Vec<String> = lines(&output)
        .into_iter()
        .map(|line| format!("{} {} {} {}", line.0, line.1, line.2, line.3))
        .collect();
    let small = |n| {
        format!(
            "{n} 125  error: rcc needs a stack of 1024 KiB, and RLIMIT_STACK is {n} KiB hint: raise it for this shell: ulimit -s 8192"
        )
    };
    let mask = |mask| {
        format!("0 0  error: the umask {mask} takes your own rights on what rcc writes for you")
    };
    let expected = [
        small(512),
        small(1000),
        mask("0777"),
        mask("0277"),
        mask("0700"),
        mask("0400"),
        "77 0 0077 ".to_owned(),
        "0 0 0000 ".to_owned(),
    ];
    assert_eq!(told, expected, "{output}");
    assert!(!scene.project().join("ran").exists());
}

/// Each of the eight ways to start with closed streams: what rcc opens takes no stream's place.
#[test]
fn whichever_streams_are_closed_the_agent_has_its_own_or_nothing() {
    let Some(scene) = Scene::new("limits_streams") else {
        return;
    };
    let inside = "told=$(for n in 0 1 2; do stat -L -c %F /proc/$$/fd/$n; done); echo \"$told\" >told; exit 7";
    let script = r#"
        for closed in "" "<&-" ">&-" "2>&-" "<&- >&-" "<&- 2>&-" ">&- 2>&-" "<&- >&- 2>&-"; do
            for flags in "-n" "--network allowlist"; do
                eval '"$0" run $flags -- bash -c "$1" <input >output 2>errors' "$closed"
                echo "$?" $(cut -d" " -f1 told) "$closed" >&5
            done
        done 5>&1"#;
    scene.file("home/work/project/input", "");
    let output = scene.command("bash").args(["-c", script]);
    let output = output.arg(program()).arg(inside).output();
    let expected: String = [
        "regular regular regular ",
        "character regular regular <&-",
        "regular character regular >&-",
        "regular regular character 2>&-",
        "character character regular <&- >&-",
        "character regular character <&- 2>&-",
        "regular character character >&- 2>&-",
        "character character character <&- >&- 2>&-",
    ]
    .iter()
    .flat_map(|line| [format!("7 {line}\n"), format!("7 {line}\n")])
    .collect();
    assert_eq!(output.assert_success().stdout_text(), expected, "{output}");
}

/// The controller of processes refuses as the limit does, and binds root.
#[test]
fn with_few_processes_in_its_control_group_a_run_is_refused_or_whole() {
    let Some(scene) = Scene::new("limits_group") else {
        return;
    };
    let group = std::path::Path::new("/sys/fs/cgroup/pids")
        .join(format!("rcc-robust-{}", std::process::id()));
    if is_second_run() || !require_that("limits-v1", std::fs::create_dir(&group).is_ok()) {
        return;
    }
    let output = story(
        &scene,
        &format!(
            r#"
            group={}
            for n in {{1..14}}; do
                echo $n >"$group/pids.max"
                (read -r self _ </proc/self/stat; echo $BASHPID >"$group/cgroup.procs"; exec "$rcc" run -n -- bash -c "$agent") >out 2>err
                echo "$n: $? $(tr '\n' ' ' <out)|$(tr '\n' ' ' <err)"
            done"#,
            group.display()
        ),
    )
    .output();
    std::fs::remove_dir(&group).expect("nobody is left in the group");
    let lines = lines(&output);
    for (n, code, out, err) in &lines {
        match code {
            7 => assert_eq!((out.as_str(), err.as_str()), ("in", ""), "{n}"),
            _ => assert!(
                *code == 125 && err.contains("pids.max"),
                "{n}: {code} {out} {err}"
            ),
        }
    }
    let ends = lines
        .first()
        .zip(lines.last())
        .map(|(first, last)| (first.1, last.1));
    assert_eq!(ends, Some((125, 7)), "{output}");
    assert_eq!(unfinished(&scene), [""; 0]);
}
