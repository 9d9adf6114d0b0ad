//! Bare hyper: HTTP/1 on one current-thread runtime of tokio, without a router.
//!
//! usage: anchor-hyper PORT

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"Hello, World!")));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain"),
    );
    Ok(response)
}

fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let port: u16 = port.parse().expect("a port");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket
            .bind(([127, 0, 0, 1], port).into())
            .expect("a free port");
        let listener = socket.listen(4096).expect("a listener");
        let mut http = http1::Builder::new();
        http.pipeline_flush(true);
        loop {
            let Ok((connection, _)) = listener.accept().await else {
                continue;
            };
            let _ = connection.set_nodelay(true);
            let http = http.clone();
            tokio::task::spawn_local(async move {
                let _ = http
                    .serve_connection(TokioIo::new(connection), service_fn(hello))
                    .await;
            });
        }
    });
}
