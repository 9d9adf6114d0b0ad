//! Server-sent events as text, read back as a page would.

use super::*;
use std::time::Duration;

/// The events of a stream, as the standard has them parsed: name, id, data.
fn read(stream: &str) -> Vec<(String, String, String)> {
    let (mut name, mut id, mut data) = (String::new(), String::new(), String::new());
    let mut events = Vec::new();
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    for line in stream.split_terminator('\n') {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                events.push((name.clone(), id.clone(), data.clone()));
            }
            name.clear();
            data.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data = data + value + "\n",
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            _ => {}
        }
    }
    events
}

#[test]
fn data_is_read_back_line_by_line() {
    for (data, expected) in [
        ("", ""),
        ("x", "x"),
        (" x:y ", " x:y "),
        ("a\nb\rc\r\nd", "a\nb\nc\nd"),
        ("\n\r\n\r", "\n\n\n"),
        ("a\n\nid: 8\nevent: x", "a\n\nid: 8\nevent: x"),
        ("é\0", "é\0"),
    ] {
        let text = ServerEvent::new(data).name("n").id(7).to_string();
        let event = ("n".into(), "7".into(), expected.into());
        assert_eq!(read(&text), [event], "{data:?}");
    }
}

#[test]
fn fields_that_would_end_their_line_are_left_out() {
    for bad in ["a\nb", "a\r", "\0", "\r\n\r\ndata: x"] {
        let event = ServerEvent::new("x").name(bad).id(bad);
        assert_eq!(event, ServerEvent::new("x"));
    }
    let event = ServerEvent::new("x").retry(Duration::from_micros(1_500_000));
    assert_eq!(event.to_string(), "retry: 1500\ndata: x\n\n");
}

#[test]
fn a_stream_says_what_it_is_and_ends_with_its_last_sender() {
    let (sender, response) = Response::events();
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(fields(&response, name), [value]);
    }
    assert_eq!(response.content_type(), None);
    let other = sender.clone();
    drop(sender);
    assert_eq!(other.send(&ServerEvent::new("a")), Ok(()));
    assert_eq!(other.try_send(&ServerEvent::new("b")), Ok(()));
    assert!(!other.is_closed());
    let Body::Feed(mut feed) = response.into_parts().0 else {
        panic!("no feed");
    };
    assert_eq!(
        feed.heartbeat(),
        Some((Duration::from_secs(15), &b":\n\n"[..]))
    );
    assert_eq!(feed.take(), Fed::Piece(b"data: a\n\n".to_vec()));
    drop(other);
    assert_eq!(feed.take(), Fed::Piece(b"data: b\n\n".to_vec()));
    assert_eq!(feed.take(), Fed::End);
    for (asked, kept) in [
        (Duration::ZERO, Duration::from_millis(10)),
        (Duration::MAX, Duration::from_secs(365 * 24 * 3600)),
    ] {
        let plain = Response::channel_with_heartbeat(asked, b":").1;
        for response in [plain, Response::events_every(asked).1] {
            let Body::Feed(feed) = response.into_parts().0 else {
                panic!("no feed");
            };
            assert_eq!(feed.heartbeat().map(|(every, _)| every), Some(kept));
        }
    }
    let (sender, response) = Response::events_every(Duration::ZERO);
    drop(response);
    assert!(sender.is_closed());
    assert_eq!(sender.send(&ServerEvent::new("a")), Err(Unsent::Gone));
}

#[test]
fn a_page_that_comes_back_says_where_it_was() {
    let ask = |field: &[u8]| {
        let text = [b"GET / HTTP/1.1\r\nHost: a\r\n", field, b"\r\n"].concat();
        let mut parts = Parts::take();
        let parsed = parts.head.parse(&text, &HeadLimits::default());
        assert_eq!(parsed.unwrap(), Parsed::Complete(text.len()));
        Request::new(parts).last_event_id().map(str::to_owned)
    };
    assert_eq!(ask(b"Last-Event-ID: 7\r\n").as_deref(), Some("7"));
    let text = "last-event-id: é\r\n".as_bytes();
    assert_eq!(ask(text).as_deref(), Some("é"));
    for none in [&b""[..], b"Last-Event-ID:\r\n", b"Last-Event-ID: \xff\r\n"] {
        assert_eq!(ask(none), None);
    }
}
