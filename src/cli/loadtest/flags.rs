//! The options of `mcluster loadtest`, and what they ask of the load generator.
//!
//! Their long names are those of the npm tool loadtest, each with one in the command's own spelling
//! beside it. Leaves single words to `words`, and what a threshold means to `verdict`.

use super::faults::Faults;
use super::words::{
    self, body_file, cookie, header, latency, method, millis, percent, rate, seconds, up_to,
};
use crate::loadtest::Loadtest;
use crate::{Error, Result};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More than anybody waits for.
const MOST_REQUESTS: u64 = 1_000_000_000_000;

/// A body is kept in memory: 1 GiB.
const LARGEST_BODY: u64 = 1 << 30;

/// Send requests to a server, and say what came of them
#[derive(Args, Debug)]
pub(in crate::cli) struct Options {
    /// What to ask for: http://HOST[:PORT][/PATH], or ws:// for echo round trips
    #[arg(required_unless_present = "spawn")]
    pub(super) url: Option<String>,

    /// End after exactly so many requests
    #[arg(
        short = 'n', long = "maxRequests", visible_alias = "max-requests", value_name = "N",
        allow_negative_numbers = true, value_parser = up_to::<MOST_REQUESTS>
    )]
    pub(super) max_requests: Option<u64>,

    /// Connections at once, at most, over all threads
    #[arg(
        short = 'c', long, value_name = "N", default_value = "10",
        allow_negative_numbers = true, value_parser = up_to::<65_000>
    )]
    concurrency: u64,

    /// Send nothing after so many seconds, or a time such as 500ms; with --rps: plan nothing after it
    /// [default: 10, where there is no --maxRequests]
    #[arg(
        short = 't', long = "maxSeconds", visible_alias = "max-seconds", value_name = "TIME",
        allow_negative_numbers = true, value_parser = seconds
    )]
    pub(super) max_seconds: Option<Duration>,

    /// Keep connections from request to request
    #[arg(short = 'k', long, visible_alias = "keep-alive", alias = "agent")]
    keepalive: bool,

    /// Send so many requests a second by a schedule, not as fast as they are answered; may have a
    /// fraction
    #[arg(
        long, visible_aliases = ["requestsPerSecond", "requests-per-second"], value_name = "N",
        allow_negative_numbers = true, value_parser = rate
    )]
    rps: Option<f64>,

    /// So many requests on their way on each connection, which is kept
    #[arg(
        long, value_name = "N", default_value = "1",
        allow_negative_numbers = true, value_parser = up_to::<1024>
    )]
    pipeline: u64,

    /// The method [default: GET, or the one that goes with the body]
    #[arg(short = 'm', long, value_name = "METHOD", value_parser = method)]
    method: Option<String>,

    /// Send a header (repeatable)
    #[arg(short = 'H', long, visible_alias = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// Send a cookie (repeatable)
    #[arg(short = 'C', long, visible_alias = "cookie", value_name = "NAME=VALUE", value_parser = cookie)]
    cookies: Vec<String>,

    /// The media type of the body [default: text/plain]
    #[arg(short = 'T', long = "contentType", visible_alias = "content-type", value_name = "TYPE", value_parser = crate::cli::values::field_value)]
    content_type: Option<String>,

    /// POST this text
    #[arg(
        short = 'P',
        long = "postBody",
        visible_alias = "post-body",
        value_name = "TEXT",
        group = "body",
        allow_hyphen_values = true
    )]
    post_body: Option<String>,

    /// PATCH with this text
    #[arg(
        short = 'A',
        long = "patchBody",
        visible_alias = "patch-body",
        value_name = "TEXT",
        group = "body",
        allow_hyphen_values = true
    )]
    patch_body: Option<String>,

    /// Send this text, by POST or by --method
    #[arg(long, value_name = "TEXT", group = "body", allow_hyphen_values = true)]
    data: Option<String>,

    /// POST what is in this file
    #[arg(short = 'p', long = "postFile", visible_alias = "post-file", value_name = "PATH", group = "body", value_parser = body_file)]
    post_file: Option<PathBuf>,

    /// PUT what is in this file
    #[arg(short = 'u', long = "putFile", visible_alias = "put-file", value_name = "PATH", group = "body", value_parser = body_file)]
    put_file: Option<PathBuf>,

    /// PATCH with what is in this file
    #[arg(short = 'a', long = "patchFile", visible_alias = "patch-file", value_name = "PATH", group = "body", value_parser = body_file)]
    patch_file: Option<PathBuf>,

    /// Give up a request after so many milliseconds, or a time such as 1.5s; 0 is never
    #[arg(
        short = 'd', long, value_name = "TIME", default_value = "0",
        allow_negative_numbers = true, value_parser = millis
    )]
    timeout: Duration,

    /// Threads, of one event loop each [default: half of the CPUs]
    #[arg(
        long, value_name = "N",
        allow_negative_numbers = true, value_parser = up_to::<1024>
    )]
    cores: Option<u64>,

    /// Go on after errors, as it always does
    #[arg(short = 'r', long)]
    recover: bool,

    /// Print nothing but what was asked for by --json or --csv, and errors
    #[arg(long)]
    pub(super) quiet: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub(super) json: bool,

    /// Print what happened in each stretch of the run as comma-separated values
    #[arg(long)]
    pub(super) csv: bool,

    /// Write a page with plots to this file
    #[arg(long, value_name = "PATH")]
    pub(super) html: Option<PathBuf>,

    /// Exit with 7 when 99 of 100 answers do not come within this time
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = latency)]
    pub(super) max_p99: Option<Duration>,

    /// Exit with 7 when more requests than this fail, instead of with 1 when any does
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, value_parser = percent)]
    pub(super) max_errors: Option<f64>,

    /// Exit with 7 when there are fewer answers a second
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = rate)]
    pub(super) min_rps: Option<f64>,

    #[command(flatten)]
    pub(super) faults: Faults,
}

/// A body's bytes, or where they are.
enum Body<'a> {
    Text(&'a str),
    File(&'a Path),
}

impl Options {
    /// The load test that they ask for. A server that is started may still complete its URL.
    ///
    /// # Errors
    ///
    /// When the file of the body cannot be read, or is too large.
    pub(super) fn plan(&self) -> Result<Loadtest> {
        let mut plan = Loadtest::new(self.url.as_deref().unwrap_or_default())
            .concurrency(self.concurrency as usize)
            .keep_alive(self.keepalive)
            .pipeline(self.pipeline as usize);
        let (body, method) = self.body();
        if let Some(method) = self.method.as_deref().or(method) {
            plan = plan.method(method);
        }
        match body {
            None => {}
            Some(Body::Text(text)) => plan = plan.body(text),
            Some(Body::File(path)) => {
                let bytes = words::body(path, LARGEST_BODY).map_err(|error| {
                    Error::Settings(format!("the body: {}: {error}", path.display()))
                })?;
                plan = plan.body(bytes);
            }
        }
        if let Some(requests) = self.max_requests {
            plan = plan.requests(requests);
        }
        if let Some(time) = self.max_seconds {
            plan = plan.time(time);
        }
        if let Some(rate) = self.rps {
            plan = plan.rate(rate);
        }
        for (name, value) in &self.headers {
            plan = plan.header(name, value);
        }
        for pair in &self.cookies {
            plan = plan.cookie(pair);
        }
        if let Some(media_type) = &self.content_type {
            plan = plan.content_type(media_type);
        }
        if !self.timeout.is_zero() {
            plan = plan.timeout(self.timeout);
        }
        if let Some(cores) = self.cores {
            plan = plan.cores(cores as usize);
        }
        Ok(plan)
    }

    /// The body, and the method that goes with it.
    fn body(&self) -> (Option<Body<'_>>, Option<&'static str>) {
        let texts = [
            (&self.post_body, Some("POST")),
            (&self.patch_body, Some("PATCH")),
            (&self.data, None),
        ];
        let files = [
            (&self.post_file, "POST"),
            (&self.put_file, "PUT"),
            (&self.patch_file, "PATCH"),
        ];
        let texts = texts.into_iter().filter_map(|(text, method)| {
            let text = text.as_deref()?;
            Some((Some(Body::Text(text)), method))
        });
        let files = files.into_iter().filter_map(|(path, method)| {
            let path = path.as_deref()?;
            Some((Some(Body::File(path)), Some(method)))
        });
        texts.chain(files).next().unwrap_or((None, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &str) -> std::result::Result<Options, clap::Error> {
        let words = words.split_whitespace();
        Words::try_parse_from(["loadtest"].into_iter().chain(words)).map(|words| words.options)
    }

    fn plan(words: &str) -> Loadtest {
        options(words).unwrap().plan().unwrap()
    }

    #[test]
    fn the_url_stands_anywhere() {
        for words in [
            "http://h/ -n 5 -c 2 -k",
            "-n 5 http://h/ -c 2 --keepalive",
            "--max-requests 5 --concurrency 2 --keep-alive http://h/",
            "--maxRequests=5 -c2 --agent http://h/",
        ] {
            let plan = plan(words);
            assert_eq!(
                (plan.url.as_str(), plan.requests, plan.concurrency),
                ("http://h/", Some(5), 2),
                "{words}"
            );
            assert!(plan.keep_alive, "{words}");
        }
        assert!(options("").is_err() && options("http://a http://b").is_err());
    }

    #[test]
    fn what_is_not_said_is_as_the_npm_tool_has_it() {
        let plan = plan("u");
        assert_eq!((plan.requests, plan.time), (None, None));
        assert_eq!(plan.limit(), Some(Duration::from_secs(10)));
        assert_eq!((plan.concurrency, plan.pipeline), (10, 1));
        assert!(plan.rate.is_none() && plan.timeout.is_none() && plan.cores.is_none());
        assert!(plan.method.is_none() && plan.body.is_empty() && !plan.keep_alive);
    }

    #[test]
    fn both_spellings_of_every_name() {
        let camel = "u --maxSeconds 2 --requestsPerSecond 0.5 --headers a:b --cookies c=d \
            --contentType t/x --postBody hi --timeout 100 --cores 2 --recover --quiet --pipeline 3";
        let kebab = "u --max-seconds 2s --requests-per-second 0.5 --header a:b --cookie c=d \
            --content-type t/x --post-body hi -d 100ms --cores 2 -r --quiet --pipeline 3";
        let short = "u -t 2 --rps 0.5 -H a:b -C c=d -T t/x -P hi -d 0.1s --cores 2 --pipeline 3";
        let all = [camel, kebab, short].map(|words| format!("{:?}", plan(words)));
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
        let plan = plan(camel);
        assert_eq!(plan.method.as_deref(), Some("POST"));
        assert_eq!(plan.body, b"hi");
        assert!(plan.keep_alive, "which goes with a pipeline");
    }

    #[test]
    fn bodies_have_their_methods() {
        let file = std::env::temp_dir().join(format!("mcluster-body-{}", std::process::id()));
        std::fs::write(&file, b"\x00\xff\n").unwrap();
        let file = file.display().to_string();
        let cases = [
            ("-P a".to_owned(), Some("POST")),
            ("-A a".to_owned(), Some("PATCH")),
            ("--data a".to_owned(), None),
            ("--data -a".to_owned(), None),
            (format!("-p {file}"), Some("POST")),
            (format!("-u {file}"), Some("PUT")),
            (format!("-a {file}"), Some("PATCH")),
            ("-m delete -P a".to_owned(), Some("DELETE")),
            ("-m QUERY --data a".to_owned(), Some("QUERY")),
        ];
        for (words, method) in cases {
            let plan = plan(&format!("u {words}"));
            assert_eq!(plan.method.as_deref(), method, "{words}");
            match words.contains(&file) {
                true => assert_eq!(plan.body, b"\x00\xff\n"),
                false => assert!(plan.body.ends_with(b"a"), "{words}"),
            }
        }
        std::fs::remove_file(&file).unwrap();
        let gone = options(&format!("u -p {file}")).unwrap().plan();
        let error = gone.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(&file), "{error}");
    }

    #[test]
    fn nonsense_is_refused_with_what_would_do() {
        let cases = [
            ("u -n 0", "from 1 to"),
            ("u -n -5", "from 1 to"),
            ("u -n many", "--maxRequests"),
            ("u -c 0", "from 1 to 65000"),
            ("u -t 0", "above 0"),
            ("u -t -1", "above 0"),
            ("u -t NaN", "above 0"),
            ("u --rps 0", "0.001"),
            ("u --rps NaN", "0.001"),
            ("u --rps -1", "0.001"),
            ("u --timeout -1", "above 0"),
            ("u --pipeline 0", "from 1 to 1024"),
            ("u --cores 0", "from 1 to 1024"),
            ("u -p body.js", "is a program"),
            ("u -P a -u b", "cannot be used with"),
            ("u --json --csv", "cannot be used with"),
            ("u --max-p99 50", "unit"),
            ("u --max-errors 101", "percent"),
            ("u --min-rps 0", "0.001"),
            ("u -H x", "NAME:VALUE"),
            ("u -C x", "NAME=VALUE"),
            ("u --insecure", "--insecure"),
            ("u -R gen", "-R"),
            ("u --proxy http://p", "--proxy"),
        ];
        for (words, expected) in cases {
            let error = options(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words}");
            assert!(error.to_string().contains(expected), "{words}: {error}");
        }
    }
}
