//! The fields that have browsers be careful with an answer. Owns which ones and their values.

use super::{App, NOSNIFF, Response};

/// What the OWASP Secure Headers Project proposes for any answer, without knowing whether there is
/// TLS (so no Strict-Transport-Security) or what a page loads (so no more of a policy than who may
/// frame it).
const FIELDS: [(&str, &str); 8] = [
    NOSNIFF,
    ("X-Frame-Options", "DENY"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Permitted-Cross-Domain-Policies", "none"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

impl App {
    /// Adds to every answer, the server's own included, the fields that have browsers be careful
    /// with it: no guessing of types, no framing, no Referer, nothing across origins. What a handler
    /// has set itself stays as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, Response};
    ///
    /// let app = App::new()
    ///     .get("/", |_| "hello\n")
    ///     .get("/shared.js", |_| {
    ///         Response::text("1").header("Cross-Origin-Resource-Policy", "cross-origin")
    ///     })
    ///     .secure_headers();
    /// # assert!(app.check().is_ok());
    /// ```
    #[must_use]
    pub fn secure_headers(mut self) -> Self {
        self.secure = true;
        self.wrap(|request, next| next.run(request).map(add))
    }
}

/// The answer with those that it does not have.
pub(super) fn add(response: Response) -> Response {
    let one = |response: Response, (name, value): &(&str, &str)| response.or_header(name, value);
    FIELDS.iter().fold(response, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_sets_stays() {
        let set = Response::text("").header("x-frame-options", "SAMEORIGIN");
        let same = set.or_header("X-Frame-Options", "DENY");
        let fields = String::from_utf8(same.fields().to_vec()).unwrap();
        assert_eq!(fields, "x-frame-options: SAMEORIGIN\r\n");
        let more = same.or_header("X-Frame", "1").or_header("X-Frame", "2");
        let fields = String::from_utf8(more.fields().to_vec()).unwrap();
        assert!(fields.ends_with("\r\nX-Frame: 1\r\n"), "{fields}");
    }
}
