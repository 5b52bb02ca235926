//! QUIC servers: each tells the name that the client asked for and sends back what it got.
//!
//! Must count a connection as soon as its first packet is there, whatever becomes of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Endpoint, Incoming, ServerConfig};

use crate::Failure;
use crate::counters::Counters;
use crate::log;
use crate::tls::Authority;

/// Most bytes that are echoed.
const ECHO_LIMIT: usize = 16 << 20;

/// Serves this port of these addresses on a thread of its own.
pub(crate) fn serve(
    addresses: &[IpAddr],
    port: u16,
    authority: &Arc<Authority>,
    counters: &Arc<Counters>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut endpoints = Vec::new();
    {
        let _inside = runtime.enter();
        for address in addresses {
            let config = ServerConfig::with_crypto(Arc::new(authority.quic(*address)?));
            let local = SocketAddr::new(*address, port);
            endpoints.push((local, Endpoint::server(config, local)?));
        }
    }
    let counters = Arc::clone(counters);
    std::thread::spawn(move || {
        runtime.block_on(async {
            for (local, endpoint) in endpoints {
                let counters = Arc::clone(&counters);
                tokio::spawn(async move {
                    while let Some(incoming) = endpoint.accept().await {
                        counters.entry("udp", local).connection();
                        tokio::spawn(async move {
                            if let Err(error) = echo(incoming).await {
                                log(&format!("quic {local}: {error}"));
                            }
                        });
                    }
                });
            }
            std::future::pending::<()>().await;
        });
    });
    Ok(())
}

/// One connection with one stream.
async fn echo(incoming: Incoming) -> Result<(), Failure> {
    let connection = incoming.await?;
    let name = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.server_name)
        .unwrap_or_default();
    let (mut to, mut from) = connection.accept_bi().await?;
    let bytes = from.read_to_end(ECHO_LIMIT).await?;
    to.write_all(format!("{name}\n").as_bytes()).await?;
    to.write_all(&bytes).await?;
    to.finish()?;
    connection.closed().await;
    Ok(())
}
