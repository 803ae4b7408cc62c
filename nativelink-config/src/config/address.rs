//! Addresses to listen on.

use crate::excerpt::shorten;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

#[cfg(test)]
mod tests;

const MAX_HOST_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A host and a port.
    Tcp(SocketAddress),
    /// The path of a unix socket; absolute.
    Unix(String),
}

/// A host and a port, not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAddress {
    /// Where to listen.
    pub host: Host,
    /// The port; 0 is any free one.
    pub port: u16,
}

/// The host part of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Every address of the machine, written as nothing: `:8080`.
    Any,
    /// An IP address.
    Ip(IpAddr),
    /// A name that has to be resolved.
    Name(String),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => write!(f, ":{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing behind the last colon, or no colon.
    #[error("{0:?} has no port; write HOST:PORT, such as 0.0.0.0:50051 or :50051")]
    MissingPort(String),
    /// A port that is no number or has more than 16 bits.
    #[error("{0:?} is not a port; a port is a number from 0 to 65535")]
    Port(String),
    /// A host that is neither an IP address nor a name.
    #[error("{0:?} is neither an IP address nor a host name")]
    Host(String),
    /// An IPv6 address whose end cannot be told from the port.
    #[error("an IPv6 address needs brackets before the port, such as [::1]:50051")]
    UnbracketedIpv6,
    /// The path of a unix socket where only a host and a port will do, or without its prefix.
    #[error("{0:?} is a path; write HOST:PORT, or unix:/PATH where a unix socket is possible")]
    UnixSocket(String),
    /// The path of a unix socket that depends on where the process was started.
    #[error("the path of a unix socket has to be absolute, such as unix:/run/castellan.sock")]
    RelativeUnixPath,
    /// A path that names no file.
    #[error("{0:?} is not the path of a file; write unix:/PATH, such as unix:/run/castellan.sock")]
    NoUnixPath(String),
}

/// Reads what [`parse_socket_address`] reads, or `unix:/path`.
pub fn parse_listen_address(text: &str) -> Result<ListenAddress, AddressError> {
    let text = text.trim();
    let Some(path) = text.strip_prefix("unix:") else {
        return parse_socket_address(text).map(ListenAddress::Tcp);
    };
    // `unix:///path` is the same written as a URI.
    let Some(below_root) = path.strip_prefix('/').map(|path| path.trim_start_matches('/')) else {
        return Err(AddressError::RelativeUnixPath);
    };
    if below_root.is_empty() || below_root.ends_with('/') || below_root.contains('\0') {
        return Err(AddressError::NoUnixPath(shorten(text).into_owned()));
    }
    Ok(ListenAddress::Unix(format!("/{below_root}")))
}

/// Reads `ip:port`, `[ipv6]:port`, `host:port` or `:port`.
pub fn parse_socket_address(text: &str) -> Result<SocketAddress, AddressError> {
    let text = text.trim();
    if text.starts_with("unix:") || text.contains('/') {
        return Err(AddressError::UnixSocket(shorten(text).into_owned()));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(AddressError::UnbracketedIpv6);
    }
    let missing_port = || AddressError::MissingPort(shorten(text).into_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(missing_port)?;
    if port.is_empty() || text.ends_with(']') {
        return Err(missing_port());
    }
    let host = parse_host(host)?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits => Ok(SocketAddress { host, port }),
        _ => Err(AddressError::Port(shorten(port).into_owned())),
    }
}

fn parse_host(host: &str) -> Result<Host, AddressError> {
    let malformed = || AddressError::Host(shorten(host).into_owned());
    if host.is_empty() {
        return Ok(Host::Any);
    }
    if let Some(bracketed) = host.strip_prefix('[') {
        let ip = bracketed.strip_suffix(']').ok_or_else(malformed)?;
        return ip.parse().map(|ip| Host::Ip(IpAddr::V6(ip))).map_err(|_| malformed());
    }
    if host.contains(':') {
        return Err(AddressError::UnbracketedIpv6);
    }
    if let Ok(ip) = host.parse() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    // Numbers alone are a mistyped IP address: resolving them would fail late and say less.
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numeric || !is_host_name(host) {
        return Err(malformed());
    }
    Ok(Host::Name(host.to_owned()))
}

/// Letters, digits and hyphens in labels; underscores are common inside container networks.
fn is_host_name(name: &str) -> bool {
    name.len() <= MAX_HOST_NAME_BYTES
        && name.strip_suffix('.').unwrap_or(name).split('.').all(|label| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
}
