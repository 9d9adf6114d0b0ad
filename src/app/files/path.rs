//! From the path of a request to the path of a file, and back.
//!
//! Escapes are undone once and component by component, so that no escaped slash makes a component;
//! what a component may be is then decided on its bytes. No file system is asked.

use crate::http::percent_decode;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Below the directory, without a slash at either end; empty for the directory itself. Bytes,
    /// for names need not be UTF-8.
    pub(super) path: Vec<u8>,
    /// Whether it ended in a slash, and so can only be a directory.
    pub(super) slash: bool,
}

/// Reads what stands behind the prefix: nothing, or `/` and components. `None` is for what names no
/// file, whatever there is: `.` and `..`, nothing between two slashes, a NUL or a slash inside a
/// component, and names that begin with a dot unless those are served.
pub(super) fn wanted(encoded: &str, dotfiles: bool) -> Option<Wanted> {
    let mut path = Vec::with_capacity(encoded.len());
    let mut slash = false;
    let mut components = encoded.split('/').skip(1).peekable();
    while let Some(component) = components.next() {
        if component.is_empty() && components.peek().is_none() {
            slash = true;
            break;
        }
        let name = percent_decode(component)?;
        let hidden = name.first() == Some(&b'.');
        if !is_component(&name) || (hidden && !dotfiles) {
            return None;
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
    }
    Some(Wanted { path, slash })
}

fn is_component(name: &[u8]) -> bool {
    let special = name.is_empty() || name == b"." || name == b"..";
    !special && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Whether a setting is the name of a file.
pub(super) fn is_name(name: &str) -> bool {
    is_component(name.as_bytes())
}

/// The same with a component or an ending behind it.
pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return name.to_vec();
    }
    [path, b"/", name].concat()
}

/// Appends a path so that it can stand in a URL: all but the unreserved characters and the slash
/// are escaped. A colon is too, for what comes before one could be taken for a scheme.
pub(super) fn encode(out: &mut String, path: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(encoded: &str) -> Option<(String, bool)> {
        let wanted = wanted(encoded, false)?;
        let path = wanted.path.iter().map(|&byte| char::from(byte));
        Some((path.collect(), wanted.slash))
    }

    #[test]
    fn paths_that_name_a_file() {
        for (encoded, expected, slash) in [
            ("", "", false),
            ("/", "", true),
            ("/a", "a", false),
            ("/a/", "a", true),
            ("/a/b.c", "a/b.c", false),
            ("/a%20b", "a b", false),
            ("/%41", "A", false),
            // Undone once.
            ("/%2541", "%41", false),
            ("/%252e%252e/a", "%2e%2e/a", false),
            ("/%252fa", "%2fa", false),
            // Ordinary bytes.
            ("/a\\b", "a\\b", false),
            ("/a%5C..%5Cb", "a\\..\\b", false),
            ("/%ff%C0%AE", "\u{ff}\u{c0}\u{ae}", false),
            ("/a..b/c.", "a..b/c.", false),
            ("/%0a", "\n", false),
        ] {
            let expected = Some((expected.to_owned(), slash));
            assert_eq!(path(encoded), expected, "{encoded}");
        }
    }

    #[test]
    fn paths_that_name_none() {
        for encoded in [
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/./a",
            "/a/..",
            "/a/../b",
            "/../a",
            "/%2e",
            "/%2e%2e",
            "/.%2E/a",
            "/a%2fb",
            "/%2F",
            "/a%2f..%2fb",
            "/..%2fa",
            "/a%00",
            "/%00",
            "/a%00.html",
            "/.git",
            "/a/.env",
            "/...",
            "/%2egit",
            "/a%",
            "/%zz",
            "/a/%2",
        ] {
            assert_eq!(path(encoded), None, "{encoded}");
        }
        let hidden = wanted("/a/.well-known/x", true).unwrap();
        assert_eq!(hidden.path, b"a/.well-known/x");
        for encoded in ["/.", "/..", "/a/..", "/%2e%2e/a"] {
            assert_eq!(wanted(encoded, true), None, "{encoded}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leads_anywhere_else(
            text in "(/|\\.|%2[eEfF]|%00|%5[cC]|%25|\\\\|[a-c]|%[0-9a-f]{2}){0,12}",
            dotfiles in any::<bool>(),
        ) {
            let Some(wanted) = wanted(&format!("/{text}"), dotfiles) else {
                return Ok(());
            };
            if wanted.path.is_empty() {
                return Ok(());
            }
            for name in wanted.path.split(|&byte| byte == b'/') {
                prop_assert!(is_component(name) && !name.contains(&0));
                prop_assert!(dotfiles || name[0] != b'.');
            }
            // Written anew it is read as the same.
            let mut again = String::from("/");
            encode(&mut again, &wanted.path);
            let again = super::wanted(&again, dotfiles).map(|wanted| wanted.path);
            prop_assert_eq!(again, Some(wanted.path));
        }
    }

    #[test]
    fn names_in_urls() {
        let mut out = String::new();
        encode(&mut out, b"a/b c\\:%?#\"<\xff~");
        assert_eq!(out, "a/b%20c%5C%3A%25%3F%23%22%3C%FF~");
        assert!(is_name("index.html") && !is_name("a/b") && !is_name("..") && !is_name(""));
        assert_eq!(
            (join(b"", b"x"), join(b"a", b"x")),
            (b"x".to_vec(), b"a/x".to_vec())
        );
    }
}
