//! A host and a port as people read them.

use std::fmt;

/// `host:port`; an IPv6 address in brackets, as in URLs (RFC 3986), since it holds colons itself.
pub(crate) struct HostPort<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort(host, port) = self;
        if host.contains(':') && !host.starts_with('/') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_with_colons_is_bracketed() {
        assert_eq!(
            HostPort("db.example.com", 5432).to_string(),
            "db.example.com:5432"
        );
        assert_eq!(HostPort("10.0.0.5", 5432).to_string(), "10.0.0.5:5432");
        assert_eq!(
            HostPort("2001:db8::5", 5432).to_string(),
            "[2001:db8::5]:5432"
        );
        assert_eq!(HostPort("/run/a:b", 5432).to_string(), "/run/a:b:5432");
    }
}
