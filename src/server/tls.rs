//! TLS as libpq means each `sslmode` (manual: "SSL Support"), by rustls, so that no OpenSSL is needed.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{RootCert, SslMode, Tls};
use crate::error::{Advise, Failure, Result, WrapErr};

/// How far a server's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Encrypted, whoever it is (`prefer`, `require` without a root certificate).
    Anyone,
    /// Signed by a known authority, whatever its name (`verify-ca`, `require` with a root certificate).
    KnownAuthority,
    /// Signed by a known authority for this very host (`verify-full`).
    KnownHost,
}

fn trust_of(tls: &Tls) -> Trust {
    match tls.sslmode {
        SslMode::VerifyFull => Trust::KnownHost,
        SslMode::VerifyCa => Trust::KnownAuthority,
        SslMode::Require if tls.sslrootcert.is_some() => Trust::KnownAuthority,
        SslMode::Require | SslMode::Prefer | SslMode::Disable => Trust::Anyone,
    }
}

/// The connector for a host's TLS settings.
pub(crate) fn connector(tls: &Tls) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(tls, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .wrap_err("set up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (&tls.sslcert, &tls.sslkey) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .wrap_err_with(|| format!("use the client certificate {}", cert.display()))?,
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn verifier(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    let trust = trust_of(tls);
    let authorities = match trust {
        Trust::Anyone => None,
        Trust::KnownAuthority | Trust::KnownHost => {
            let roots = roots(tls.sslrootcert.as_ref())?;
            let inner =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .wrap_err("use the root certificates")?;
            Some(inner)
        }
    };
    Ok(Arc::new(Verifier {
        trust,
        authorities,
        provider,
    }))
}

fn roots(declared: Option<&RootCert>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match declared {
        Some(RootCert::File(path)) => {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .wrap_err_with(|| format!("use the root certificate {}", path.display()))?;
            }
        }
        Some(RootCert::System) => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
        None => {
            return Failure::usage("verify the server's certificate: sslrootcert is not set")
                .hint("set sslrootcert to a file of root certificates, or to `system`")
                .err();
        }
    }
    if roots.is_empty() {
        Failure::usage("verify the server's certificate: no root certificate was found")
            .hint("set sslrootcert to a file of root certificates")
            .err()
    } else {
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.wrap_err_with(|| format!("read the certificates of {}", path.display()))
        .hint(|| "give a file with certificates in PEM form".into())
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path)
        .wrap_err_with(|| format!("read the private key {}", path.display()))
        .hint(|| "give a file with an unencrypted private key in PEM form".into())
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        let verdict = authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        // The name is the last thing that is looked at: the chain was good when only the name is wrong.
        match verdict {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.trust == Trust::KnownAuthority => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The driver's word for an `sslmode`; what is verified beyond that is the connector's business.
pub(crate) fn negotiation(mode: SslMode) -> postgres::config::SslMode {
    match mode {
        SslMode::Disable => postgres::config::SslMode::Disable,
        SslMode::Prefer => postgres::config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
            postgres::config::SslMode::Require
        }
    }
}
