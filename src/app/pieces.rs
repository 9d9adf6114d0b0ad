//! A body whose length is known, of bytes and of parts of files.

use std::fmt;
use std::fs::File;
use std::sync::Arc;

/// One of the pieces.
#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    File {
        file: Arc<File>,
        offset: u64,
        length: u64,
    },
}

/// A body of known length: bytes and parts of files, in order. The parts of files are sent by the
/// kernel (sendfile(2)) and never enter this process's memory.
///
/// The files should be regular ones. One that turns out to be shorter than was promised ends the
/// connection, so that the client can tell.
///
/// # Examples
///
/// ```no_run
/// use mcluster::{Body, Pieces, Response};
/// use std::{fs::File, sync::Arc};
///
/// fn framed() -> std::io::Result<Response> {
///     let file = Arc::new(File::open("drawing.svg")?);
///     let length = file.metadata()?.len();
///     let pieces = Pieces::default().bytes("<p>").file(file, 0, length).bytes("</p>");
///     Ok(Response::html("").with_body(Body::Pieces(pieces)))
/// }
/// ```
#[derive(Default)]
pub struct Pieces {
    pieces: Vec<Piece>,
    length: u64,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces")
            .field("count", &self.pieces.len())
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Pieces {
    /// The same with bytes behind it.
    #[must_use]
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.length = self.length.saturating_add(bytes.len() as u64);
            self.pieces.push(Piece::Bytes(bytes));
        }
        self
    }

    /// The same with `length` bytes of `file` behind it, from `offset` on.
    #[must_use]
    pub fn file(mut self, file: Arc<File>, offset: u64, length: u64) -> Self {
        if length > 0 {
            self.length = self.length.saturating_add(length);
            self.pieces.push(Piece::File {
                file,
                offset,
                length,
            });
        }
        self
    }

    /// The bytes of all pieces together.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }
}
