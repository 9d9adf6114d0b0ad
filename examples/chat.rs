//! A chat over WebSocket: who is in a room hears everybody there, whichever worker has them; with the feature `redis` and
//! a server in `REDIS_URL`, on whichever machine.
//!
//! `cargo run --example chat`, then open `http://localhost:3000/#garden` in two windows.

use mcluster::{App, Cluster, Request, Response, Worker, ws};

const PAGE: &str = "<!doctype html><meta charset=utf-8><title>Chat</title>
<form><input autofocus><button>Say</button></form><ul></ul>
<script>
const room = location.hash.slice(1) || 'hall';
const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/rooms/${encodeURIComponent(room)}`);
socket.onmessage = event => {
  const line = document.createElement('li');
  line.textContent = event.data;
  document.querySelector('ul').prepend(line);
};
document.forms[0].onsubmit = event => {
  event.preventDefault();
  const input = event.target.querySelector('input');
  socket.send(input.value);
  input.value = '';
};
</script>
";

fn room(request: Request) -> ws::Upgrade {
    // A prefix: clients choose the room, not the topic.
    let room = format!("room {}", request.param("name").unwrap_or_default());
    let joined = room.clone();
    ws::upgrade(&request)
        .on_open(move |socket| {
            if let Err(error) = socket.subscribe(&joined) {
                socket.close(ws::code::POLICY, &error.to_string());
            }
        })
        .on_message(move |socket, message| {
            let Some((worker, text)) = Worker::current().zip(message.text()) else {
                return;
            };
            // To everybody there, this one included.
            if worker.publish(&room, text).is_err() {
                socket.close(ws::code::TRY_AGAIN, "too much is being said");
            }
        })
}

fn main() -> mcluster::Result<()> {
    let app = App::new()
        .get("/", |_| Response::html(PAGE))
        .get("/rooms/{name}", room);
    let cluster = Cluster::new(app);
    #[cfg(feature = "redis")]
    let cluster = match std::env::var("REDIS_URL") {
        Ok(url) => cluster.publish_through(url),
        Err(_) => cluster,
    };
    cluster.run()
}
