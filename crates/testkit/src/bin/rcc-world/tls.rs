//! The test authority and the server side of TLS: a certificate for whatever name is asked for.
//!
//! The authority is made anew for every world and signs for the world only; its key never leaves this process.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Failure;
use crate::streams::Counted;

/// The authority with the certificates that it has already made.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    leaf_key: KeyPair,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Makes an authority and writes its certificate as PEM.
    pub(crate) fn make(pem: &Path) -> Result<Self, Failure> {
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "rcc test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        std::fs::write(pem, certificate.pem())?;
        let der = certificate.der().clone();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate: der,
            leaf_key: KeyPair::generate()?,
            made: Mutex::default(),
        })
    }

    fn certify(&self, name: &str) -> Result<Arc<CertifiedKey>, Failure> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = made.get(name) {
            return Ok(Arc::clone(ready));
        }
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        // A fixed span: the default one ends too late for some clients.
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2039, 1, 1);
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(self.leaf_key.serialize_der())?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let ready = Arc::new(CertifiedKey::new(chain, key));
        made.insert(name.to_owned(), Arc::clone(&ready));
        Ok(ready)
    }

    /// Takes a client's handshake; without a server name the certificate is for the address connected to.
    pub(crate) fn accept(
        self: &Arc<Self>,
        stream: Counted,
        local: IpAddr,
    ) -> Result<TlsStream, Failure> {
        let resolver = Arc::new(Resolver {
            authority: Arc::clone(self),
            local: local.to_canonical(),
        });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config))?, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

impl Authority {
    /// The server side of QUIC at an address; there is no version of TLS but 1.3 (RFC 9001 section 4.2).
    pub(crate) fn quic(
        self: &Arc<Self>,
        local: IpAddr,
    ) -> Result<quinn::crypto::rustls::QuicServerConfig, Failure> {
        let resolver = Arc::new(Resolver {
            authority: Arc::clone(self),
            local,
        });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        // The first that the probe offers.
        config.alpn_protocols = vec![b"a-protocol-with-number-000000".to_vec()];
        Ok(config.try_into()?)
    }
}

/// A TLS connection on a counted stream.
pub(crate) type TlsStream = StreamOwned<ServerConnection, Counted>;

#[derive(Debug)]
struct Resolver {
    authority: Arc<Authority>,
    local: IpAddr,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello
            .server_name()
            .map_or_else(|| self.local.to_string(), str::to_owned);
        self.authority.certify(&name).ok()
    }
}
