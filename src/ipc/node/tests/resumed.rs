//! Conversations that go on in another program, at odd moments.

use super::*;
use crate::ipc::node::LinesState;
use crate::sys::exec;
use std::os::fd::{AsRawFd, IntoRawFd};

impl Talk {
    /// As through execve(2): the state goes by a file, descriptors by their numbers.
    fn upgraded(self) -> Self {
        let Self {
            ours,
            theirs,
            buffer,
        } = self;
        let mut numbers = Vec::new();
        let state = ours.state(&mut |fd| {
            // The others are closed with the conversation, as by execve(2).
            let copy = fd.try_clone_to_owned().unwrap();
            exec::keep_across_exec(copy.as_fd(), true).unwrap();
            numbers.push(copy.into_raw_fd());
            *numbers.last().unwrap()
        });
        let mut named: Vec<_> = state.descriptors().collect();
        named.sort_unstable();
        numbers.sort_unstable();
        assert_eq!(named, numbers);
        let text = serde_json::to_vec(&state).unwrap();
        let state: LinesState = serde_json::from_slice(&text).unwrap();
        let socket = ours.as_fd().try_clone_to_owned().unwrap();
        drop(ours);
        let ours = Lines::resumed(socket, state).unwrap();
        Self {
            ours,
            theirs,
            buffer,
        }
    }
}

/// All that the program says, in pieces of which each goes to another program, and what is heard.
fn heard_in_pieces(said: &str, piece: usize) -> Vec<Message> {
    let mut talk = Talk::new();
    let mut heard = Vec::new();
    for bytes in said.as_bytes().chunks(piece) {
        talk.says(bytes);
        for message in talk.heard() {
            if let Message::QueryServer { query, .. } = &message {
                talk.grant(*query, 7, "127.0.0.1:3100");
            }
            heard.push(message);
        }
        talk = talk.upgraded();
    }
    heard
}

#[test]
fn lines_may_be_cut_anywhere() {
    let said = WORKER[..3].join("\n") + "\n\"mine\"\n";
    // It says that it listens when it was told that it may.
    let all = heard_in_pieces(&said, WORKER[0].len());
    assert_eq!(all.len(), 4);
    for piece in [1, 2, 7] {
        assert_eq!(heard_in_pieces(&said, piece), all, "{piece}");
    }
}

#[test]
fn what_was_asked_is_answered_afterwards() {
    let mut talk = Talk::new();
    talk.says((WORKER[1].to_owned() + "\n").as_bytes());
    assert_eq!(talk.heard().len(), 1);
    let mut talk = talk.upgraded();
    talk.grant(1, 7, "127.0.0.1:3100");
    assert!(talk.got_lines().contains(r#""ack":1"#));
    // Whether it may listen there is known, too.
    let mut talk = talk.upgraded();
    talk.says((WORKER[2].to_owned() + "\n").as_bytes());
    assert_eq!(talk.heard(), [Message::Listening { listener: 7 }]);
}

#[test]
fn connections_are_answered_by_their_ordinals() {
    let mut talk = Talk::new();
    talk.hand_over(1).unwrap();
    let mut talk = talk.upgraded();
    // A plain line waits for the word that the envelope came.
    talk.text(r#""later""#).unwrap();
    assert_eq!(talk.got(), (newconn(0), vec![1]));
    let mut talk = talk.upgraded();
    talk.says(b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n");
    assert!(talk.heard().is_empty());
    assert_eq!(talk.got_lines(), "\"later\"\n");
    let mut talk = talk.upgraded();
    talk.says(b"{\"cmd\":\"NODE_CLUSTER\",\"ack\":0,\"accepted\":true,\"seq\":1}\n");
    assert_eq!(talk.heard(), [answered(0, true)]);
    talk.hand_over(1).unwrap();
    let mut talk = talk.upgraded();
    talk.says(b"{\"cmd\":\"NODE_HANDLE_NACK\"}\n");
    assert_eq!(talk.heard(), [answered(1, false)]);
}

/// Fills the socket until lines wait, cut somewhere.
#[test]
fn what_does_not_fit_goes_out_afterwards() {
    let mut talk = Talk::new();
    let long = format!("{:?}", "x".repeat(300_000));
    for _ in 0..4 {
        talk.text(&long).unwrap();
    }
    talk.hand_over(3).unwrap_err();
    let files: Vec<_> = (0..3).map(|_| File::open("/dev/null").unwrap()).collect();
    let with: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let hand = vec![Handed::fresh(Peer::Unix); 3];
    let message = Message::Newconn { listener: 5, hand };
    talk.ours.send(&message, &with).unwrap();
    let queued = (talk.ours.count_unsent(), talk.ours.sending.queued());
    assert!(queued.0 > 3 && talk.ours.has_unsent());
    let before = files[0].as_raw_fd();
    let (mut said, mut came) = (String::new(), 0);
    let mut first = true;
    while first || talk.ours.has_unsent() {
        talk = talk.upgraded();
        if std::mem::take(&mut first) {
            let resumed = (talk.ours.count_unsent(), talk.ours.sending.queued());
            assert_eq!(resumed, queued);
        }
        let (text, counts) = talk.got();
        said.push_str(&text);
        came += counts.iter().sum::<usize>();
        talk.ours.flush().unwrap();
    }
    let (text, counts) = talk.got();
    said.push_str(&text);
    came += counts.iter().sum::<usize>();
    let wanted = format!("{long}\n").repeat(4) + &newconn(0) + &newconn(1) + &newconn(2);
    assert!(said == wanted && came == 3);
    assert_eq!(
        files[0].as_raw_fd(),
        before,
        "the caller's own are as they were"
    );
    assert_eq!(talk.ours.sending.queued(), 0);
}

/// An offer that did not come through is made again, by the program that has come in between.
#[test]
fn an_offer_is_made_again() {
    let mut talk = Talk::new();
    talk.says((WORKER[1].to_owned() + "\n").as_bytes());
    talk.heard();
    let file = File::open("/dev/null").unwrap();
    let offer = Message::Server {
        query: 1,
        listener: 7,
        shared: true,
        address: Address::Inet("127.0.0.1:3100".parse().unwrap()),
        data: None,
    };
    talk.ours.send(&offer, &[file.as_fd()]).unwrap();
    let (once, counts) = talk.got();
    assert_eq!(counts, [1]);
    let mut talk = talk.upgraded();
    talk.says(b"{\"cmd\":\"NODE_HANDLE_NACK\"}\n");
    assert!(talk.heard().is_empty());
    let mut talk = talk.upgraded();
    assert!(talk.ours.has_unsent());
    talk.ours.flush().unwrap();
    assert_eq!(talk.got(), (once, vec![1]));
}

#[test]
fn one_that_was_told_to_go_is_not_told_again() {
    let mut talk = Talk::new();
    talk.ours.send(&GO, &[]).unwrap();
    assert!(talk.got_lines().contains("disconnect"));
    let mut talk = talk.upgraded();
    talk.ours.send(&GO, &[]).unwrap();
    assert_eq!(talk.got_lines(), "");
}

#[test]
fn the_rest_of_a_line_that_is_too_long_is_passed_over() {
    let mut talk = Talk::new();
    talk.ours.hearing = Hearing::resumed(
        serde_json::from_str(r#"{"bytes":[],"skipping":true,"begun":true,"came":0}"#).unwrap(),
    );
    let mut talk = talk.upgraded();
    talk.says(b"still the same\n\"another\"\n");
    assert_eq!(talk.heard(), [text(r#""another""#)]);
}

#[test]
fn a_state_that_makes_no_sense_is_refused() {
    let (ours, _theirs) = Lines::pair().unwrap();
    let mut state = serde_json::to_value(ours.state(&mut |_| -1)).unwrap();
    state["sending"]["begun"] =
        serde_json::json!([{"line": [1, 2], "with": null, "kind": "Plain"}, 3]);
    let state: LinesState = serde_json::from_value(state).unwrap();
    let (socket, _other) = socket::pair_stream().unwrap();
    assert!(Lines::resumed(socket, state).is_err());
}
