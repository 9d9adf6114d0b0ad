//! The program everyone learns clustering with: as many workers as there are CPUs, and another one
//! for each that dies.
//!
//! `cargo run --release --example respawn [PORT]` (3000 without one). Then `curl localhost:3000`
//! tells which process answered; kill that one with `kill -9`, and ask again.
//!
//! `/heavy` runs on the event loop here, as in that program: the worker that counts answers nobody
//! else meanwhile, the other workers do. `mcluster::pooled` is the cure.

use mcluster::{App, Cluster, ClusterHandle, Event, Mode};

fn main() -> mcluster::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let app = App::new()
        .get("/", |_| {
            format!("Hello from process {}\n", std::process::id())
        })
        .get("/heavy", |_| {
            let total = (0..5_000_000u64).fold(0, |total, _| std::hint::black_box(total + 1));
            format!("The result of the CPU intensive task is {total}\n")
        });

    println!("primary {} is running", std::process::id());
    Cluster::new(app)
        .mode(Mode::Processes)
        .listen(format!("127.0.0.1:{port}"))
        .on_event(report)
        .run()
}

/// Runs in the primary, which forks by itself: there is nothing left to do but to say so.
fn report(_: &ClusterHandle, event: &Event) {
    match event {
        Event::Online { worker, pid } => println!("worker {worker} (pid {pid}) is online"),
        Event::Ready { addresses } => println!("listening on {}", addresses.join(" ")),
        // The others were told to, as all are when the cluster stops.
        Event::Exit {
            worker,
            how,
            exited_after_disconnect: false,
            ..
        } => println!("worker {worker} died ({how}); forking another"),
        _ => {}
    }
}
