//! A QUIC client.
//!
//! Must not check the server's certificate: which server answers is told by what it says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::json;

use crate::datagrams::peer;
use crate::{Arguments, Attempt, Probe, Refusal};

pub(crate) const PROBES: &[Probe] = &[(
    "quic",
    "HOST PORT SERVER_NAME BYTES PROTOCOLS   (sends BYTES and compares what comes back; many PROTOCOLS, at least one, make the hello long)",
    quic,
)];

/// Time without an answer that ends a connection.
const PATIENCE: Duration = Duration::from_secs(3);

fn other(error: impl std::fmt::Display) -> Refusal {
    Refusal::Other(json!({ "how": error.to_string() }))
}

fn quic(arguments: &Arguments) -> Attempt {
    let peer = peer(arguments, 0)?;
    let name = arguments.text(2)?.to_owned();
    let (bytes, protocols) = (arguments.number(3)?, arguments.number(4)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(talk(peer, &name, bytes, protocols))
}

async fn talk(peer: SocketAddr, name: &str, bytes: usize, protocols: usize) -> Attempt {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = (0..protocols.max(1))
        .map(|number| format!("a-protocol-with-number-{number:06}").into_bytes())
        .collect();
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(PATIENCE.try_into().map_err(other)?));
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(other)?));
    config.transport_config(Arc::new(transport));
    let any = if peer.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let endpoint = Endpoint::client(any.parse().map_err(other)?)?;
    let started = Instant::now();
    let connecting = endpoint.connect_with(config, peer, name).map_err(other)?;
    let connection = connecting.await.map_err(other)?;
    let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
    let (mut to, mut from) = connection.open_bi().await.map_err(other)?;
    let sent: Vec<u8> = (0..=250).cycle().take(bytes).collect();
    to.write_all(&sent).await.map_err(other)?;
    to.finish().map_err(other)?;
    let answer = from.read_to_end(bytes + 300).await.map_err(other)?;
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    let end_of_name = answer.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (asked, came) = answer.split_at(end_of_name);
    Ok(json!({
        "server_name": String::from_utf8_lossy(asked),
        "same": came.get(1..) == Some(&sent),
        "milliseconds": milliseconds,
    }))
}

/// Trusts every certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
