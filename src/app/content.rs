//! What a request's body and query say: forms and JSON; and JSON as an answer.
//!
//! Owns the check of what the body claims to be, and the words of its refusal; leaves decoding
//! to `http` and `serde_json`.

use super::{IntoResponse, Request, Response};
use crate::http;
use std::borrow::Cow;
use std::fmt;

/// The most pairs of a form: a body of `&a&a&a..` costs more memory than it has bytes.
const MOST_PAIRS: usize = 1000;

/// Names and values in order, as [`Request::form`] gives them.
pub type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Why a body was not taken for what the handler wanted.
///
/// As an answer it is a status (400, 413, 415, 422) and one line, which names the place but
/// neither what the program expected nor what the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyError {
    status: u16,
    what: &'static str,
    /// Line and column, from 1.
    place: Option<(usize, usize)>,
    /// What would have been taken, for the Accept field of a 415 (RFC 9110 15.5.16).
    wanted: Option<&'static str>,
}

impl BodyError {
    fn new(status: u16, what: &'static str) -> Self {
        Self {
            status,
            what,
            place: None,
            wanted: None,
        }
    }

    /// The status of the answer: 400 malformed, 413 too many, 415 of another type, 422 of another
    /// shape.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Where in the body, as line and column from 1, where that is known.
    pub fn place(&self) -> Option<(usize, usize)> {
        self.place
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        match self.place {
            Some((line, column)) => write!(f, " at line {line}, column {column}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for BodyError {}

impl From<BodyError> for Response {
    fn from(error: BodyError) -> Self {
        let response = Response::refusal(error.status, error);
        match error.wanted {
            Some(wanted) => response.header("Accept", wanted),
            None => response,
        }
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        self.into()
    }
}

impl Request {
    /// The names and values of the query, in order, decoded as a form's fields.
    pub fn queries(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        http::query_pairs(self.query().unwrap_or_default())
    }

    /// The names and values of a form that was posted, in order
    /// (`application/x-www-form-urlencoded`: what an HTML form sends unless told otherwise).
    ///
    /// # Errors
    ///
    /// 415 for a body of another type, 400 where it is no text, 413 for more than 1000 pairs. The
    /// error is an answer: a handler may return it.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, BodyError, Request};
    ///
    /// let app = App::new().post("/order", |request: Request| -> Result<String, BodyError> {
    ///     let wanted = request.form()?;
    ///     let lines = wanted.iter().map(|(item, count)| format!("{count} of {item}\n"));
    ///     Ok(lines.collect())
    /// });
    /// # assert!(app.check().is_ok());
    /// ```
    pub fn form(&self) -> Result<Pairs<'_>, BodyError> {
        const FORM: &str = "application/x-www-form-urlencoded";
        self.expect_type(FORM, |essence| essence.eq_ignore_ascii_case(FORM))?;
        let text = str::from_utf8(self.body()).map_err(|_| BodyError::new(400, "no form"))?;
        let pairs: Pairs<'_> = http::query_pairs(text).take(MOST_PAIRS + 1).collect();
        if pairs.len() > MOST_PAIRS {
            return Err(BodyError::new(413, "a form of too many fields"));
        }
        Ok(pairs)
    }

    /// The first value of `name` in a form that was posted; nothing as well where
    /// [`form`](Self::form) fails. For several fields take that once.
    pub fn form_value(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut pairs = self.form().ok()?.into_iter();
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The value that the body says in JSON (`application/json`, or a type that ends in `+json`).
    ///
    /// # Errors
    ///
    /// 415 for a body of another type, 400 where it is no JSON, 422 where it is of another shape
    /// than `T`. The error is an answer: a handler may return it.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, BodyError, Request, Response};
    ///
    /// let app = App::new().post("/sum", |request: Request| -> Result<Response, BodyError> {
    ///     let numbers: Vec<f64> = request.json()?;
    ///     Ok(Response::json(&numbers.iter().sum::<f64>()))
    /// });
    /// # assert!(app.check().is_ok());
    /// ```
    #[cfg(feature = "json")]
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, BodyError> {
        const JSON: &str = "application/json";
        self.expect_type(JSON, |essence| {
            let suffix = essence.rsplit_once('+').map(|(_, suffix)| suffix);
            essence.eq_ignore_ascii_case(JSON)
                || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"))
        })?;
        serde_json::from_slice(self.body()).map_err(|error| {
            // Its own words would show the client the names of our types, and its values.
            let place = (error.line(), error.column());
            BodyError {
                place: (place.0 > 0).then_some(place),
                ..match error.classify() {
                    serde_json::error::Category::Data => {
                        BodyError::new(422, "JSON of another shape")
                    }
                    _ => BodyError::new(400, "no JSON"),
                }
            }
        })
    }

    /// Whether the body is of a type that `fits` takes, and not compressed besides.
    fn expect_type(
        &self,
        wanted: &'static str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<(), BodyError> {
        let coding = self.header("content-encoding").unwrap_or_default();
        if !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity") {
            return Err(BodyError::new(415, "a compressed body"));
        }
        // The type ends where its parameters begin (RFC 9110 8.3.1).
        let value = self.header("content-type").unwrap_or_default();
        let essence = value.split(|&b| b == b';').next().unwrap_or_default();
        match str::from_utf8(essence.trim_ascii()) {
            Ok(essence) if fits(essence) => Ok(()),
            _ => Err(BodyError {
                wanted: Some(wanted),
                ..BodyError::new(415, "a body of another type")
            }),
        }
    }
}

#[cfg(feature = "json")]
impl Response {
    /// 200 with `value` as JSON. A value that has no form in JSON, such as a map whose keys are no
    /// strings, makes it a 500 and a line in the log.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::Response;
    ///
    /// let response = Response::json(&["a", "b"]);
    /// # assert_eq!(response.status(), 200);
    /// ```
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => Self::bytes(bytes).header("Content-Type", "application/json"),
            Err(error) => {
                log::error!("a handler's value has no form in JSON: {error}; sent 500");
                Self::new(500)
            }
        }
    }
}
