//! A small blocking HTTP client: just enough to see exactly what a server does.
//!
//! Owns one connection and what was read from it ahead; leaves reconnecting to its user. Every
//! read has a limit of time, so that a hang is a failure and not a silence.

use crate::support::wait_until;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a read may take. Only a server that hangs takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One answer, complete.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) version: String,
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field, by its name in any case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The values of all fields of that name.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        let found = self.fields.iter().filter(named);
        found.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Who answered `GET /`: the line without its end.
    pub(crate) fn who(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let text = self.text();
        assert!(
            text.starts_with("Handled by process ") && text.ends_with('\n'),
            "{text:?}"
        );
        text.trim_end().to_owned()
    }

    /// Whether it says that its connection ends.
    pub(crate) fn closes(&self) -> bool {
        self.field("Connection") == Some("close")
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client<S = TcpStream> {
    stream: S,
    /// Read and not used yet.
    ahead: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::of(TcpStream::connect(address)?)
    }

    /// One that has been made already.
    pub(crate) fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::new(stream))
    }

    /// A connection whose first `GET /` is answered, and by whom.
    pub(crate) fn greeted(address: SocketAddr) -> (Self, String) {
        let mut client = Self::connect(address).unwrap();
        let who = client.get("/").unwrap().who();
        (client, who)
    }

    /// One of many new connections at once, that the worker which calls itself `wanted` has. One
    /// after the other would not do: under shared the kernel may wake the same worker each time.
    #[track_caller]
    pub(crate) fn of_worker(address: SocketAddr, wanted: &str) -> Self {
        let mut found = None;
        wait_until("a connection to a certain worker", || {
            let connect = |_| Self::connect(address).unwrap();
            let mut clients: Vec<_> = (0..64).map(connect).collect();
            for client in &mut clients {
                client.ask("/").unwrap();
            }
            for mut client in clients {
                if client.receive().unwrap().who() == wanted {
                    found = Some(client);
                }
            }
            found.is_some()
        });
        found.unwrap()
    }

    /// Whether nothing has come, not even the end; does not wait.
    pub(crate) fn is_silent(&mut self) -> bool {
        if !self.ahead.is_empty() {
            return false;
        }
        self.stream.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        let result = self.stream.read(&mut bytes);
        self.stream.set_nonblocking(false).unwrap();
        match result {
            Ok(count) => {
                self.ahead.extend_from_slice(&bytes[..count]);
                false
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

impl Client<UnixStream> {
    pub(crate) fn connect_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::new(stream))
    }
}

impl<S: Read + Write> Client<S> {
    fn new(stream: S) -> Self {
        let ahead = Vec::new();
        Self { stream, ahead }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a GET and does not wait for the answer.
    pub(crate) fn ask(&mut self, target: &str) -> io::Result<()> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    pub(crate) fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.ask(target)?;
        self.receive()
    }

    /// Sends a request of any kind, `fields` each with its line end, and takes the answer.
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &str,
        body: &str,
    ) -> io::Result<Answer> {
        self.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}"
        ))?;
        self.receive_to(method)
    }

    /// The next answer, to anything but HEAD.
    pub(crate) fn receive(&mut self) -> io::Result<Answer> {
        self.receive_to("GET")
    }

    fn receive_to(&mut self, method: &str) -> io::Result<Answer> {
        let start = self.line()?;
        let mut words = start.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| wrong(&format!("status line {start:?}")))?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| wrong(&format!("field {line:?}")))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            version,
            status,
            fields,
            body: Vec::new(),
        };
        // RFC 9112 6.3, from the top.
        let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        answer.body = if bodiless {
            Vec::new()
        } else if answer.field("Transfer-Encoding") == Some("chunked") {
            self.chunks()?
        } else if let Some(length) = answer.field("Content-Length") {
            let length = length.parse().map_err(|_| wrong("Content-Length"))?;
            self.bytes(length)?
        } else {
            self.rest()?
        };
        Ok(answer)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| wrong("chunk size"))?;
            body.extend(self.bytes(size)?);
            if !self.line()?.is_empty() {
                return Err(wrong("the end of a chunk"));
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// What comes up to and with `words`, of an answer that is still being made.
    pub(crate) fn until(&mut self, words: &str) -> io::Result<String> {
        loop {
            let wanted = words.as_bytes();
            let found = self.ahead.windows(wanted.len()).position(|w| w == wanted);
            if let Some(at) = found {
                let text = self.ahead.drain(..at + wanted.len()).collect();
                return String::from_utf8(text).map_err(|_| wrong("text"));
            }
            self.more()?;
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// Waits for the end of the connection and says whether nothing came before it. Then it ends
    /// here as well: a server waits a while for that.
    pub(crate) fn ends(mut self) -> bool {
        match self.rest() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => is_loss(&error) && self.ahead.is_empty(),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| wrong("a line that is no text"));
            }
            self.more()?;
        }
    }

    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            self.more()?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    fn more(&mut self) -> io::Result<()> {
        match self.fill()? {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads once; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(count) => {
                    self.ahead.extend_from_slice(&bytes[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether an error means that the other side let go of the connection.
pub(crate) fn is_loss(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
    )
}

/// Whether nobody listens at `address`.
pub(crate) fn is_refused(address: SocketAddr) -> bool {
    match TcpStream::connect(address) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("no HTTP: {what}"))
}
