//! The keys that sign session cookies: where they are from, and what they vouch for.

use super::SessionId;
use crate::sys::random;
use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

type Signer = Hmac<Sha256>;

/// The bytes of a key at least: fewer could be found by trying.
const LEAST_BYTES: usize = 32;

/// Keys at most, and what a file of them may have: more is something else.
const MOST_KEYS: usize = 16;
const MOST_BYTES: u64 = 64 * 1024;

/// What is signed begins with this, so that no other use of the same key vouches for a session.
const DOMAIN: &[u8] = b"mcluster session 1";

/// A cookie's value: the id, a dot, the signature.
const ID_CHARS: usize = 22;
const SIGNATURE_CHARS: usize = 43;

/// The keys that session cookies are signed with, by HMAC-SHA-256.
///
/// The first signs, all of them vouch. To change keys, put a new one in front and take the old one
/// away when the sessions of its time have ended: cookies that an old one signed are set again, signed by
/// the first, as their clients come. All machines that share sessions need the same keys.
///
/// # Examples
///
/// ```
/// use mcluster::session::Keys;
///
/// let keys = Keys::from_text("# since May\nm8Vd0yJ3rUQx5aZbQpYt7cLw2HnEoKfS\n")?;
/// assert_eq!(format!("{keys:?}"), "Keys(1)");
/// assert!(Keys::from_text("secret").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Keys(Arc<[Signer]>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// The keys in the text, one a line, of 32 bytes at least: the line itself is the key, without spaces
    /// around it. Empty lines and those that begin with `#` are skipped.
    ///
    /// # Errors
    ///
    /// When there is none, one is too short, or there are more than sixteen.
    pub fn from_text(text: &str) -> io::Result<Self> {
        let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.len() < LEAST_BYTES {
                let number = number + 1;
                return wrong(format!(
                    "line {number}: a key has {LEAST_BYTES} bytes at least"
                ));
            }
            keys.push(signer(line.as_bytes())?);
        }
        match keys.len() {
            0 => wrong("there is no key".to_owned()),
            1..=MOST_KEYS => Ok(Self(keys.into())),
            _ => wrong(format!("more than {MOST_KEYS} keys")),
        }
    }

    /// The keys in a file, as [`Keys::from_text`] reads them. A line in the log says so where the file is open to
    /// all users of the machine.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is longer than 64 KiB or no text, and as [`Keys::from_text`].
    pub fn from_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        // Before it is opened: that would wait for the writer of a named pipe.
        let about = fs::metadata(path)?;
        if !about.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        if about.permissions().mode() & 0o006 != 0 {
            log::warn!(
                "{}: all users of this machine can reach the session keys; 'chmod 600' it",
                path.display()
            );
        }
        let mut text = String::new();
        File::open(path)?
            .take(MOST_BYTES + 1)
            .read_to_string(&mut text)?;
        match text.len() as u64 > MOST_BYTES {
            true => Err(io::Error::other("longer than 64k, which no keys are")),
            false => Self::from_text(&text),
        }
    }

    /// The keys in a file; where there is none, it is made once, with a random key, for its owner alone to read.
    /// Of several programs that do so at once, all have the same key.
    ///
    /// # Errors
    ///
    /// As [`Keys::from_file`], and when the file cannot be made.
    pub fn from_file_or_new(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        match Self::from_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path)?;
                Self::from_file(path)
            }
            other => other,
        }
    }

    /// A key that nobody else has: its sessions end with this program, and with each upgrade of it.
    ///
    /// # Errors
    ///
    /// When the kernel has no random numbers, as getrandom(2).
    pub fn random() -> io::Result<Self> {
        let mut key = [0; LEAST_BYTES];
        random::fill(&mut key)?;
        Ok(Self([signer(&key)?].into()))
    }

    /// The value of a cookie of that name for the session `id`.
    pub(super) fn sign(&self, name: &str, id: &SessionId) -> String {
        let tag = self.0.first().map(|key| message(key, name, id).finalize());
        let tag = tag.map(|tag| Base64UrlUnpadded::encode_string(&tag.into_bytes()));
        let id = Base64UrlUnpadded::encode_string(id.as_bytes());
        // There is a key: see from_text.
        format!("{id}.{}", tag.unwrap_or_default())
    }

    /// The session that a cookie's value names, if it is one of ours, and which key vouches for it.
    pub(super) fn verify(&self, name: &str, value: &str) -> Option<(SessionId, usize)> {
        let (id, tag) = value.split_once('.')?;
        if (id.len(), tag.len()) != (ID_CHARS, SIGNATURE_CHARS) {
            return None;
        }
        // Only the one encoding of each value is taken: bits behind the last byte must be zero.
        let id = Base64UrlUnpadded::decode_vec(id).ok()?;
        let tag = Base64UrlUnpadded::decode_vec(tag).ok()?;
        let id = SessionId::from_bytes(id.try_into().ok()?);
        // In a time that says nothing about the right signature.
        let vouches = |key| message(key, name, &id).verify_slice(&tag).is_ok();
        let nth = self.0.iter().position(vouches)?;
        Some((id, nth))
    }
}

fn signer(key: &[u8]) -> io::Result<Signer> {
    Signer::new_from_slice(key).map_err(io::Error::other)
}

/// What is signed: no token has a NUL, so no two cookies say the same.
fn message(key: &Signer, name: &str, id: &SessionId) -> Signer {
    let mut message = key.clone();
    for part in [DOMAIN, b"\0", name.as_bytes(), b"\0", id.as_bytes()] {
        message.update(part);
    }
    message
}

/// Makes the file whole or not at all, unless there is one.
fn create(path: &Path) -> io::Result<()> {
    let mut bytes = [0; LEAST_BYTES];
    random::fill(&mut bytes)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", random::number()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let text = format!(
        "# Signs session cookies; whoever has it can forge them.\n{}\n",
        Base64UrlUnpadded::encode_string(&bytes)
    );
    let written = file.write_all(text.as_bytes());
    let made = written
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => removed,
        made => made.and(removed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "abcdef0123456789abcdef0123456789";

    fn id(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    fn keys(text: &str) -> Keys {
        Keys::from_text(text).unwrap()
    }

    #[test]
    fn what_is_signed_is_known_again_and_nothing_else() {
        let keys = keys(OLD);
        let value = keys.sign("sid", &id(7));
        assert_eq!(value.len(), ID_CHARS + 1 + SIGNATURE_CHARS);
        assert_eq!(keys.verify("sid", &value), Some((id(7), 0)));
        assert_eq!(keys.verify("Sid", &value), None, "of another cookie");
        let others = (0..value.len()).map(|end| value[..end].to_owned());
        let longer = ["", "A", ".", "=", " "].map(|more| format!("{value}{more}"));
        for other in others.chain(longer.into_iter().skip(1)) {
            assert_eq!(keys.verify("sid", &other), None, "{other}");
        }
        // Every other character at every place: forged, or the same bytes written otherwise.
        let characters = (b'!'..=b'~').map(char::from);
        for (at, c) in (0..value.len()).flat_map(|at| characters.clone().map(move |c| (at, c))) {
            let other = format!("{}{c}{}", &value[..at], &value[at + 1..]);
            let fine = (other == value).then_some((id(7), 0));
            assert_eq!(keys.verify("sid", &other), fine, "{other}");
        }
        assert_eq!(keys.verify("sid", &"é".repeat(33)), None);
    }

    #[test]
    fn the_first_key_signs_and_all_vouch() {
        let (old, new) = (keys(OLD), keys(NEW));
        let both = keys(&format!("{NEW}\n{OLD}\n"));
        assert_eq!(both.verify("s", &old.sign("s", &id(1))), Some((id(1), 1)));
        assert_eq!(both.verify("s", &both.sign("s", &id(1))), Some((id(1), 0)));
        assert_eq!(new.verify("s", &both.sign("s", &id(1))), Some((id(1), 0)));
        assert_eq!(new.verify("s", &old.sign("s", &id(1))), None);
        let (one, other) = (Keys::random().unwrap(), Keys::random().unwrap());
        assert_eq!(one.verify("s", &other.sign("s", &id(1))), None);
    }

    #[test]
    fn a_text_is_keys_or_says_why_not() {
        assert_eq!(
            format!("{:?}", keys(&format!("# one\n\n  {OLD}\r\n{NEW}"))),
            "Keys(2)"
        );
        let many = format!("{OLD}\n").repeat(MOST_KEYS + 1);
        let cases = [
            ("", "there is no key"),
            ("\n# nothing\n", "there is no key"),
            (
                "# one\n0123456789abcdef0123456789abcde",
                "line 2: a key has 32",
            ),
            (&many, "more than 16 keys"),
        ];
        for (text, expected) in cases {
            let why = Keys::from_text(text).unwrap_err().to_string();
            assert!(why.contains(expected), "{why}");
            assert!(!why.contains("0123"), "{why}");
        }
    }

    #[test]
    fn a_file_is_made_once_and_for_its_owner() {
        let name = format!("mcluster-keys-{:016x}", random::number());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let path = folder.join("key");
        assert!(Keys::from_file(&path).is_err());
        let makers: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || Keys::from_file_or_new(path).unwrap())
            })
            .collect();
        let made: BTreeSet<_> = makers
            .into_iter()
            .map(|maker| maker.join().unwrap().sign("s", &id(1)))
            .collect();
        assert_eq!(made.len(), 1, "all have the same key");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no drafts");
        fs::write(&path, "# nothing\n").unwrap();
        assert!(Keys::from_file_or_new(&path).is_err(), "left as it is");
        fs::write(&path, "#".repeat(MOST_BYTES as usize + 1)).unwrap();
        assert!(Keys::from_file(&path).is_err());
        fs::write(&path, b"\xff".repeat(40)).unwrap();
        assert!(Keys::from_file(&path).is_err());
        assert!(Keys::from_file(&folder).is_err());
        assert!(Keys::from_file_or_new(folder.join("no/key")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
