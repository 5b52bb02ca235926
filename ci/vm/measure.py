#!/usr/bin/env python3
"""measure.py RCC: what limits cost and spare a machine, in tables. For the machine of ci/vm.sh:

    ci/vm.sh -- python3 ci/vm/measure.py target/debug/rcc

First memory: the limit, what `rcc stats` tells, what the group of the run says, what the machine lost. Then a neighbour: a
program outside, which wakes up every ten milliseconds as a desktop's does, beside hogs with and without limits. The numbers
are for reading; the exit code says whether every limit that was reached was named.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

RCC = os.path.abspath(sys.argv[1])
MIB = 1 << 20
SECONDS = 5.0
failures = []


def rcc(*flags, **kwargs):
    return subprocess.Popen([RCC, "run", "-n", *flags], start_new_session=True, **kwargs)


def available():
    with open("/proc/meminfo") as info:
        return int(next(line for line in info if line.startswith("MemAvailable:")).split()[1]) * 1024


def group_of(run):
    """The directory of a run's control group."""
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            if run in name:
                return os.path.join(directory, name)
    return None


def stats():
    """Of the only run under way, if it is by now."""
    told = subprocess.run([RCC, "stats", "--json"], capture_output=True, check=True).stdout
    return json.loads(told) if told else None


def now():
    """Of the only run under way: the answer of `rcc stats`, the bytes of its group, its limit."""
    told = stats()
    with open(group_of(told["id"]) + "/memory.current") as current:
        return told["memory_bytes"], int(current.read()), told["memory_limit_bytes"]


def reached():
    """What the limits of the only run under way did."""
    told = stats()
    return told and (told["memory_kills"] or told["pids_refused"])


def must_say(what, words, said):
    if words not in said:
        failures.append(f"{what}: `{words}` is not in: {said}")


def memory():
    print("| case | limit | `rcc stats` | its group | machine's free memory, less |")
    print("|---|---:|---:|---:|---:|")
    taking = """import mmap, sys
block = None
for line in sys.stdin:
    if block: block.close(); block = None
    size = int(line)
    if size: block = mmap.mmap(-1, size << 20); block.write(bytes([1]) * (size << 20))
    print(size, flush=True)"""
    # The child dies, its parent goes on and says so.
    hog = """import subprocess, sys
for line in sys.stdin:
    if int(line): subprocess.run([sys.executable, '-c', 'x = bytearray(1 << 30)'])
    print(int(line), flush=True)"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    cases = (
        (taking, "1GiB", ((0, "idle"), (500, "has taken 500 MiB"), (0, "has given it back"))),
        (hog, "256MiB", ((0, "before"), (1, "its child wanted 1 GiB and was killed"))),
    )
    for program, limit, steps in cases:
        before = available()
        run = rcc("--memory", limit, "--", "python3", "-c", program, **pipes)
        for size, name in steps:
            run.stdin.write(f"{size}\n")
            run.stdin.flush()
            run.stdout.readline()
            # The machine counts what was given back a moment later.
            time.sleep(2)
            told, group, most = now()
            lost = before - available()
            print(f"| {name} | {most // MIB} MiB | {told // MIB} MiB | {group // MIB} MiB | {lost // MIB} MiB |", flush=True)
        said = run.communicate()[1]
        if program == hog:
            must_say("memory", f"the run reached its memory limit of {limit}: python3 was killed", said)
            print("\n```text\n" + said.strip() + "\n```")


def wake_ups():
    """Median, 99th per cent and longest delay of a timer of ten milliseconds, in milliseconds."""
    late, end = [], time.monotonic() + SECONDS
    while (start := time.monotonic()) < end:
        time.sleep(0.01)
        late.append(time.monotonic() - start - 0.01)
        sum(range(2000))
    late.sort()
    return [1000 * late[int(share * (len(late) - 1))] for share in (0.5, 0.99, 1)]


BURNER = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
EATER = """import subprocess, sys
while True: subprocess.run([sys.executable, '-c', 'x = bytearray(800 << 20)'])"""
BOMB = """import os
while True:
    try: os.fork()
    except OSError: pass"""
WRITER = """import mmap, os
block = mmap.mmap(-1, 1 << 20)
file = os.open('hog', os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600)
while True:
    for _ in range(256): os.write(file, block)
    os.lseek(file, 0, 0)"""


def neighbour():
    print("\n| beside | median | 99 % | longest |")
    print("|---|---:|---:|---:|")
    row("nothing", None)
    row("8 burners of the processor, outside", BURNER)
    row("the same in a run without a limit", BURNER, [])
    row("the same with `--cpu-weight 20`", BURNER, ["--cpu-weight", "20"])
    row("the same with `--cpus 0.5`", BURNER, ["--cpus", "0.5"])
    row("programs that take 800 MiB, outside", EATER)
    named = "the run reached its memory limit of 256MiB: "
    row("the same with `--memory 256MiB`", EATER, ["--memory", "256MiB"], named)
    refused = "the limit of 60 processes was reached"
    row("a fork bomb with `--pids 60`", BOMB, ["--pids", "60"], refused)
    row("the same with `--cpu-weight 20`, too", BOMB, ["--pids", "60", "--cpu-weight", "20"], refused)
    row("the same with `--cpus 0.5`, too", BOMB, ["--pids", "60", "--cpus", "0.5"], refused)
    row("a writer past the caches, outside", WRITER)
    row("the same in a run without a limit", WRITER, [])
    if subprocess.run([RCC, "plan", "-n", "--io-write", "1MiB", "--", "true"], capture_output=True).returncode == 0:
        row("the same with `--io-write 1MiB`", WRITER, ["--io-write", "1MiB"])


def row(name, hog, flags=None, named=None):
    """Measures beside a hog: outside when there are no flags, else in a run, which is ended as a user would."""
    process = None
    if hog:
        command = ["python3", "-c", hog]
        options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        if flags is None:
            process = subprocess.Popen(command, start_new_session=True, **options)
        else:
            process = rcc(*flags, "--", *command, **options)
        # A slow machine starts it, and reaches the limit, later.
        while flags is not None and not (reached() if named else stats()):
            time.sleep(0.5)
        time.sleep(3)
    median, most, longest = wake_ups()
    print(f"| {name} | {median:.1f} ms | {most:.1f} ms | {longest:.1f} ms |", flush=True)
    if process:
        if flags is None:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.terminate()
        said = process.communicate()[1]
        if named:
            must_say(name, named, said)


# /tmp may be in memory.
with tempfile.TemporaryDirectory(dir=os.path.expanduser("~")) as place:
    os.chdir(place)
    os.mkdir("home")
    os.environ["HOME"] = place + "/home"
    os.mkdir("project")
    os.chdir("project")
    memory()
    neighbour()
for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(bool(failures))
