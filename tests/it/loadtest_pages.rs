//! The report of a load test in a real browser: it stands alone, is drawn, is readable in light and dark,
//! and fits a phone.
//!
//! Where Chromium or ChromeDriver is missing the test says so and passes.

use crate::support::{Directory, Mode, Server, command, run};
use crate::webdriver::Browser;
use serde_json::{Value, json};
use std::io::Write;

/// The least contrast of text (WCAG 2.2, 1.4.3), and of what else tells something (1.4.11).
const LEAST: [f64; 2] = [4.5, 3.0];

/// How many plots there are: latency and throughput over time, latency by share, who answered.
const PLOTS: usize = 4;

/// Gives every text and every line of a series that stands out too little, with its contrast.
const TOO_FAINT: &str = r#"
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const channels = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (color) => {
        const [red, green, blue] = channels(color).slice(0, 3).map((value) => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const color = getComputedStyle(one).backgroundColor;
            if (channels(color)[3] === 255) return color;
        }
        return "white";
    };
    const contrast = (one, other) => {
        const [more, less] = [light(one), light(other)].sort((a, b) => b - a);
        return (more + 0.05) / (less + 0.05);
    };
    const said = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const texts = [...document.body.querySelectorAll("*")].filter((one) => said(one) && one.tagName !== "title");
    const drawn = [...document.querySelectorAll("svg [stroke^='var(--s'], svg rect")];
    const found = [];
    const check = (element, color, least) => {
        const ratio = contrast(color, behind(element));
        if (!(ratio >= least)) found.push([element.outerHTML, ratio]);
    };
    for (const text of texts) {
        const style = getComputedStyle(text);
        check(text, text.tagName === "text" ? style.fill : style.color, LEAST[0]);
    }
    for (const element of drawn) {
        const style = getComputedStyle(element);
        check(element, element.tagName === "rect" ? style.fill : style.stroke, LEAST[1]);
    }
    return {found, checked: texts.length, drawn: drawn.length, page: behind(document.documentElement)};
"#;

/// Gives the texts of plots that reach out of them or lie upon each other, and what each plot has.
const PLACES: &str = r#"
    const bad = [], plots = [];
    for (const svg of document.querySelectorAll("svg")) {
        const all = svg.viewBox.baseVal;
        const texts = [...svg.querySelectorAll("text")].map((text) => [text.textContent.trim(), text.getBBox()]);
        texts.forEach(([words, box], at) => {
            const fits = box.x >= 0 && box.y >= 0 && box.x + box.width <= all.width && box.y + box.height <= all.height;
            if (!fits) bad.push(`${words} reaches out`);
            for (const [others, other] of texts.slice(at + 1)) {
                const apart = box.x + box.width <= other.x || other.x + other.width <= box.x
                    || box.y + box.height * 0.85 <= other.y || other.y + other.height * 0.85 <= box.y;
                if (!apart) bad.push(`${words} lies upon ${others}`);
            }
        });
        const {width, height} = svg.getBoundingClientRect();
        const long = [...svg.querySelectorAll("polyline[stroke^='var(--s'], rect")].filter((one) => {
            const box = one.getBBox();
            return box.width + box.height > 100;
        });
        plots.push({width, height, shapes: long.length, name: svg.querySelector("title").textContent});
    }
    return {bad, plots};
"#;

#[test]
fn a_report_in_a_browser() {
    let browser = match Browser::start() {
        Ok(browser) => browser,
        Err(why) => {
            // Past libtest, which would keep the line of a test that passes to itself.
            let line = format!("skipped: no report is opened: {why}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return;
        }
    };
    let place = Directory::new();
    let file = place.file("report.html");
    let path = file.to_str().unwrap();
    let server = Server::start(Mode::Processes, &["--workers", "2"]);
    // A query that would be markup, if it were not for the care that is taken.
    let url = format!("http://{}/?<b>=\"'&amp;", server.address());
    let arguments = [
        "loadtest", "-t", "1", "-c", "4", "-k", "--rps", "200", "--html", path, &url,
    ];
    let ended = run(command(&arguments));
    assert!(ended.status.success(), "{ended:?}");
    server.stop();

    browser.open(&format!("file://{path}"));
    let heading = browser.run("return document.querySelector('h1').textContent");
    assert_eq!(heading, format!("Load test of {url}"));
    let loaded =
        browser.run("return performance.getEntriesByType('resource').map((one) => one.name)");
    assert_eq!(loaded, json!([]));
    assert_eq!(browser.run("return document.scripts.length"), 0);

    for width in [1200u32, 360] {
        browser.resize(width, 800);
        let seen = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
        assert_eq!(seen[1], width);
        assert!(
            seen[0].as_u64() <= Some(width.into()),
            "it overflows: {seen}"
        );
        let places = browser.run(PLACES);
        assert_eq!(places["bad"], json!([]));
        let plots = places["plots"].as_array().unwrap();
        assert_eq!(plots.len(), PLOTS, "{plots:?}");
        for plot in plots {
            let size = |name: &str| plot[name].as_f64().unwrap();
            assert!(size("width") > 300.0 && size("height") > 60.0, "{plot}");
            assert!(size("shapes") >= 1.0 && plot["name"] != "", "{plot}");
        }
    }

    let look = |scheme: &str| {
        browser.prefer(scheme);
        let script = format!("const LEAST = {}; {TOO_FAINT}", json!(LEAST));
        let seen = browser.run(&script);
        assert_eq!(seen["found"], json!([]), "{scheme}");
        let many = |name: &str| seen[name].as_u64().unwrap();
        assert!(many("checked") > 60 && many("drawn") > 6, "{seen}");
        seen["page"].clone()
    };
    let pages: [Value; 2] = ["light", "dark"].map(look);
    assert_ne!(pages[0], pages[1], "both look the same");
    assert_eq!(browser.errors(), [""; 0]);
}
