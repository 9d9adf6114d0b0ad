//! The conversation with programs that say what none should, hear nothing, or are gone.

use super::*;
use proptest::prelude::*;

#[test]
fn garbage_is_passed_over() {
    let mut talk = Talk::new();
    let deep = "[".repeat(10_000);
    for garbage in [
        "",
        "{",
        "{\"cmd\":",
        "\u{2}{}",
        "nul",
        &deep,
        "{\"cmd\":\"NODE_HANDLE\"",
        "1 2",
    ] {
        talk.says(format!("{garbage}\n").as_bytes());
    }
    talk.says(b"\xff\xfe\n");
    talk.says(b"{\"cmd\":\"NODE_CLUSTER\",\"act\":7}\n{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\",\"key\":5}\n");
    talk.says(b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"seq\":-1}\n");
    talk.gives(b"1\n");
    assert_eq!(talk.heard(), [text("1")]);
    assert_eq!(talk.got_lines(), "");
}

#[test]
fn a_line_that_is_too_long_is_passed_over() {
    let mut talk = Talk::new();
    let part = vec![b'1'; BUFFER_BYTES];
    let mut most = 0;
    for _ in 0..=MAX_MESSAGE / part.len() {
        talk.says(&part);
        assert_eq!(talk.heard(), []);
        most = most.max(talk.ours.hearing.room());
    }
    assert!(most <= 2 * MAX_MESSAGE, "{most}");
    talk.says(b"1\n2\n");
    assert_eq!(talk.heard(), [text("2")]);
    assert!(talk.ours.hearing.room() <= BUFFER_BYTES);
}

#[test]
fn one_that_does_not_listen_is_not_answered_for_ever() {
    let mut talk = Talk::new();
    socket::set_send_buffer(talk.ours.as_fd(), 4096).unwrap();
    let line = b"{\"cmd\":\"NODE_HANDLE\",\"msg\":1}\n".repeat(1000);
    let error = loop {
        talk.says(&line);
        match talk.ours.receive(&mut talk.buffer) {
            Ok(Received::Nothing) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(talk.ours.count_unsent() <= MOST_UNSENT + 1);
}

#[test]
fn more_than_a_program_reads_is_refused() {
    let mut talk = Talk::new();
    let large = format!("\"{}\"", "x".repeat(MAX_MESSAGE / 2));
    for _ in 0..3 {
        talk.text(&large).unwrap();
    }
    assert_eq!(
        talk.text("1").unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    let larger = "x".repeat(MAX_MESSAGE + 1);
    assert_eq!(
        talk.text(&larger).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn the_language_of_bun_is_named() {
    let mut talk = Talk::new();
    talk.says(b"\x02{\"act\":\"online\",\"seq\":0}\n");
    let error = talk.ours.receive(&mut talk.buffer).unwrap_err();
    assert!(error.to_string().contains("Bun"), "{error}");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn last_words_are_heard_of_one_who_did_not_listen() {
    let mut talk = Talk::new();
    talk.text("\"unread\"").unwrap();
    talk.gives(b"{\"cmd\":\"NODE_HANDLE\",\"msg\":1}\n");
    talk.says(b"2\n3");
    talk.theirs = File::open("/dev/null").unwrap().into();
    assert_eq!(talk.heard(), [text("1"), text("2")]);
    assert!(!talk.ours.has_unsent());
    until_closed(|| talk.ours.receive(&mut talk.buffer));
    assert!(is_gone(&talk.text("1").unwrap_err()));
}

proptest! {
    /// Whatever it says in whatever pieces: nothing breaks, and little is kept.
    #[test]
    fn anything_may_come(pieces in prop::collection::vec((any::<prop::sample::Index>(), "\\PC{0,40}", any::<bool>()), 0..40)) {
        let mut talk = Talk::new();
        let file = File::open("/dev/null").unwrap();
        for (index, random, with) in &pieces {
            let known = index.get(WORKER);
            let cut = index.index(known.len() + 1);
            let line = format!("{}{random}\n{known}\n", &known[..cut]);
            let with = with.then_some(file.as_fd());
            stream::send(talk.theirs.as_fd(), line.as_bytes(), with).unwrap();
            let _ = talk.hand_over(1);
            for message in talk.heard() {
                if let Message::QueryServer { query, .. } = message {
                    talk.grant(query, query, "[::1]:80");
                }
            }
            prop_assert!(talk.ours.hearing.room() <= 2 * BUFFER_BYTES);
            prop_assert!(talk.ours.count_unsent() <= MOST_UNSENT + 1);
            talk.got();
        }
    }

    /// One line in all ways that JSON has is what the fast way takes it for.
    #[test]
    fn replies_are_what_they_are(ack in any::<u64>(), accepted in any::<bool>(), seq in any::<u32>()) {
        let line = format!(r#"{{"cmd":"NODE_CLUSTER","ack":{ack},"accepted":{accepted},"seq":{seq}}}"#);
        let spaced = line.replace(",\"", ", \"");
        prop_assert_eq!(words::hear(line.as_bytes()), Heard::Reply { ack, accepted });
        prop_assert_eq!(words::hear(spaced.as_bytes()), Heard::Reply { ack, accepted });
    }
}
