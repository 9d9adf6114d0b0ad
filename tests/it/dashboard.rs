//! The dashboard in a real browser: it fills, follows the cluster, and fits a phone.
//!
//! Where Chromium or ChromeDriver is missing the test says so and passes.

use crate::support::{Mode, Server, Worker};
use crate::webdriver::Browser;
use nix::sys::signal::Signal;
use std::io::Write;

/// How many rows say that their worker is listening.
const LISTENING: &str =
    r##"document.querySelectorAll("#workers tr[data-state=listening]").length"##;

#[test]
fn a_killed_worker_is_seen_to_be_replaced() {
    let browser = match Browser::start() {
        Ok(browser) => browser,
        Err(why) => {
            // Past libtest, which would keep the line of a test that passes to itself.
            let line = format!("skipped: the dashboard is not opened: {why}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return;
        }
    };
    let arguments = ["--workers", "2", "--admin", "127.0.0.1:0"];
    let server = Server::start(Mode::Processes, &arguments);
    let url = server.log.find(0, |line| {
        let (_, url) = line.split_once("admin pages on ")?;
        Some(url.trim_end_matches('/').to_owned() + "/")
    });
    let before = server.wait_for_workers(2);

    browser.open(&url);
    browser.wait(&format!("{LISTENING} === 2"));
    browser.wait(r##"document.querySelector("#connection-state").textContent === "connected""##);
    let row = browser.run(
        r##"const row = document.querySelector("#workers tr");
        return [Number(row.dataset.worker), Number(row.cells[1].textContent)];"##,
    );
    let killed = *before
        .iter()
        .find(|worker| row[0] == worker.id && row[1] == worker.pid)
        .unwrap_or_else(|| panic!("a row of {row}, but {before:?}"));

    killed.signal(Signal::SIGKILL);
    let next = server.successor(killed, "died: signal 9 (SIGKILL)");
    browser.wait(&format!("{LISTENING} === 2 && {}", shows(next)));
    assert_eq!(browser.run(&format!("return {}", shows(killed))), false);
    for words in [
        format!("worker {} (pid {}) died: signal 9", killed.id, killed.pid),
        format!("replaced by {}", next.id),
        format!("worker {} is listening", next.id),
    ] {
        browser.wait(&format!(
            r##"[...document.querySelectorAll("#events li")].some((line) => line.textContent.includes("{words}"))"##
        ));
    }

    browser.resize(360, 740);
    // The mark of the sorted column is the farthest to the right that anything reaches.
    browser.run(r##"document.querySelector("#columns th:last-child button").click()"##);
    browser.wait(r##"document.querySelector("#columns th:last-child[aria-sort]")"##);
    let width = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
    assert_eq!(width[1], 360);
    assert!(width[0].as_u64() <= width[1].as_u64(), "overflows: {width}");
    assert_eq!(browser.errors(), [""; 0]);
    server.stop();
}

/// An expression: whether the table has a row of this worker.
fn shows(worker: Worker) -> String {
    let id = worker.id;
    format!(r##"document.querySelector("#workers tr[data-worker='{id}']") !== null"##)
}
