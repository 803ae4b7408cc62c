//! HTTP/1.1 spelt out byte by byte, so that a test can say anything and sees all of the answer.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::TestServer;

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended where it said that it would.
    pub(crate) is_whole: bool,
}

impl Reply {
    /// A header field, its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
}

impl Http {
    /// A connection to the server.
    pub(crate) async fn connect(server: &TestServer) -> Self {
        Self::to(server.server.http_address()).await
    }

    /// A connection that takes little before the test reads on.
    pub(crate) async fn with_small_buffer(server: &TestServer) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let stream = socket.connect(server.server.http_address()).await.unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// A connection to an address.
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes; a server that has closed takes none.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.get_mut().write_all(bytes).await);
    }

    /// Sends what the socket takes at once; a server that has closed takes nothing.
    pub(crate) fn try_send(&self, bytes: &[u8]) {
        drop(self.stream.get_ref().try_write(bytes));
    }

    /// Whether the server has closed the connection; what it has said is dropped.
    pub(crate) fn try_closed(&self) -> bool {
        let mut said = [0; 4096];
        match self.stream.get_ref().try_read(&mut said) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    /// Ends this side.
    pub(crate) async fn half_close(&mut self) {
        drop(self.stream.get_mut().shutdown().await);
    }

    /// Sends the head of a request, with a blank line behind it.
    pub(crate) async fn head(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: cache\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        self.send(head.as_bytes()).await;
    }

    /// Sends a request with a body of known length and reads the answer.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let length = body.len().to_string();
        let mut headers = headers.to_vec();
        if method == "PUT" {
            headers.push(("Content-Length", &length));
        }
        self.head(method, path, &headers).await;
        self.send(body).await;
        self.reply(method).await.unwrap()
    }

    /// Reads an answer to a method; `None` when the connection is closed instead.
    pub(crate) async fn reply(&mut self, method: &str) -> Option<Reply> {
        let line = self.line().await?;
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new(), is_whole: true };
        if method == "HEAD" || status < 200 || matches!(status, 204 | 304) {
            return Some(reply);
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            reply.is_whole = self.chunks(&mut reply.body).await.is_some();
        } else if let Some(length) = reply.header("content-length") {
            let length = length.parse().unwrap();
            reply.is_whole = self.bytes(length, &mut reply.body).await.is_some();
        } else {
            self.stream.read_to_end(&mut reply.body).await.unwrap();
        }
        Some(reply)
    }

    /// Waits until the server has closed the connection; what it still says is dropped.
    pub(crate) async fn closed(&mut self) {
        let mut rest = [0; 4096];
        while matches!(self.stream.read(&mut rest).await, Ok(read) if read > 0) {}
    }

    /// Reads some bytes; `None` when the connection ends before.
    pub(crate) async fn bytes(&mut self, length: usize, into: &mut Vec<u8>) -> Option<()> {
        let begin = into.len();
        let read = (&mut self.stream).take(length as u64).read_to_end(into).await;
        (read.is_ok() && into.len() - begin == length).then_some(())
    }

    async fn chunks(&mut self, into: &mut Vec<u8>) -> Option<()> {
        loop {
            let line = self.line().await?;
            let length = usize::from_str_radix(&line, 16).unwrap();
            self.bytes(length, into).await?;
            self.line().await?;
            if length == 0 {
                return Some(());
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await;
        let is_line = read.is_ok() && line.ends_with(b"\r\n");
        is_line.then(|| String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }
}

/// A request on a connection of its own.
pub(crate) async fn http(
    server: &TestServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    Http::connect(server).await.call(method, path, headers, body).await
}
