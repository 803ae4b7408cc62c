//! Sockets that a server is reached at, in the file system or at a port.
//!
//! Owns the file of a socket: who may connect is what its mode says, from the first moment on, and
//! it goes with the listener. Knows nothing of what is said over it.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio_util::either::Either;

/// The longest path in the address of a socket, with the zero that ends it left out.
const MAX_PATH_BYTES: usize = 107;

/// Where to listen, or to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port; 0 picks a free one.
    Tcp(SocketAddr),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// A connection, on either end.
pub type SocketStream = Either<UnixStream, TcpStream>;

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BindOptions {
    /// The mode of a socket in the file system.
    pub(crate) mode: u32,
    /// Its group; `None` for what the system gives it.
    pub(crate) group: Option<u32>,
    /// Connections that wait to be accepted.
    pub(crate) backlog: u32,
    /// Whether the address of a port may be one that no interface has yet.
    pub(crate) freebind: bool,
}

/// A listener; the file of its socket goes with it.
#[derive(Debug)]
pub(crate) struct SocketListener {
    kind: Either<(UnixListener, SocketFile), TcpListener>,
}

/// Unlinks a socket when it is dropped, unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    #[expect(clippy::disallowed_methods, reason = "the one file of this module")]
    fn drop(&mut self) {
        let is_own = fs::symlink_metadata(&self.path).is_ok_and(|it| it.ino() == self.inode);
        if is_own {
            // What stays is replaced at the next start.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl SocketListener {
    /// Listens. A socket that a killed process has left is replaced, one that somebody answers on
    /// is not.
    pub(crate) async fn bind(address: &ListenAddress, options: BindOptions) -> io::Result<Self> {
        let kind = match address {
            ListenAddress::Unix(path) => Either::Left(bind_unix(path, options).await?),
            ListenAddress::Tcp(address) => Either::Right(bind_tcp(*address, options)?),
        };
        Ok(Self { kind })
    }

    /// Where it really listens.
    pub(crate) fn address(&self) -> io::Result<ListenAddress> {
        match &self.kind {
            Either::Left((_, file)) => Ok(ListenAddress::Unix(file.path.clone())),
            Either::Right(tcp) => tcp.local_addr().map(ListenAddress::Tcp),
        }
    }

    /// The next connection. Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<SocketStream> {
        match &self.kind {
            Either::Left((unix, _)) => Ok(Either::Left(unix.accept().await?.0)),
            Either::Right(tcp) => Ok(Either::Right(tcp.accept().await?.0)),
        }
    }
}

/// Connects to a server. Cancel safe.
pub(crate) async fn connect(address: &ListenAddress) -> io::Result<SocketStream> {
    match address {
        ListenAddress::Unix(path) => {
            let reachable = Reachable::new(path)?;
            UnixStream::connect(&reachable.path).await.map(Either::Left)
        }
        ListenAddress::Tcp(address) => TcpStream::connect(address).await.map(Either::Right),
    }
}

fn bind_tcp(address: SocketAddr, options: BindOptions) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if options.freebind {
        if address.is_ipv4() {
            set_ip_freebind(&socket, true)?;
        } else {
            set_ipv6_freebind(&socket, true)?;
        }
    }
    socket.bind(address)?;
    socket.listen(options.backlog)
}

async fn bind_unix(path: &Path, options: BindOptions) -> io::Result<(UnixListener, SocketFile)> {
    check_place(path).await?;
    // Under a name of its own until it listens: who finds a socket here that nobody answers on
    // takes it for one that a killed process has left.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let begun = path.with_file_name(name);
    let reachable = Reachable::new(&begun)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(&reachable.path)?;
    let inode = fs::symlink_metadata(&begun)?.ino();
    let mut file = SocketFile { path: begun.clone(), inode };
    // Before it listens: until then nobody can connect, whatever the mode says.
    if options.group.is_some() {
        std::os::unix::fs::lchown(&begun, None, options.group)?;
    }
    fs::set_permissions(&begun, Permissions::from_mode(options.mode))?;
    let listener = socket.listen(options.backlog)?;
    take_place(&begun, path)?;
    path.clone_into(&mut file.path);
    Ok((listener, file))
}

#[expect(clippy::disallowed_methods, reason = "the one file of this module")]
fn take_place(begun: &Path, path: &Path) -> io::Result<()> {
    fs::rename(begun, path)
}

/// Whether there is nothing, or a socket that nobody listens on any more.
async fn check_place(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file, no socket"));
    }
    match UnixStream::connect(&Reachable::new(path)?.path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens here")),
    }
}

/// A path that fits into the address of a socket: a longer one is reached through an open
/// descriptor of its folder.
struct Reachable {
    path: PathBuf,
    /// Held while `path` is used.
    _folder: Option<File>,
}

impl Reachable {
    fn new(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"));
        };
        if path.as_os_str().len() <= MAX_PATH_BYTES {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = File::open(folder)?;
        let through = format!("/proc/self/fd/{}", folder.as_raw_fd());
        Ok(Self { path: Path::new(&through).join(name), _folder: Some(folder) })
    }
}
