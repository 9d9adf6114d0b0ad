//! A page that stands alone: one file with its style in it, no script, nothing to load.
//!
//! Owns how text becomes markup. Names of workers, addresses and outcomes come from others: they go
//! through [`escape`] or [`table`], and a security policy in the page forbids what would slip through.

use super::words::plain;

/// What is allowed: the style in the page.
const POLICY: &str = include_str!("policy.txt").trim_ascii();

/// Light and dark by the reader's wish. The colours of series are told apart by people who do not see
/// red, green or blue; all text has a contrast of at least 4.5 to what is behind it.
const STYLE: &str = "\
:root {
  color-scheme: light dark;
  --page: #f6f6f4; --card: #fff; --ink: #1d1f23; --quiet: #5a5f68; --line: #dfdfda; --mark: #6f747d;
  --warn: #7a4600; --warn-card: #fff6e5;
  --s0: #0068b0; --s1: #c24e00; --s2: #007a5a; --s3: #a03a76; --s4: #6b5b00; --s5: #4a4f59;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131519; --card: #1a1d22; --ink: #e4e6ea; --quiet: #a3a9b4; --line: #33373f; --mark: #8d939e;
    --warn: #f0be74; --warn-card: #2b2415;
    --s0: #5fb3f0; --s1: #f39a4a; --s2: #3ac79b; --s3: #e894c2; --s4: #e3d54c; --s5: #b5bcc7;
  }
}
* { box-sizing: border-box; }
html { font: 16px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; background: var(--page); color: var(--ink); }
body { margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2rem) 2.5rem; max-width: 60rem; }
h1, h2, p, dl, dd, figure { margin: 0; }
h1 { font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
a { color: inherit; }
.quiet { color: var(--quiet); }
.warning { max-width: none; margin: 1rem 0; padding: .7rem 1rem; color: var(--warn); background: var(--warn-card); border-left: 4px solid; border-radius: 4px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.figures > div { padding: .7rem .9rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px; min-width: 0; }
.figures dt { color: var(--quiet); font-size: .85rem; }
.figures dd { font-size: 1.35rem; font-weight: 650; line-height: 1.3; overflow-wrap: anywhere; }
.figures small { display: block; color: var(--quiet); font-size: .8rem; font-weight: 400; }
.card { margin: .75rem 0; padding: .75rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; }
.plot { display: block; width: 100%; min-width: 32rem; height: auto; }
.plot text { font-family: inherit; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .75rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--quiet); font-size: .85rem; font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; min-width: 7rem; overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
footer { margin-top: 2rem; color: var(--quiet); font-size: .85rem; }
@media (max-width: 32rem) { .figures { grid-template-columns: 1fr 1fr; } }
@media print { .card { break-inside: avoid; } }
";

/// A whole page around `body`, which is markup; `title` is text.
pub(crate) fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n{body}\n</body>\n</html>\n"
    )
}

/// A text as markup, in an element or in the quotation marks of an attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A table of texts. The first cell of a row says what the row is about; columns in which all else begins
/// with a digit stand on the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        let starts = |cell: &String| {
            let cell = cell.trim_start_matches(['-', '+']);
            cell.is_empty() || cell == "–" || cell.starts_with(|c: char| c.is_ascii_digit())
        };
        column > 0 && cells.all(starts)
    };
    let class = |column: usize| match is_number(column) {
        true => " class=\"number\"",
        false => "",
    };
    let mut text = "<div class=\"card\" tabindex=\"0\"><table>\n<thead><tr>".to_owned();
    for (column, name) in head.iter().enumerate() {
        let (class, name) = (class(column), escape(name));
        text += &format!("<th scope=\"col\"{class}>{name}</th>");
    }
    text += "</tr></thead>\n<tbody>\n";
    for row in rows {
        text += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let (class, cell) = (class(column), escape(cell));
            text += &match column {
                0 => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td{class}>{cell}</td>"),
            };
        }
        text += "</tr>\n";
    }
    text + "</tbody>\n</table></div>\n"
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Panics unless every element is closed in its order and every attribute is quoted.
    pub(in super::super) fn well_formed(markup: &str) {
        const VOID: [&str; 1] = ["meta"];
        let mut open: Vec<&str> = Vec::new();
        let mut rest = markup;
        while let Some(at) = rest.find('<') {
            let text = &rest[..at];
            assert!(
                open.last() == Some(&"style") || !text.contains('>'),
                "{text}"
            );
            for entity in text.split('&').skip(1) {
                let name = entity.split(';').next().unwrap();
                assert!(
                    ["amp", "lt", "gt", "quot", "apos", "#39"].contains(&name),
                    "&{entity}"
                );
            }
            let end = at + rest[at..].find('>').expect("an end of the tag");
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            assert!(
                !tag.contains('<') && tag.matches('"').count().is_multiple_of(2),
                "<{tag}>"
            );
            let name = tag.split([' ', '\n', '/']).find(|part| !part.is_empty());
            let name = name.expect("a name");
            match tag {
                _ if tag.starts_with('!') || tag.ends_with('/') || VOID.contains(&name) => {}
                _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "…{rest:.60}"),
                _ => open.push(name),
            }
        }
        assert_eq!(open, [""; 0]);
    }

    #[test]
    fn a_page_stands_alone() {
        let page = page("a & b", "<p>c</p>");
        well_formed(&page);
        assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
        assert!(page.contains("<title>a &amp; b</title>"));
        for strange in [
            "http:", "https:", "//", "url(", "@import", "<script", "<link",
        ] {
            assert!(!page.contains(strange), "{strange}");
        }
    }

    #[test]
    fn hostile_texts_stay_texts() {
        assert_eq!(
            escape("<b a='1' c=\"2\">&\0\u{202e}é"),
            "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\u{fffd}\u{fffd}é"
        );
    }

    #[test]
    fn numbers_stand_on_the_right() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["<w>", "1,000", "x"]), row(["2", "–", "3"])];
        let text = table(&["who", "how many", "<why>"], &rows);
        well_formed(&text);
        assert!(text.contains("<th scope=\"col\" class=\"number\">how many</th>"));
        assert!(
            text.contains(
                "<th scope=\"row\">&lt;w&gt;</th><td class=\"number\">1,000</td><td>x</td>"
            )
        );
        well_formed(&table(&[], &[]));
        well_formed(&table(&["a"], &[row(["1", "2", "3"]), Vec::new()]));
    }
}
