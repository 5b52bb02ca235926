//! Many runs at once, and many one after the other: each does its work, and nothing of them is left.
//!
//! A part of it in every test run; `RCC_SOAK=full` makes it 200 at once and 10,000 cycles, and prints what was measured.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rcc_testkit::world::World;

const RCC: &str = env!("CARGO_BIN_EXE_rcc");

/// Starts `$1` runs at once, lets them wait for each other, and tells how long that took and what they hold then.
const AT_ONCE: &str = r#"
inside='exec 4<>/dev/tcp/allowed.example/7 && echo "run $1" >&4 && read -r word <&4 && head -c 100000 /dev/zero | tr "\0" x > data-$1 &&
        echo "$word" > up-$1 && until [ -e go ]; do sleep 0.2; done'
begun=$(date +%s%N)
for number in $(seq $1); do
    "$2" run --network allowlist --allow allowed.example:7 -- bash -c "$inside" inside $number 2> said-$number &
done
while up=$(ls | grep -c '^up-'); [ "$up" != $1 ]; do
    [ "$(jobs -r | wc -l)" = $1 ] || { cat said-*; exit 1; }
    sleep 0.1
done
echo "started in $(( ($(date +%s%N) - begun) / 1000000 )) ms"
cat $(grep -l '^rcc' /proc/[0-9]*/comm | sed 's/comm/smaps_rollup/') 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print "PSS", sum, "KiB" }'
: > go
failed=0
for job in $(jobs -p); do wait $job || failed=$((failed + 1)); done
echo "failed $failed"
"#;

/// One number of the full size, and one for every day.
fn size(full: usize, usual: usize) -> usize {
    match std::env::var("RCC_SOAK") {
        Ok(value) if value == "full" => full,
        _ => usual,
    }
}

/// One of these tests at a time: they count.
static ALONE: Mutex<()> = Mutex::new(());

/// What could be left behind, counted. The groups are those of this project's runs; `objects-of` are the kernel's own, which
/// only root may see and which it frees late. Of a slab that a processor keeps for itself the kernel counts all objects as used,
/// dozens of each kind, so such slabs are given back first (`shrink`, Documentation/ABI/testing/sysfs-kernel-slab).
fn held(world: &World, project: &Path) -> BTreeMap<String, usize> {
    let script = r#"
        echo "mounts $(wc -l < /proc/self/mounts)"
        echo "links $(ip -o link | wc -l)"
        echo "groups $(find /sys/fs/cgroup -type d -name "rcc-run-$1-*" | wc -l)"
        echo "files $(find "$HOME" "${XDG_RUNTIME_DIR:-/nowhere}" -path '*/rcc/runs/*' -prune -o -print 2>/dev/null | wc -l)"
        for cache in net_namespace pid_namespace user_namespace mnt_cache; do
            { echo 1 > /sys/kernel/slab/$cache/shrink; } 2>/dev/null
            awk -v cache=$cache '$1 == cache { print "objects-of-" $1, $2 }' /proc/slabinfo 2>/dev/null
        done
        true"#;
    let name = project.file_name().unwrap().to_str().unwrap();
    let count = world.host_command("sh").args(["-c", script, "sh", name]);
    let output = count.output();
    let text = output.assert_success().stdout_text();
    let mut counts: BTreeMap<String, usize> = text
        .lines()
        .map(|line| {
            let (name, count) = line.split_once(' ').unwrap();
            (name.to_owned(), count.parse().unwrap())
        })
        .collect();
    counts.insert("processes".to_owned(), world.processes().len());
    counts
}

#[test]
fn many_runs_at_once_all_do_their_work_and_leave_nothing() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let _alone = ALONE.lock().unwrap();
    let project = world.scratch_directory(format!("soak{}", std::process::id()));
    // The first run makes what stays: homes and the directory of records.
    let warm = world.host_command(RCC).args(["run", "-n", "--", "true"]);
    warm.current_dir(&project).output().assert_success();
    let before = held(&world, &project);
    let count = size(200, 24);
    let runs = world
        .host_command("bash")
        .args(["-c", AT_ONCE, "bash", &count.to_string(), RCC])
        .current_dir(&project)
        .timeout(Duration::from_secs(600))
        .output();
    let text = runs.assert_success().stdout_text();
    assert!(text.ends_with("failed 0\n"), "{runs}");
    println!("{count} runs at once: {}", text.replace('\n', ", "));
    for number in 1..=count {
        let read = |name: &str| std::fs::read(project.join(format!("{name}-{number}"))).unwrap();
        assert_eq!(read("up"), format!("run {number}\n").as_bytes());
        assert!(read("data") == vec![b'x'; 100_000], "run {number}");
    }
    assert!(runs.survivors.is_empty(), "{:?}", runs.survivors);
    for (what, count) in held(&world, &project) {
        if !what.starts_with("objects-of-") {
            assert_eq!(count, before[&what], "{what}");
        }
    }
}

/// Starts and ends runs one after the other.
fn cycles(world: &World, project: &Path, count: usize) {
    let script = r#"for n in $(seq $1); do "$2" run --network allowlist -- true || exit 1; done"#;
    world
        .host_command("bash")
        .args(["-c", script, "bash", &count.to_string(), RCC])
        .current_dir(project)
        .timeout(Duration::from_secs(3000))
        .output()
        .assert_success();
}

#[test]
fn starts_and_ends_leak_nothing() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let _alone = ALONE.lock().unwrap();
    let project = world.scratch_directory(format!("soak{}", std::process::id()));
    let count = size(10_000, 60);
    cycles(&world, &project, 5);
    let before = held(&world, &project);
    let begun = Instant::now();
    cycles(&world, &project, count);
    let elapsed = begun.elapsed();
    // A leak of one in two would show. What the kernel frees late is waited for.
    let most = |what: &str| match what.starts_with("objects-of-") {
        true => before[what] + count / 2,
        false => before[what],
    };
    let end = Instant::now() + Duration::from_secs(60);
    let mut after = held(&world, &project);
    while after.iter().any(|(what, count)| *count > most(what)) {
        assert!(Instant::now() < end, "{before:?}, then {after:?}");
        std::thread::sleep(Duration::from_millis(200));
        after = held(&world, &project);
    }
    println!(
        "{count} cycles in {elapsed:.1?}: before {before:?}, after {after:?}, {:.1?} later",
        begun.elapsed().saturating_sub(elapsed)
    );
    // The records that are kept are the newest.
    let records = world.home().join(".local/state/rcc/runs");
    let kept = std::fs::read_dir(records).unwrap().count();
    assert!((50..=60).contains(&kept), "{kept} records");
}
