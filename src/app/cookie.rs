//! Cookies: those of a request, and those that a response sets.
//!
//! Owns what a cookie's attributes must be together, so that no browser drops it in silence;
//! leaves the grammar to `http`.

use super::{Request, Response};
use crate::http;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// What browsers keep of a name and a value together, and of an attribute (RFC 6265 6.1 asks for
/// 4096 at least, and they have settled on that); longer ones are dropped by them.
const MOST_BYTES: usize = 4096;
const MOST_ATTRIBUTE_BYTES: usize = 1024;

/// The last second of the year 9999: HTTP's dates have four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// To which requests from other sites a browser adds a cookie (RFC 6265bis 5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// To none.
    Strict,
    /// To links that are followed here, not to forms, images or scripts of other sites.
    Lax,
    /// To all. Only of a cookie that is [`secure`](Cookie::secure).
    None,
}

/// A cookie to be set by [`Response::cookie`] (RFC 6265 4.1).
///
/// It is for the whole site (`Path=/`), out of reach of scripts (`HttpOnly`), not sent along with
/// forms of other sites (`SameSite=Lax`), and gone when the browser is closed. Behind TLS make it
/// [`secure`](Self::secure) as well, and name it `__Host-..`: then nobody else can set it.
///
/// # Examples
///
/// ```
/// use mcluster::{Cookie, Response};
/// use std::time::Duration;
///
/// let cookie = Cookie::new("__Host-id", "31d4d96e407aad42")
///     .secure(true)
///     .max_age(Duration::from_secs(3600));
/// assert!(cookie.check().is_ok());
/// let welcome = Response::text("welcome\n").cookie(cookie);
/// assert_eq!(welcome.status(), 200);
/// // An attribute smuggled in is none.
/// assert!(Cookie::new("id", "7; Domain=example").check().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Cookie {
    name: Cow<'static, str>,
    value: String,
    path: Option<Cow<'static, str>>,
    domain: Option<Cow<'static, str>>,
    max_age: Option<Duration>,
    expires: Option<SystemTime>,
    http_only: bool,
    secure: bool,
    same_site: Option<SameSite>,
}

impl Cookie {
    /// A cookie with that name and value, as strict as can be without TLS.
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            path: Some("/".into()),
            domain: None,
            max_age: None,
            expires: None,
            http_only: true,
            secure: false,
            same_site: Some(SameSite::Lax),
        }
    }

    /// Has the browser forget the cookie of that name. Give it the path and domain that the
    /// cookie was set with, and make it secure if that was, or it is another one.
    pub fn removal(name: impl Into<Cow<'static, str>>) -> Self {
        // By date: a Max-Age of zero is outside the grammar.
        Self::new(name, "").expires(SystemTime::UNIX_EPOCH)
    }

    /// For this path and those below it, in place of `/`.
    #[must_use]
    pub fn path(mut self, path: impl Into<Cow<'static, str>>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// For this host and all below it; without it for the host alone that set the cookie.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<Cow<'static, str>>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Kept so long, in whole seconds; none at all is as if it had expired. It goes before
    /// [`expires`](Self::expires).
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Kept until then, by the browser's clock.
    #[must_use]
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = Some(at);
        self
    }

    /// Whether it is out of reach of scripts; it is unless said otherwise.
    #[must_use]
    pub fn http_only(mut self, yes: bool) -> Self {
        self.http_only = yes;
        self
    }

    /// Whether it is sent over TLS alone; it is not unless said otherwise.
    #[must_use]
    pub fn secure(mut self, yes: bool) -> Self {
        self.secure = yes;
        self
    }

    /// To which requests from other sites it is added; `Lax` unless said otherwise. `None` leaves
    /// the choice to the browser.
    #[must_use]
    pub fn same_site(mut self, rule: impl Into<Option<SameSite>>) -> Self {
        self.same_site = rule.into();
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a browser would take the cookie.
    ///
    /// # Errors
    ///
    /// Says what is against the grammar (RFC 6265 4.1.1), against the promise of a name's prefix
    /// (`__Secure-`, `__Host-`: RFC 6265bis 4.1.3), or longer than is kept.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { name, value, .. } = self;
        let path = self.path.as_deref();
        let domain = self.domain.as_deref();
        let begins = |prefix: &str| {
            let start = name.get(..prefix.len());
            // In any case: browsers compare so, since servers may.
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let long = |attribute: Option<&str>| {
            attribute.is_some_and(|value| value.len() > MOST_ATTRIBUTE_BYTES)
        };
        if !http::is_token(name.as_bytes()) {
            Err("the name is no token")
        } else if !http::is_cookie_value(value.as_bytes()) {
            Err("the value has a character that must be encoded")
        } else if path.is_some_and(|path| !http::is_cookie_path(path.as_bytes())) {
            Err("the path does not begin with a slash, or has a character that ends it")
        } else if domain.is_some_and(|domain| !http::is_cookie_domain(domain.as_bytes())) {
            Err("the domain is no name of a host")
        } else if name.len() + value.len() > MOST_BYTES || long(path) || long(domain) {
            Err("it is longer than browsers keep")
        } else if self.same_site == Some(SameSite::None) && !self.secure {
            Err("SameSite=None is for secure cookies alone")
        } else if (begins("__Secure-") || begins("__Host-")) && !self.secure {
            Err("the name promises a secure cookie")
        } else if begins("__Host-") && (domain.is_some() || path != Some("/")) {
            Err("the name promises Path=/ and no Domain")
        } else {
            Ok(())
        }
    }

    /// The value of the Set-Cookie field.
    fn field(&self) -> String {
        let mut field = format!("{}={}", self.name, self.value);
        let mut attribute = |name: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = write!(field, "; {name}={value}");
        };
        if let Some(path) = &self.path {
            attribute("Path", path);
        }
        if let Some(domain) = &self.domain {
            attribute("Domain", domain);
        }
        let mut expires = self.expires;
        match self.max_age.map(|age| age.as_secs()) {
            None => {}
            Some(0) => expires = Some(SystemTime::UNIX_EPOCH),
            Some(seconds) => attribute("Max-Age", &seconds.to_string()),
        }
        if let Some(at) = expires {
            // What HTTP's dates cannot say is cut to what they can.
            let seconds = at
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            let since = Duration::from_secs(seconds.min(LAST_SECOND));
            attribute(
                "Expires",
                &httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since),
            );
        }
        if let Some(rule) = self.same_site {
            attribute(
                "SameSite",
                match rule {
                    SameSite::Strict => "Strict",
                    SameSite::Lax => "Lax",
                    SameSite::None => "None",
                },
            );
        }
        if self.secure {
            field.push_str("; Secure");
        }
        if self.http_only {
            field.push_str("; HttpOnly");
        }
        field
    }
}

impl Request {
    /// The cookies that the browser sent, in order, as they stand: nothing is decoded, quotes are
    /// kept (RFC 6265 5.4). They are the client's to choose, so believe none that is not signed or
    /// looked up.
    pub fn cookies(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.header_all("cookie").flat_map(http::cookie_pairs)
    }

    /// The value of the first cookie of that name, which is the one with the longest path
    /// (RFC 6265 5.4). Names differ by case.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, Cookie, Request, Response};
    ///
    /// let app = App::new().get("/", |request: Request| {
    ///     let visits = request.cookie("visits").and_then(|n| n.parse().ok()).unwrap_or(0_u32);
    ///     let visits = visits.saturating_add(1);
    ///     Response::text(format!("visit {visits}\n"))
    ///         .cookie(Cookie::new("visits", visits.to_string()))
    /// });
    /// # assert!(app.check().is_ok());
    /// ```
    pub fn cookie(&self, name: &str) -> Option<Cow<'_, str>> {
        self.cookies()
            .find_map(|(known, value)| (known == name).then_some(value))
    }
}

impl Response {
    /// The same with one cookie to set more. One that [`Cookie::check`] refuses makes the answer
    /// a 500 and a line in the log, as a bad field does.
    #[must_use]
    pub fn cookie(self, cookie: Cookie) -> Self {
        match cookie.check() {
            Ok(()) => self.header("Set-Cookie", cookie.field()),
            Err(why) => {
                log::error!(
                    "a handler set a cookie {:?} that cannot be sent: {why}; sent 500",
                    cookie.name
                );
                Self::new(500)
            }
        }
    }

    /// Whether it sets a cookie of that name.
    pub(crate) fn sets_cookie(&self, name: &str) -> bool {
        self.values("set-cookie").any(|cookie| {
            let known = cookie.split(|&byte| byte == b'=').next();
            known.is_some_and(|known| known.trim_ascii() == name.as_bytes())
        })
    }
}
