//! What goes through a run's streams arrives whole and in order, and a stream that is closed is closed.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::idle;
use crate::scene::{RCC, Scene};
use rcc_testkit::world::HostCommand;
use rustix::pipe::{PipeFlags, pipe_with};

/// Bytes of one piece: every byte value, and no two pieces alike.
const PIECE: usize = 1 << 20;
/// Distance of the marks that number every part of every piece.
const MARK: usize = 4096;

/// One piece of a stream that is never twice the same.
struct Pieces {
    bytes: Vec<u8>,
    number: u64,
}

impl Pieces {
    fn new() -> Self {
        let mut state: u32 = 1;
        let bytes = (0..PIECE).map(|_| {
            // Numerical Recipes, "an even quicker generator"; the high byte is the best.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        Self {
            bytes: bytes.collect(),
            number: 0,
        }
    }

    fn next(&mut self) -> &[u8] {
        for part in self.bytes.chunks_exact_mut(MARK) {
            self.number += 1;
            part[..8].copy_from_slice(&self.number.to_le_bytes());
        }
        &self.bytes
    }
}

/// Sends so many pieces through a command that gives back what it reads, compares every byte, and gives the exit code.
#[track_caller]
fn through(command: HostCommand<'_>, pieces: usize) {
    let (stdin, to_command) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (from_command, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let running = command
        .stdin(stdin)
        .stdout(stdout)
        .timeout(Duration::from_secs(300))
        .spawn();
    let writer = std::thread::spawn(move || {
        let mut file = std::fs::File::from(to_command);
        let mut source = Pieces::new();
        // What stops it is told by what is missing at the other end.
        (0..pieces).try_for_each(|_| file.write_all(source.next()))
    });
    let mut file = std::fs::File::from(from_command);
    let mut expected = Pieces::new();
    let mut piece = vec![0; PIECE];
    for number in 0..pieces {
        file.read_exact(&mut piece)
            .unwrap_or_else(|error| panic!("piece {number}: {error}"));
        assert!(piece == expected.next(), "piece {number} is another");
    }
    assert_eq!(file.read(&mut piece).unwrap(), 0, "more than was sent");
    writer.join().unwrap().unwrap();
    let output = running.wait();
    output.assert_success();
    assert_eq!(output.stderr_text(), "");
}

/// A gibibyte in and out.
#[test]
fn a_gibibyte_goes_through_a_run() {
    let Some(scene) = Scene::new("streams_run") else {
        return;
    };
    through(scene.rcc(["run", "-n", "--", "cat"]), 1024);
}

/// `rcc exec` hands no descriptor in: all of it passes through rcc.
#[test]
fn binary_data_goes_through_exec() {
    let Some(scene) = Scene::new("streams_exec") else {
        return;
    };
    let run = idle(&scene, "streams");
    through(scene.rcc(["exec", "streams", "--", "cat"]), 64);
    scene.rcc(["kill", "streams"]).output().assert_success();
    run.wait().assert_code(137);
}

/// Through the terminal of the sandbox, which rcc relays, and the caller's.
#[test]
fn nothing_that_a_program_shows_on_a_terminal_is_lost() {
    let Some(scene) = Scene::new("streams_terminal") else {
        return;
    };
    let shown = scene
        .rcc(["run", "-n", "--", "seq", "1", "200000"])
        .timeout(Duration::from_secs(120))
        .spawn_terminal(24, 80)
        .wait();
    let expected: String = (1..=200_000)
        .map(|number| format!("{number}\r\n"))
        .collect();
    let text = shown.assert_success().stdout_text();
    assert!(
        text == expected,
        "{} of {} bytes",
        text.len(),
        expected.len()
    );
}

/// A reader that has seen enough ends the writer, by the same signal with rcc between them and without.
#[test]
fn a_reader_that_leaves_ends_the_writer() {
    let Some(scene) = Scene::new("streams_pipe") else {
        return;
    };
    let run = idle(&scene, "target");
    let script = "set -o pipefail; yes | head -n 1; echo $?; \"$0\" run -n -- yes | head -n 1; echo $?; \
        \"$0\" exec target -- yes | head -n 1; echo $?; \"$0\" run -n -- sh -c 'exec yes >&2' 2>&1 | head -n 1; echo $?";
    let output = scene.command("bash").args(["-c", script, RCC]).output();
    assert_eq!(
        output.assert_success().stdout_text(),
        "y\n141\n".repeat(4),
        "{output}"
    );
    assert_eq!(output.stderr_text(), "");
    scene.rcc(["kill", "target"]).output().assert_success();
    run.wait().assert_code(137);
}

/// A descriptor that the caller closed is /dev/null inside: nothing that rcc opens may take its number, and go in by it.
#[test]
fn closed_streams_are_empty_inside() {
    let Some(scene) = Scene::new("streams_closed") else {
        return;
    };
    let inside = "told=$(for number in 0 1 2; do stat -L -c %t:%T /proc/$$/fd/$number; done); echo \"$told\" >told; cat; echo lost; echo lost >&2; exit 6";
    let script = format!(
        "\"$0\" run -n -- sh -c \"$1\" <&- >&- 2>&-; echo $?; cat told; ({}) <&- 2>/dev/null; echo $?",
        // Without rcc the same is an error of `cat`: the positive control that `<&-` closes.
        "cat"
    );
    let output = scene
        .command("sh")
        .args(["-c", &script, RCC, inside])
        .output();
    let told = "6\n1:3\n1:3\n1:3\n1\n";
    assert_eq!(output.assert_success().stdout_text(), told, "{output}");
    let empty = scene
        .rcc(["run", "-n", "--", "cat"])
        .output()
        .assert_success()
        .stdout_text();
    assert_eq!(empty, "");
}

/// An end of input ends the reader inside and no earlier: the half that goes on is the other one.
#[test]
fn the_end_of_input_arrives_while_output_goes_on() {
    let Some(scene) = Scene::new("streams_half") else {
        return;
    };
    let (stdin, to_command): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let running = scene
        .rcc([
            "run",
            "-n",
            "--",
            "sh",
            "-c",
            "cat; echo end-of-input; seq 1 3",
        ])
        .stdin(stdin)
        .spawn();
    std::fs::File::from(to_command)
        .write_all(b"text\n")
        .unwrap();
    let output = running.wait();
    assert_eq!(
        output.assert_success().stdout_text(),
        "text\nend-of-input\n1\n2\n3\n"
    );
}
