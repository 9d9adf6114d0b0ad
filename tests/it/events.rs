//! Server-sent events of the built-in application: ticks, coming back, and streams of a worker that
//! is to end.

use crate::client::Client;
use crate::support::{Mode, Server, both_modes};
use nix::sys::signal::Signal;

/// A stream that goes on behind `last`, up to and with its first tick.
#[track_caller]
fn stream(client: &mut Client, last: &str) -> String {
    let last = match last {
        "" => String::new(),
        last => format!("Last-Event-ID: {last}\r\n"),
    };
    client
        .send(format!("GET /events HTTP/1.1\r\nHost: test\r\n{last}\r\n"))
        .unwrap();
    client.until("\n\n").unwrap()
}

fn one(mode: Mode) -> (Server, Client) {
    let server = Server::start(mode, &["--workers", "1"]);
    let client = Client::connect(server.address()).unwrap();
    (server, client)
}

both_modes! {
    fn ticks_come_by_number_and_go_on_where_they_were(mode) {
        let (server, mut client) = one(mode);
        let first = stream(&mut client, "");
        for field in [
            "HTTP/1.1 200 OK\r\n",
            "Content-Type: text/event-stream\r\n",
            "Cache-Control: no-store\r\n",
            "X-Accel-Buffering: no\r\n",
        ] {
            assert!(first.contains(field), "{first}");
        }
        assert!(first.ends_with("id: 1\nretry: 500\ndata: tick 1\n\n"), "{first}");
        assert!(client.until("\n\n").unwrap().ends_with("id: 2\ndata: tick 2\n\n"));
        // Who comes back, while another stream is there.
        let mut other = Client::connect(server.address()).unwrap();
        assert!(stream(&mut other, "41").ends_with("data: tick 42\n\n"));
        assert!(other.until("\n\n").unwrap().ends_with("data: tick 43\n\n"));
        drop(client);
        assert!(other.until("\n\n").unwrap().ends_with("data: tick 44\n\n"));
        drop(other);
        for (odd, next) in [("x", 1), ("-1", 1), ("18446744073709551615", u64::MAX)] {
            let mut client = Client::connect(server.address()).unwrap();
            let words = format!("data: tick {next}\n\n");
            assert!(stream(&mut client, odd).ends_with(&words), "{odd}");
        }
        server.stop();
    }

    fn a_reload_ends_streams_at_once_and_their_clients_come_back(mode) {
        let (server, mut client) = one(mode);
        stream(&mut client, "");
        let mark = server.log.mark();
        server.signal(Signal::SIGHUP);
        // The body ends whole, and the connection goes on to the new worker.
        client.until("\r\n0\r\n\r\n").unwrap();
        assert!(stream(&mut client, "1").contains("data: tick 2\n"));
        server.log.wait(mark, "reloaded: all workers are new");
        server.stop();
    }

    fn streams_do_not_hold_up_a_stop(mode) {
        let (server, mut client) = one(mode);
        stream(&mut client, "");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.ended().status.code(), Some(0));
        client.until("\r\n0\r\n\r\n").unwrap();
        assert!(client.ends());
    }
}
