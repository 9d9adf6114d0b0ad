//! The page of a directory that has none of its own.

use super::path;
use crate::sorted::sort_by;
use crate::sys::beneath::Kind;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The most names that are looked at for a page: it is made on the worker's loop, where others wait.
pub(super) const MOST: usize = 1000;

/// What is in a directory: a name, and what it leads to.
pub(super) type Name = (OsString, Kind);

/// The page: directories first, each kind sorted by name. Only what can be asked for is on it.
/// `more` is whether the directory has names that were not looked at.
pub(super) fn page(place: &[u8], mut names: Vec<Name>, dotfiles: bool, more: bool) -> String {
    let shown = |(name, kind): &Name| {
        let hidden = name.as_bytes().first() == Some(&b'.');
        *kind != Kind::Other && (dotfiles || !hidden)
    };
    names.retain(shown);
    sort_by(&mut names, |(one, kind), (other, other_kind)| {
        let directory = |kind: &Kind| *kind != Kind::Directory;
        (directory(kind), one).cmp(&(directory(other_kind), other))
    });
    let mut title = String::from("/");
    if !place.is_empty() {
        title += &escaped(&String::from_utf8_lossy(place));
        title.push('/');
    }
    let mut page = format!(
        "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>Index of {title}</title>\n\
         </head>\n<body>\n<h1>Index of {title}</h1>\n<ul>\n"
    );
    if !place.is_empty() {
        page += "<li><a href=\"../\">../</a></li>\n";
    }
    for (name, kind) in &names {
        let slash = if *kind == Kind::Directory { "/" } else { "" };
        page += "<li><a href=\"";
        path::encode(&mut page, name.as_bytes());
        page += slash;
        page += "\">";
        page += &escaped(&name.to_string_lossy());
        page += slash;
        page += "</a></li>\n";
    }
    if more {
        page += "</ul>\n<p>There are more than ";
        page += &MOST.to_string();
        page += " names here; these are some of them.</p>\n";
    } else {
        page += "</ul>\n";
    }
    page += "</body>\n</html>\n";
    page
}

/// Text as it may stand in a page.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // A name may have any; none has a meaning in a page.
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn names_are_sorted_and_harmless() {
        let name = |bytes: &[u8], kind| (OsStr::from_bytes(bytes).to_owned(), kind);
        let names = vec![
            name(b"b.txt", Kind::Regular),
            name(b"<script>&\"'", Kind::Regular),
            name(b"javascript:alert(1)", Kind::Regular),
            name(b"z", Kind::Directory),
            name(b"a", Kind::Directory),
            name(b".hidden", Kind::Regular),
            name(b"fifo", Kind::Other),
            name(b"\xff\n", Kind::Regular),
        ];
        let text = page(b"<x>", names.clone(), false, false);
        assert!(
            text.contains("<title>Index of /&lt;x&gt;/</title>"),
            "{text}"
        );
        let links: Vec<_> = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("<li><a href=\"")?
                    .strip_suffix("</a></li>")
            })
            .collect();
        assert_eq!(
            links,
            [
                "../\">../",
                "a/\">a/",
                "z/\">z/",
                "%3Cscript%3E%26%22%27\">&lt;script&gt;&amp;&quot;&#39;",
                "b.txt\">b.txt",
                "javascript%3Aalert%281%29\">javascript:alert(1)",
                "%FF%0A\">\u{fffd}\u{fffd}",
            ]
        );
        let text = page(b"", names, true, true);
        assert!(text.contains(".hidden") && text.contains("more than 1000 names"));
        assert!(text.contains("Index of /</h1>") && !text.contains("../"));
    }
}
