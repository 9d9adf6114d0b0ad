//! actix-web: `/`, `/heavy` on its loop or, with HEAVY_POOL in the environment, in one blocking thread, and files.
//!
//! usage: anchor-actix PORT WORKERS [STATIC_DIR]

use actix_web::{App, HttpResponse, HttpServer, http::header::ContentType, web};
use std::{hint::black_box, time::Duration};

const N: u64 = 5_000_000;
fn heavy() -> u64 {
    let mut t = 0u64;
    for i in 0..N {
        t = black_box(t + black_box(i & 1));
    }
    t
}

async fn hello() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body("Hello, World!")
}
async fn h_inline() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body(heavy().to_string())
}
async fn h_block() -> HttpResponse {
    let v = web::block(heavy).await.unwrap();
    HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body(v.to_string())
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    let (port, workers): (u16, usize) = (a[1].parse().unwrap(), a[2].parse().unwrap());
    let dir = a.get(3).cloned().unwrap_or_else(|| ".".into());
    let pool = std::env::var("HEAVY_POOL").is_ok();
    HttpServer::new(move || {
        let app = App::new().route("/", web::get().to(hello));
        let app = if pool {
            app.route("/heavy", web::get().to(h_block))
        } else {
            app.route("/heavy", web::get().to(h_inline))
        };
        app.service(actix_files::Files::new("/static", &dir))
    })
    .workers(workers)
    .worker_max_blocking_threads(1)
    .max_connections(30_000)
    .backlog(4096)
    .keep_alive(Duration::from_secs(300))
    .bind(("127.0.0.1", port))?
    .run()
    .await
}
