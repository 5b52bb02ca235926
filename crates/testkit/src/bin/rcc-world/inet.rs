//! The inet side of a world: waits for its link, then starts every server and says `ready`.
//!
//! Must answer on every address of the world, and must not know which of them a sandbox should refuse.

use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rcc_testkit::world::addresses::{
    ALLOWED_V4, ALLOWED_V6, COUNT_PORT, DENIED_V4, DENIED_V6, DISCARD_PORT, ECHO_PORT, HALF_PORT,
    HTTP_ALT_PORT, HTTP_PORT, HTTPS_ALT_PORT, HTTPS_PORT, MANY_PORT, METADATA_V4, NTP_PORT,
    RESET_PORT, SOURCE_PORT, STRANGE_RESOLVER_V4,
};
use rcc_testkit::world::wire::{Answer, Question};

use crate::counters::Counters;
use crate::http::Server;
use crate::sockets::{Listeners, serve_tcp, serve_udp};
use crate::tls::Authority;
use crate::wiretap::Wiretap;
use crate::{Failure, control, network, services, strange_dns, streams};

pub(crate) fn run(directory: &Path) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    stdout.write_all(b"namespace\n")?;
    stdout.flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    let setup = services::read_setup(directory)?;
    network::configure_inet()?;

    let counters = Arc::new(Counters::default());
    let listeners = Arc::new(Listeners::default());
    let wiretap = if setup.without_wiretap {
        None
    } else {
        Some(Wiretap::start()?)
    };
    let authority = Arc::new(Authority::make(&directory.join("public/ca.pem"))?);
    let site = services::inet_site(directory, &setup, &counters);
    let server = Arc::new(Server {
        counters: Arc::clone(&counters),
        authority,
        site,
    });

    serve_web(
        &server,
        &counters,
        &listeners,
        &[HTTP_PORT, HTTP_ALT_PORT],
        &[HTTPS_PORT, HTTPS_ALT_PORT],
    )?;
    serve_tcp(ECHO_PORT, &counters, &listeners, streams::echo)?;
    serve_tcp(DISCARD_PORT, &counters, &listeners, streams::discard)?;
    serve_tcp(SOURCE_PORT, &counters, &listeners, streams::source)?;
    serve_tcp(COUNT_PORT, &counters, &listeners, streams::count)?;
    serve_tcp(HALF_PORT, &counters, &listeners, streams::half)?;
    serve_tcp(RESET_PORT, &counters, &listeners, streams::reset)?;
    serve_udp_services(&counters, &listeners)?;
    let quic = [
        ALLOWED_V4.into(),
        ALLOWED_V6.into(),
        DENIED_V4.into(),
        DENIED_V6.into(),
    ];
    crate::quic::serve(&quic, HTTPS_PORT, &server.authority, &counters)?;
    strange_dns::serve(STRANGE_RESOLVER_V4, &counters, &listeners)?;
    let _dnsmasq = services::start_dnsmasq(directory, &setup)?;
    let _sshd = services::start_sshd(directory, &setup)?;

    control::serve(&directory.join("inet.sock"), move |question| {
        let flush = || listeners.flush(&counters);
        match question {
            Question::Packets => match &wiretap {
                Some(wiretap) => wiretap.packets(),
                None => Answer::Failed("this world records no packets".to_owned()),
            },
            Question::Seen => match flush() {
                Ok(()) => Answer::Seen(counters.seen()),
                Err(error) => Answer::Failed(format!("cannot flush the listeners: {error}")),
            },
            Question::Requests => Answer::Requests(counters.requests()),
            Question::StrangeQueries => match flush() {
                Ok(()) => Answer::StrangeQueries(counters.strange()),
                Err(error) => Answer::Failed(format!("cannot flush the listeners: {error}")),
            },
            Question::Messages => Answer::Messages(counters.messages()),
            Question::Forget => match flush() {
                Ok(()) => {
                    counters.forget();
                    if let Some(wiretap) = &wiretap {
                        wiretap.forget();
                    }
                    Answer::Done
                }
                Err(error) => Answer::Failed(format!("cannot flush the listeners: {error}")),
            },
            Question::Processes => Answer::Failed("inet cannot list processes".to_owned()),
        }
    })?;
    stdout.write_all(b"ready\n")?;
    stdout.flush()?;
    park()
}

/// Starts HTTP and HTTPS on these ports.
pub(crate) fn serve_web(
    server: &Arc<Server>,
    counters: &Arc<Counters>,
    listeners: &Listeners,
    plain: &[u16],
    secure: &[u16],
) -> Result<(), Failure> {
    for port in plain {
        let server = Arc::clone(server);
        serve_tcp(*port, counters, listeners, move |stream, local, entry| {
            server.plain(stream, local, entry)
        })?;
    }
    for port in secure {
        let server = Arc::clone(server);
        serve_tcp(*port, counters, listeners, move |stream, local, entry| {
            server.secure(stream, local, entry)
        })?;
    }
    Ok(())
}

/// UDP sockets are bound to single addresses, or answers would leave from another one.
fn serve_udp_services(counters: &Arc<Counters>, listeners: &Listeners) -> Result<(), Failure> {
    let time: [IpAddr; 2] = ["203.0.113.44".parse()?, "2001:db8::44".parse()?];
    let lan: [IpAddr; 2] = ["192.168.77.10".parse()?, "fd00:77::10".parse()?];
    let public = [
        ALLOWED_V4.into(),
        ALLOWED_V6.into(),
        DENIED_V4.into(),
        DENIED_V6.into(),
        METADATA_V4.into(),
    ];
    for address in public.into_iter().chain(time).chain(lan) {
        serve_udp(
            SocketAddr::new(address, ECHO_PORT),
            counters,
            listeners,
            |datagram, _| vec![datagram.to_vec()],
        )?;
        serve_udp(
            SocketAddr::new(address, NTP_PORT),
            counters,
            listeners,
            |datagram, _| ntp_answer(datagram).into_iter().collect(),
        )?;
        serve_udp(
            SocketAddr::new(address, MANY_PORT),
            counters,
            listeners,
            |datagram, _| many(datagram),
        )?;
    }
    Ok(())
}

/// So many answers as the question says, numbered.
fn many(datagram: &[u8]) -> Vec<Vec<u8>> {
    let wanted = std::str::from_utf8(datagram).ok();
    let count: u32 = wanted.and_then(|text| text.parse().ok()).unwrap_or(0);
    (0..count.min(1000))
        .map(|number| number.to_string().into_bytes())
        .collect()
}

/// Answers a 48-byte client packet (RFC 5905): same version, mode 4, stratum 1, client's transmit time as origin.
fn ntp_answer(question: &[u8]) -> Option<Vec<u8>> {
    let transmit = question.get(40..48)?;
    let mut answer = vec![0; 48];
    answer[0] = (question[0] & 0b0011_1000) | 4;
    answer[1] = 1;
    answer[24..32].copy_from_slice(transmit);
    Some(answer)
}

/// Stays until the world ends.
pub(crate) fn park() -> ! {
    loop {
        std::thread::park();
    }
}
