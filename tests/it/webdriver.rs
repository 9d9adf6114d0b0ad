//! Driving a browser: ChromeDriver started, and its WebDriver protocol spoken over plain TCP.
//!
//! Owns the processes and the directory of one headless Chromium; whatever a test does, nothing of
//! them is left behind when its [`Browser`] is dropped. What is looked at is up to the test. The
//! protocol is <https://www.w3.org/TR/webdriver2/>, and ChromeDriver's own additions to it.

use crate::client::Client;
use crate::support::{Directory, Lines, PATIENCE, wait_until};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A headless Chromium with one page.
#[derive(Debug)]
pub(crate) struct Browser {
    driver: Driver,
    /// `/session/ID`, once there is one.
    session: String,
}

/// ChromeDriver and everything that it starts.
#[derive(Debug)]
struct Driver {
    child: Child,
    address: SocketAddr,
    /// Where both keep what they write; goes last.
    directory: Directory,
}

impl Browser {
    /// Starts one, or says what is missing for that.
    pub(crate) fn start() -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |name: &str| {
            let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
            let found = places.find(|place| place.is_file());
            found.ok_or_else(|| format!("{name} is not installed"))
        };
        let (chromium, chromedriver) = (find("chromium")?, find("chromedriver")?);
        let driver = Driver::start(&chromedriver);
        let profile = driver.directory.file("profile");
        let profile = format!("--user-data-dir={}", profile.display());
        let arguments = [
            "--headless=new",
            // Chromium refuses to be root with its sandbox; it sees nothing but our own page.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-breakpad",
            &profile,
        ];
        let session = driver.ask(
            "POST",
            "/session",
            &json!({"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": {"binary": chromium, "args": arguments},
                "goog:loggingPrefs": {"browser": "ALL"},
            }}}),
        );
        let session = session["sessionId"].as_str().expect("a session");
        let session = format!("/session/{session}");
        Ok(Self { driver, session })
    }

    #[track_caller]
    fn post(&self, command: &str, body: &Value) -> Value {
        let target = format!("{}/{command}", self.session);
        self.driver.ask("POST", &target, body)
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// Loads the page again, by condition, and waits until it is loaded.
    #[track_caller]
    pub(crate) fn reload(&self) {
        self.post("refresh", &json!({}));
    }

    /// Runs the body of a function in the page, and gives what it returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub(crate) fn wait(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        wait_until(expression, || self.run(&script) == true);
    }

    /// Makes the page so wide and high, in CSS pixels. Not by the window, which has a least width,
    /// and not as a phone, which would zoom out until nothing overflows.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        let command = "Emulation.setDeviceMetricsOverride";
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": size}));
    }

    /// Makes the page believe that its reader prefers `light` or `dark`.
    #[track_caller]
    pub(crate) fn prefer(&self, scheme: &str) {
        let wish = json!({"name": "prefers-color-scheme", "value": scheme});
        let media = json!({"features": [wish]});
        let command = "Emulation.setEmulatedMedia";
        self.post(
            "goog/cdp/execute",
            &json!({"cmd": command, "params": media}),
        );
    }

    /// The errors in the console since they were last asked for: exceptions, answers that were no
    /// success, what the page's security policy forbade.
    #[track_caller]
    pub(crate) fn errors(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "browser"}));
        let lines = log.as_array().expect("a log").iter();
        lines
            .filter(|line| line["level"] == "SEVERE")
            .map(|line| line["message"].to_string())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if thread::panicking() {
            let ask = |command: &str, body: Value| {
                let target = format!("{}/{command}", self.session);
                self.driver.try_ask("POST", &target, &body)
            };
            let script = json!({"script": "return document.body.innerText", "args": []});
            let text = ask("execute/sync", script);
            eprintln!("the page: {text:?}");
            eprintln!(
                "its console: {:?}",
                ask("se/log", json!({"type": "browser"}))
            );
        }
        // In good order, so that the browser ends its own; what fails here ends by force.
        let _ = self.driver.try_ask("DELETE", &self.session, &json!({}));
    }
}

impl Driver {
    #[track_caller]
    fn start(program: &Path) -> Self {
        let directory = Directory::new();
        let mut command = Command::new(program);
        command.arg("--port=0").process_group(0);
        // All that they write is to lie in the one directory.
        for (variable, name) in [("TMPDIR", "tmp"), ("HOME", "home")] {
            let place = directory.file(name);
            fs::create_dir(&place).unwrap();
            command.env(variable, place);
        }
        for variable in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = Lines::of(child.stdout.take().unwrap());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut driver = Self {
            child,
            address,
            directory,
        };
        let port = said.find(0, |line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        driver.address.set_port(port);
        driver
    }

    /// A command and its value, or why there is none.
    fn try_ask(&self, method: &str, target: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let (address, length) = (self.address, body.len());
        let ask = || {
            let mut client = Client::connect(address)?;
            // It answers only who calls it by an address or as localhost.
            client.send(format!(
                "{method} {target} HTTP/1.1\r\nHost: {address}\r\n\
                 Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            ))?;
            client.receive()
        };
        let answer = ask().map_err(|error: std::io::Error| error.to_string())?;
        let mut value: Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        match answer.status {
            200 => Ok(value["value"].take()),
            _ => Err(value["value"]["message"].to_string()),
        }
    }

    #[track_caller]
    fn ask(&self, method: &str, target: &str, body: &Value) -> Value {
        self.try_ask(method, target, body)
            .unwrap_or_else(|why| panic!("{method} {target} {body}: {why}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id() as i32);
        let _ = signal::killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
        // The reporter of crashes has left the group, so everybody is looked for by the directory
        // as well: who lives still writes there. Not `wait_until`, as this may be a panic already.
        let start = Instant::now();
        let place = self.directory.file("home");
        while start.elapsed() < PATIENCE {
            let left = at_home(&place);
            for &pid in &left {
                let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            if left.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The living processes that were started with `home` as their HOME.
fn at_home(home: &Path) -> Vec<i32> {
    let wanted = format!("HOME={}", home.display());
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // That of an ended process is empty.
    let has = |&pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|&byte| byte == 0);
        variables.any(|variable| variable == wanted.as_bytes())
    };
    pids.filter(has).collect()
}
