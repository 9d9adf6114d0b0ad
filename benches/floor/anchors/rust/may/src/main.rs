//! may_minihttp as its own example has it: coroutines, one worker thread. It closes nothing that asks to be closed.
//!
//! usage: anchor-may PORT WORKERS

use may_minihttp::{HttpServer, HttpService, Request, Response};

#[derive(Clone)]
struct Hello;
impl HttpService for Hello {
    fn call(&mut self, _req: Request, rsp: &mut Response) -> std::io::Result<()> {
        rsp.header("Content-Type: text/plain").body("Hello, World!");
        Ok(())
    }
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    may::config()
        .set_pool_capacity(1000)
        .set_stack_size(0x1000)
        .set_workers(a[2].parse().unwrap());
    HttpServer(Hello)
        .start(format!("127.0.0.1:{}", a[1]))
        .unwrap()
        .wait();
}
