//! New connections and DNS answers: time until a server's first byte, connections per second, time of a cached answer.
//!
//! The client is this program again, started behind each way to the server. Connections come one after the other and are
//! ended by a reset, so that no port waits.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Setting,
    measure::{Better, Sample, table},
    world::{self, NAME, Peers, SERVER, along, printed},
};

/// The words by which the bench starts itself as a client.
pub(crate) const CLIENT: &str = "bench-client";
/// Connections of one measurement.
const CONNECTIONS: usize = 2000;
/// Threads that connect at the same time when the rate is measured.
const THREADS: usize = 4;
/// Questions of one measurement.
const QUESTIONS: usize = 2000;
/// rcc's resolver as the sandbox sees it.
const RESOLVER: &str = "198.18.0.1:53";
/// Added time of a connection, in microseconds: the bar of the design.
const BAR_ADDED_US: f64 = 100.0;
/// Connections per second: the bar of the design.
const BAR_RATE: f64 = 5000.0;
/// Time of a cached DNS answer, in microseconds: the bar of the design.
const BAR_DNS_US: f64 = 200.0;
/// A measurement takes a while: more rounds than this say nothing new.
const MOST_ROUNDS: usize = 7;

pub(super) fn run(setting: &Setting) -> Result<()> {
    world::enter(setting, "connections", MOST_ROUNDS)
}

/// The measuring part, in the world.
pub(super) fn inside(setting: &Setting, peers: &Peers) -> Result<()> {
    let server = TcpListener::bind((SERVER, 0)).context("cannot start the server")?;
    let address = server.local_addr().context("the server has no address")?;
    std::thread::spawn(move || greet(&server));
    let own = std::env::current_exe().context("cannot find this program")?;
    let own = own.to_str().context("this program's path is not UTF-8")?;
    let target = address.to_string();
    let ways = peers.ways(setting, &[&target]);
    let (mut times, mut rates) = (vec![Vec::new(); ways.len()], vec![Vec::new(); ways.len()]);
    for round in 0..=setting.rounds {
        for (place, (name, way)) in ways.iter().enumerate() {
            let text = printed(&mut along(way, &[own, CLIENT, "connect", &target]))
                .with_context(|| (*name).to_owned())?;
            let [time, rate] = numbers(&text)?;
            // The first round warms up.
            if round > 0 {
                times[place].push(time);
                rates[place].push(rate);
            }
        }
    }
    let samples = |values: Vec<Vec<f64>>| -> Vec<Sample> {
        let names = ways.iter().map(|(name, _)| *name);
        names
            .zip(values)
            .map(|(name, values)| Sample::new(name, values))
            .collect()
    };
    let (times, rates) = (samples(times), samples(rates));
    table(
        "Time to a new connection's first byte (median of one run)",
        "us",
        Better::Lower,
        &times,
        &[],
    );
    let added = median(&times, 0) - median(&times, 1);
    verdict(
        &format!("added to host loopback: {added:.0} us of {BAR_ADDED_US:.0}"),
        added <= BAR_ADDED_US,
    );
    table(
        &format!("New connections, {THREADS} at a time"),
        "1/s",
        Better::Higher,
        &rates,
        &[],
    );
    let rate = median(&rates, 0);
    verdict(
        &format!("{rate:.0} of {BAR_RATE:.0} per second"),
        rate >= BAR_RATE,
    );

    let way = peers.ways(setting, &[NAME]).swap_remove(0).1;
    let mut answers = Vec::new();
    for _ in 0..setting.rounds {
        let [time, _] = numbers(&printed(&mut along(&way, &[own, CLIENT, "ask", NAME]))?)?;
        answers.push(time);
    }
    let answers = [Sample::new("rcc run, allowlist", answers)];
    table(
        "DNS answer, cached (median of one run)",
        "us",
        Better::Lower,
        &answers,
        &[],
    );
    let time = median(&answers, 0);
    verdict(
        &format!("{time:.0} us of {BAR_DNS_US:.0}"),
        time <= BAR_DNS_US,
    );
    Ok(())
}

fn median(samples: &[Sample], place: usize) -> f64 {
    samples.get(place).map_or(f64::NAN, Sample::median)
}

fn verdict(text: &str, met: bool) {
    println!("bar: {text}: {}", if met { "met" } else { "MISSED" });
}

fn numbers(text: &[u8]) -> Result<[f64; 2]> {
    let text = std::str::from_utf8(text).context("odd output")?;
    let words: Vec<f64> = text
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("odd output: {text}"))?;
    words
        .try_into()
        .map_err(|_| anyhow::anyhow!("odd output: {text}"))
}

/// Says one byte to everyone and waits for the end.
fn greet(server: &TcpListener) {
    for stream in server.incoming().flatten() {
        std::thread::spawn(move || {
            let mut stream = stream;
            // A client that is gone already is no failure of the bench: it would notice itself.
            let _ = stream.write_all(b"x").and_then(|()| stream.read(&mut [0]));
        });
    }
}

/// The client: prints median microseconds and events per second. Arguments: `connect ADDRESS` or `ask NAME`.
pub(crate) fn client(arguments: &[String]) -> Result<ExitCode> {
    let (time, rate) = match arguments {
        [word, address] if word == "connect" => {
            let address: SocketAddr = address.parse()?;
            let time = middle(connect_often(address, CONNECTIONS)?);
            let started = Instant::now();
            let threads: Vec<_> = (0..THREADS)
                .map(|_| std::thread::spawn(move || connect_often(address, CONNECTIONS / THREADS)))
                .collect();
            for thread in threads {
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            let all = u32::try_from(CONNECTIONS / THREADS * THREADS)?;
            (time, f64::from(all) / started.elapsed().as_secs_f64())
        }
        [word, name] if word == "ask" => {
            let times = ask_often(name)?;
            let total: f64 = times.iter().sum();
            (
                middle(times),
                f64::from(u32::try_from(QUESTIONS)?) / total * 1e6,
            )
        }
        _ => bail!("{CLIENT} is started by the bench itself"),
    };
    println!("{time} {rate}");
    Ok(ExitCode::SUCCESS)
}

fn middle(values: Vec<f64>) -> f64 {
    Sample::new("", values).median()
}

fn connect_often(address: SocketAddr, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        let mut stream = TcpStream::connect(address).context("cannot connect")?;
        stream.read_exact(&mut [0]).context("no first byte")?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
            .context("cannot ask for a reset")?;
    }
    Ok(times)
}

/// Asks for the address of a name (RFC 1035 section 4.1), the same question again and again.
fn ask_often(name: &str) -> Result<Vec<f64>> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .context("cannot set a timeout")?;
    socket
        .connect(RESOLVER)
        .context("cannot reach the resolver")?;
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let mut times = Vec::with_capacity(QUESTIONS);
    let mut answer = [0; 512];
    for _ in 0..=QUESTIONS {
        let started = Instant::now();
        socket.send(&question).context("cannot ask")?;
        let length = socket.recv(&mut answer).context("no answer")?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
        // One answer record, no error.
        if length < 12 || answer[3] & 15 != 0 || answer[7] != 1 {
            bail!("the name was not answered");
        }
    }
    // The first one filled the cache.
    Ok(times.split_off(1))
}
