//! The library in one page: one route on the event loop, one on the pool, a worker for each CPU.
//!
//! `cargo run --release --example hello`, then `curl localhost:3000` and `curl localhost:3000/heavy`.

use mcluster::{App, Cluster, Mode, pooled};

fn main() -> mcluster::Result<()> {
    let app = App::new()
        .get("/", |_| {
            format!("Handled by process {}\n", std::process::id())
        })
        .get(
            "/heavy",
            pooled(|_| {
                let total = (0..5_000_000u64).fold(0, |t, _| std::hint::black_box(t + 1));
                format!("Total: {total}\n")
            }),
        );

    Cluster::new(app)
        .mode(Mode::Processes)
        .listen("127.0.0.1:3000")
        .run()
}
