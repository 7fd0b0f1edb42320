//! Certificates for tests: an authority of their own, and servers and clients it vouches for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::Cluster;
use super::cluster::server_user;

/// Which of the things that can be wrong with a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    Expired,
    /// Made out to another host.
    OtherHost,
}

/// Signs for servers and clients.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self {
            params,
            key,
            certificate,
        }
    }

    /// Writes the authority's certificate: what `sslrootcert` names.
    pub fn root(&self, dir: &Path) -> PathBuf {
        let path = dir.join("root.crt");
        fs::write(&path, &self.certificate).expect("write the root certificate");
        path
    }

    /// A certificate and its key, in PEM.
    fn issue(&self, name: &str, flaw: Flaw) -> (String, String) {
        let host = match flaw {
            Flaw::OtherHost => "elsewhere.example",
            _ => name,
        };
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, host);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = match flaw {
            Flaw::Expired => rcgen::date_time_ymd(2021, 1, 1),
            _ => rcgen::date_time_ymd(2090, 1, 1),
        };
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&self.params, &self.key);
        let signed = params.signed_by(&key, &issuer).expect("a signature");
        (signed.pem(), key.serialize_pem())
    }

    /// A client's certificate and key, as files that only their owner reads.
    pub fn client(&self, user: &str, dir: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue(user, Flaw::None);
        let paths = (dir.join("client.crt"), dir.join("client.key"));
        fs::write(&paths.0, certificate).expect("write the certificate");
        fs::write(&paths.1, key).expect("write the key");
        fs::set_permissions(&paths.1, fs::Permissions::from_mode(0o600)).expect("close the key");
        paths
    }

    /// Has a server of the test's own speak TLS with a certificate for `localhost`, and trust this authority's clients.
    pub fn install(&self, server: &Cluster, flaw: Flaw) {
        let (certificate, key) = self.issue("localhost", flaw);
        for (name, text) in [
            ("server.crt", &certificate),
            ("server.key", &key),
            ("root.crt", &self.certificate),
        ] {
            let path = server.data_dir().join(name);
            fs::write(&path, text).expect("write the server's files");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("close them");
            if let Some((uid, gid)) = server_user() {
                chown(&path, Some(uid), Some(gid)).expect("give them to the server");
            }
        }
        server.configure(&[
            ("ssl", "on"),
            ("ssl_cert_file", "server.crt"),
            ("ssl_key_file", "server.key"),
            ("ssl_ca_file", "root.crt"),
        ]);
        server.reload();
    }
}
