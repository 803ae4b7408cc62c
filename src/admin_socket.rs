//! Where the operator reaches a running server: the address of the admin API, listening on it and
//! connecting to it.
//!
//! Owns the socket's file: who may connect is what its mode says, from the first moment on. Knows
//! nothing of what is said over it.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio_util::either::Either;

/// Who may connect: the user that the server runs as, and root.
const SOCKET_MODE: u32 = 0o600;
/// The longest path in the address of a socket, with the zero that ends it left out.
const MAX_PATH_BYTES: usize = 107;
/// Connections that wait to be accepted: operators are few.
const BACKLOG: u32 = 16;

/// Where the admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port; everybody who reaches it may purge.
    Tcp(SocketAddr),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// A connection, on either end.
pub type AdminStream = Either<UnixStream, TcpStream>;

/// A listener; the file of its socket goes with it.
#[derive(Debug)]
pub struct AdminListener {
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

impl AdminListener {
    /// Listens. A socket that a killed process has left is replaced, one that somebody answers on
    /// is not.
    pub async fn bind(address: &AdminAddress) -> io::Result<Self> {
        let kind = match address {
            AdminAddress::Unix(path) => Either::Left(bind_unix(path).await?),
            AdminAddress::Tcp(address) => Either::Right(TcpListener::bind(address).await?),
        };
        Ok(Self { kind })
    }

    /// Where it really listens.
    pub fn address(&self) -> io::Result<AdminAddress> {
        match &self.kind {
            Either::Left((_, file)) => Ok(AdminAddress::Unix(file.path.clone())),
            Either::Right(tcp) => tcp.local_addr().map(AdminAddress::Tcp),
        }
    }

    /// The next connection. Cancel safe.
    pub async fn accept(&self) -> io::Result<AdminStream> {
        match &self.kind {
            Either::Left((unix, _)) => Ok(Either::Left(unix.accept().await?.0)),
            Either::Right(tcp) => Ok(Either::Right(tcp.accept().await?.0)),
        }
    }
}

/// Connects to a running server. Cancel safe.
pub async fn connect(address: &AdminAddress) -> io::Result<AdminStream> {
    match address {
        AdminAddress::Unix(path) => {
            let reachable = Reachable::new(path)?;
            UnixStream::connect(&reachable.path).await.map(Either::Left)
        }
        AdminAddress::Tcp(address) => TcpStream::connect(address).await.map(Either::Right),
    }
}

async fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
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
    fs::set_permissions(&begun, Permissions::from_mode(SOCKET_MODE))?;
    let listener = socket.listen(BACKLOG)?;
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
