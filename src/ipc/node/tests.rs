//! The conversation, with the program's lines written here: what real ones say is in the comments of
//! their captures, and how they are cut is up to the tests.

mod lost;

use super::super::{Bind, Handed, Place, Refusal};
use super::*;
use crate::ipc::{BUFFER_BYTES, until_closed};
use crate::sys::listener::Peer;
use crate::sys::stream;
use std::fs::File;

mod hostile;
mod resumed;

struct Talk {
    ours: Lines,
    theirs: OwnedFd,
    buffer: Vec<u8>,
}

impl Talk {
    fn new() -> Self {
        let (ours, theirs) = Lines::pair().unwrap();
        let buffer = vec![0; BUFFER_BYTES];
        Self {
            ours,
            theirs,
            buffer,
        }
    }

    /// The program says this.
    fn says(&mut self, bytes: &[u8]) {
        assert_eq!(
            stream::send(self.theirs.as_fd(), bytes, None).unwrap(),
            bytes.len()
        );
    }

    /// And this, with a descriptor.
    fn gives(&mut self, bytes: &[u8]) {
        let file = File::open("/dev/null").unwrap();
        let sent = stream::send(self.theirs.as_fd(), bytes, Some(file.as_fd()));
        assert_eq!(sent.unwrap(), bytes.len());
    }

    /// All that is heard of it.
    fn heard(&mut self) -> Vec<Message> {
        let mut heard = Vec::new();
        loop {
            match self.ours.receive(&mut self.buffer).unwrap() {
                Received::Message(message, with) => {
                    assert!(with.is_empty());
                    heard.push(message);
                }
                Received::Nothing | Received::Closed => {
                    assert!(!self.ours.has_unheard());
                    return heard;
                }
            }
        }
    }

    /// What has come to it: bytes, and how many descriptors with each read.
    fn got(&mut self) -> (String, Vec<usize>) {
        let (mut bytes, mut counts) = (Vec::new(), Vec::new());
        loop {
            let mut with = Vec::new();
            match stream::receive(self.theirs.as_fd(), &mut self.buffer, &mut with) {
                Ok(piece) if piece.length > 0 => {
                    bytes.extend_from_slice(&self.buffer[..piece.length]);
                    counts.push(with.len());
                }
                _ => return (String::from_utf8(bytes).unwrap(), counts),
            }
        }
    }

    fn got_lines(&mut self) -> String {
        self.got().0
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.ours
            .send(&Message::Text(text.as_bytes().to_vec()), &[])
    }

    fn hand_over(&mut self, count: usize) -> io::Result<()> {
        let files: Vec<_> = (0..count)
            .map(|_| File::open("/dev/null").unwrap())
            .collect();
        let with: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let hand = vec![Handed::fresh(Peer::Unix); count];
        self.ours
            .try_send(&Message::Newconn { listener: 5, hand }, &with)
    }

    fn grant(&mut self, query: u32, listener: u32, address: &str) {
        let message = Message::Server {
            query,
            listener,
            shared: false,
            address: Address::Inet(address.parse().unwrap()),
            data: None,
        };
        self.ours.send(&message, &[]).unwrap();
    }
}

fn answered(connection: u64, accepted: bool) -> Message {
    Message::Answered {
        connection,
        accepted,
    }
}

fn text(text: &str) -> Message {
    Message::Text(text.as_bytes().to_vec())
}

const GO: Message = Message::Disconnect {
    hand_back: false,
    more: false,
};

const NEWCONN: &str = r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"5","seq":"#;

fn newconn(seq: u64) -> String {
    format!("{NEWCONN}{seq}}}}}\n")
}

/// What Node 20.20.2 wrote, for one server and one connection.
const WORKER: &[&str] = &[
    r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"127.0.0.1","port":3100,"addressType":4,"flags":0,"backlog":false,"seq":1}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"data":null,"address":"127.0.0.1","port":3100,"addressType":4,"flags":0,"backlog":false,"seq":2}"#,
    r#"{"cmd":"NODE_HANDLE_ACK"}"#,
    r#"{"cmd":"NODE_CLUSTER","ack":1,"accepted":true,"seq":3}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"close","key":"5","seq":5}"#,
];

fn asked(place: Place) -> Message {
    Message::QueryServer {
        query: 1,
        ask: Ask::Bind(Bind {
            place,
            nth: 0,
            backlog: None,
            data: None,
        }),
    }
}

fn tcp(address: Option<&str>, port: u16) -> Place {
    Place::Tcp {
        address: address.map(|address| address.parse().unwrap()),
        port,
        v6_only: false,
    }
}

#[test]
fn one_server_and_one_connection() {
    let mut talk = Talk::new();
    let line = |number: usize| format!("{}\n", WORKER[number]).into_bytes();
    talk.says(&line(0));
    talk.says(&line(1));
    let query = asked(tcp(Some("127.0.0.1"), 3100));
    assert_eq!(talk.heard(), [Message::Online, query]);
    talk.grant(1, 5, "127.0.0.1:3100");
    assert_eq!(
        talk.got_lines(),
        "{\"cmd\":\"NODE_CLUSTER\",\"errno\":null,\"key\":\"5\",\"ack\":1,\"data\":null,\
         \"sockname\":{\"address\":\"127.0.0.1\",\"family\":\"IPv4\",\"port\":3100},\"seq\":0}\n"
    );
    talk.says(&line(2));
    assert_eq!(talk.heard(), [Message::Listening { listener: 5 }]);
    talk.hand_over(1).unwrap();
    assert_eq!(talk.got(), (newconn(1), vec![1]));
    talk.says(&[line(3), line(4)].concat());
    assert_eq!(talk.heard(), [answered(0, true)]);
    talk.ours.send(&GO, &[]).unwrap();
    talk.ours.send(&GO, &[]).unwrap();
    let disconnect = "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"disconnect\",\"seq\":2}\n";
    assert_eq!(talk.got_lines(), disconnect);
    talk.says(&line(5));
    assert_eq!(talk.heard(), [Message::Close { listener: 5 }]);
    talk.theirs = File::open("/dev/null").unwrap().into();
    until_closed(|| talk.ours.receive(&mut talk.buffer));
}

#[test]
fn lines_are_whole_however_they_are_cut() {
    let mut said = WORKER.join("\n").into_bytes();
    said.extend_from_slice("\n\"\u{1f600}\"\n{\"unfinished\":".as_bytes());
    let expected = [
        Message::Online,
        asked(tcp(Some("127.0.0.1"), 3100)),
        Message::Close { listener: 5 },
        text("\"\u{1f600}\""),
    ];
    for cut in 0..=said.len() {
        let mut talk = Talk::new();
        let mut heard = Vec::new();
        for part in [&said[..cut], &said[cut..]] {
            if !part.is_empty() {
                talk.says(part);
            }
            heard.extend(talk.heard());
        }
        assert_eq!(heard, expected, "cut at {cut}");
    }
    let mut talk = Talk::new();
    let mut heard = Vec::new();
    for byte in &said {
        talk.says(&[*byte]);
        heard.extend(talk.heard());
    }
    assert_eq!(heard, expected);
}

#[test]
fn every_place_of_the_table() {
    let with = |rest: &str| {
        let mut talk = Talk::new();
        let query = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","seq":9,"index":2,"#;
        talk.says(format!("{query}{rest}}}\n").as_bytes());
        match talk.heard().pop() {
            Some(Message::QueryServer {
                query: 9,
                ask: Ask::Bind(bind),
            }) => {
                assert_eq!(bind.nth, 2);
                Ok((bind.place, bind.backlog, bind.data))
            }
            None => Err(talk.got_lines()),
            other => panic!("{other:?}"),
        }
    };
    let place = |rest: &str| with(rest).unwrap().0;
    assert_eq!(
        place(r#""address":null,"port":0,"addressType":4,"data":null"#),
        tcp(None, 0)
    );
    assert_eq!(
        place(r#""address":"::1","port":7,"addressType":6,"flags":0"#),
        tcp(Some("::1"), 7)
    );
    let v6_only = place(r#""address":"::","port":7,"addressType":6,"flags":1"#);
    assert!(matches!(v6_only, Place::Tcp { v6_only: true, .. }));
    let unix = r#""address":"/a/b.sock","port":-1,"addressType":-1,"backlog":0,"readableAll":true"#;
    let path = Place::Unix {
        path: "/a/b.sock".into(),
        readable_all: true,
        writable_all: false,
    };
    assert_eq!(with(unix), Ok((path, None, None)));
    let fd = r#""address":null,"port":null,"addressType":null,"fd":50,"backlog":12"#;
    let (fd, datagrams) = (with(fd), false);
    assert_eq!(fd, Ok((Place::Fd { fd: 50, datagrams }, Some(12), None)));
    let udp = place(r#""address":"::","port":53,"addressType":"udp6","fd":-1,"flags":5"#);
    let expected = Place::Udp {
        address: "::".parse().unwrap(),
        port: 53,
        v6_only: true,
        reuse_address: true,
    };
    assert_eq!(udp, expected);
    let fd = place(r#""address":null,"port":null,"addressType":"udp4","fd":7,"flags":null"#);
    let datagrams = true;
    assert_eq!(fd, Place::Fd { fd: 7, datagrams });
    let keys = r#""address":null,"port":1,"addressType":4,"data":{"ticketKeys":"d2"}"#;
    assert_eq!(with(keys).unwrap().2.unwrap(), r#"{"ticketKeys":"d2"}"#);
    for nonsense in [
        r#""port":70000,"addressType":4"#,
        r#""port":"80","addressType":4"#,
        r#""port":80,"addressType":5"#,
        r#""port":80,"addressType":4,"address":"name""#,
        r#""port":80,"addressType":4,"address":"::1""#,
        r#""port":80,"addressType":4,"address":[]"#,
        r#""port":-1,"addressType":-1,"address":"""#,
        r#""port":-1,"addressType":-1,"address":"/a\u0000b""#,
        r#""port":-1,"addressType":-1"#,
        r#""fd":5000000000"#,
        r#""data":1"#,
    ] {
        let answer = with(nonsense).unwrap_err();
        assert!(
            answer.contains(r#""errno":-22"#) && answer.contains(r#""ack":9"#),
            "{answer}"
        );
    }
}

#[test]
fn listening_is_known_by_what_was_asked() {
    let mut talk = Talk::new();
    let say = |act: &str, index: u32, port: i32, seq: u32| {
        format!(
            "{{\"cmd\":\"NODE_CLUSTER\",\"act\":\"{act}\",\"index\":{index},\"address\":\"127.0.0.1\",\
             \"port\":{port},\"addressType\":4,\"seq\":{seq}}}\n"
        )
    };
    for index in 0..2 {
        talk.says(say("queryServer", index, 0, index).as_bytes());
        talk.heard();
        talk.grant(index, 20 + index, &format!("127.0.0.1:{}", 3000 + index));
    }
    for (index, port, listener) in [(1, 3001, Some(21)), (0, 3000, Some(20)), (0, 3001, None)] {
        talk.says(say("listening", index, port, 7).as_bytes());
        let heard = listener.map(|listener| Message::Listening { listener });
        assert_eq!(talk.heard(), Vec::from_iter(heard));
    }
    talk.says(b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\",\"key\":\"21\",\"seq\":8}\n");
    talk.says(say("listening", 1, 3001, 9).as_bytes());
    assert_eq!(talk.heard(), [Message::Close { listener: 21 }]);
}

#[test]
fn refusals_and_what_is_answered_at_once() {
    let mut talk = Talk::new();
    let line = |number: usize| format!("{}\n", WORKER[number]).into_bytes();
    talk.says(&line(1));
    talk.heard();
    let why = Refusal {
        errno: 98,
        why: String::new(),
    };
    talk.ours
        .send(&Message::Refused { query: 1, why }, &[])
        .unwrap();
    talk.says(b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"exitedAfterDisconnect\",\"seq\":3}\n");
    talk.says(b"{\"cmd\":\"NODE_SOCKET_NOTIFY_CLOSE\",\"key\":\"4:a\"}\n");
    talk.says(b"{\"cmd\":\"NODE_SOCKET_GET_COUNT\",\"key\":\"4:a\"}\n");
    talk.says(b"{\"cmd\":\"NODE_DEBUG_ENABLED\"}\n{\"cmd\":\"NODE_\"}\n");
    assert_eq!(talk.heard(), [GO, text("{\"cmd\":\"NODE_\"}")]);
    // It goes already.
    talk.ours.send(&GO, &[]).unwrap();
    assert_eq!(
        talk.got_lines(),
        "{\"cmd\":\"NODE_CLUSTER\",\"errno\":-98,\"key\":\"\",\"ack\":1,\"data\":null,\"seq\":0}\n\
         {\"cmd\":\"NODE_CLUSTER\",\"ack\":3,\"seq\":1}\n\
         {\"cmd\":\"NODE_SOCKET_ALL_CLOSED\",\"key\":\"4:a\"}\n\
         {\"cmd\":\"NODE_SOCKET_COUNT\",\"key\":\"4:a\",\"count\":0}\n"
    );
}

#[test]
fn plain_lines_wait_for_the_answer_to_an_envelope() {
    let mut talk = Talk::new();
    talk.hand_over(3).unwrap();
    let all = [newconn(0), newconn(1), newconn(2)].concat();
    assert_eq!(talk.got(), (all, vec![1, 1, 1]), "one a read");
    talk.text("1").unwrap();
    assert!(!talk.ours.has_unsent());
    assert_eq!(
        (talk.ours.count_unsent(), talk.got_lines().as_str()),
        (1, "")
    );
    assert_eq!(
        talk.hand_over(1).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    // Its own envelopes are answered nevertheless.
    let given =
        b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{\"a\": 1},\"key\":\"4:a\"}\n";
    talk.gives(given);
    talk.says(given);
    assert_eq!(talk.heard(), [text("{\"a\": 1}")]);
    let answers = "{\"cmd\":\"NODE_HANDLE_ACK\"}\n{\"cmd\":\"NODE_HANDLE_NACK\"}\n";
    assert_eq!(talk.got_lines(), answers);
    talk.says(words::ACK);
    talk.says(words::NACK);
    talk.says(b"{\"cmd\":\"NODE_CLUSTER\",\"ack\":0,\"accepted\":false,\"seq\":1}\n");
    assert_eq!(talk.heard(), [answered(1, false), answered(0, false)]);
    assert_eq!(talk.got_lines(), "");
    talk.says(words::ACK);
    talk.says(b"{\"cmd\":\"NODE_CLUSTER\",\"accepted\":true,\"ack\":2,\"seq\":2}\n");
    assert_eq!(talk.heard(), [answered(2, true)]);
    assert_eq!(
        (talk.ours.count_unsent(), talk.got_lines().as_str()),
        (0, "1\n")
    );
    // What nobody has asked.
    talk.says(words::ACK);
    talk.says(words::NACK);
    talk.says(b"{\"cmd\":\"NODE_CLUSTER\",\"ack\":2,\"accepted\":true,\"seq\":2}\n");
    assert_eq!(talk.heard(), []);
}

#[test]
fn an_offer_is_made_again_until_it_comes_through() {
    let mut talk = Talk::new();
    talk.says(format!("{}\n", WORKER[1]).as_bytes());
    talk.heard();
    let file = File::open("/dev/null").unwrap();
    let message = Message::Server {
        query: 1,
        listener: 3,
        shared: true,
        address: Address::Unix("/x".into()),
        data: Some("{\"ticketKeys\":\"aa\"}".to_owned()),
    };
    assert!(talk.ours.send(&message, &[]).is_err());
    talk.ours.send(&message, &[file.as_fd()]).unwrap();
    let offer = "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{\"cmd\":\"NODE_CLUSTER\",\"errno\":0,\
                 \"key\":\"3\",\"ack\":1,\"data\":{\"ticketKeys\":\"aa\"},\"seq\":0}}\n";
    talk.text("1").unwrap();
    for _ in 0..3 {
        assert_eq!(talk.got(), (offer.to_owned(), vec![1]));
        talk.says(words::NACK);
        assert_eq!(talk.heard(), []);
        assert!(talk.ours.has_unsent());
        while !talk.ours.flush().unwrap() {
            std::thread::yield_now();
        }
    }
    talk.says(words::ACK);
    assert_eq!(talk.heard(), []);
    assert_eq!(talk.got_lines(), format!("{offer}1\n"));
}

#[test]
fn a_full_socket_takes_the_rest_later() {
    let mut talk = Talk::new();
    socket::set_send_buffer(talk.ours.as_fd(), 4096).unwrap();
    let large = format!("\"{}\"", "x".repeat(100_000));
    talk.text(&large).unwrap();
    talk.text("2").unwrap();
    assert!(talk.ours.has_unsent());
    assert_eq!(talk.ours.count_unsent(), 2);
    assert_eq!(
        talk.hand_over(2).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    let mut got = String::new();
    while !talk.ours.flush().unwrap() {
        got += &talk.got_lines();
    }
    got += &talk.got_lines();
    assert!(got == format!("{large}\n2\n"));
    // Connections until no more fit: what was taken arrives, each with its own.
    let mut taken = 0;
    while talk.hand_over(2).is_ok() {
        taken += 2;
    }
    let (mut lines, mut counts) = talk.got();
    while !talk.ours.flush().unwrap() || talk.ours.count_unsent() > 0 {
        let (more, with) = talk.got();
        (lines, counts) = (lines + &more, [counts, with].concat());
    }
    let (more, with) = talk.got();
    (lines, counts) = (lines + &more, [counts, with].concat());
    assert_eq!(lines, (0..taken).map(newconn).collect::<String>());
    assert_eq!(counts.iter().sum::<usize>(), taken as usize);
    assert!(counts.iter().all(|count| *count <= 1));
}

#[test]
fn messages_are_one_line_each_and_never_internal() {
    for (message, line) in [
        (
            "{\"a\" : [1,\n 2],\r\n\"b\": \"c \\\" \\\\\"}\n",
            "{\"a\":[1,2],\"b\":\"c \\\" \\\\\"}",
        ),
        ("no json", "\"no json\""),
        ("", "\"\""),
        ("\n", "\"\\n\""),
        ("null", "null"),
        ("[\"\\ud800\"]", "[\"\\ud800\"]"),
        ("{\"cmd\":\"NODE_\"}", "{\"cmd\":\"NODE_\"}"),
        (
            "{\"cmd\":{\"cmd\":\"NODE_X\"}}",
            "{\"cmd\":{\"cmd\":\"NODE_X\"}}",
        ),
        (
            "{\"cmd\":\"NODE_X\",\"cmd\":1}",
            "{\"cmd\":\"NODE_X\",\"cmd\":1}",
        ),
        ("\"NODE_X\"", "\"NODE_X\""),
    ] {
        let written = words::user(message.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), format!("{line}\n"));
    }
    assert_eq!(words::user(b"\xff").unwrap(), "\"\u{fffd}\"\n".as_bytes());
    for internal in [
        "{\"cmd\":\"NODE_X\"}",
        " {\"cmd\":1,\"c\\u006dd\":\"N\\u004fDE_CLUSTER\"}",
        "{\"\\ud800\":1,\"cmd\":\"NODE_X\"}",
    ] {
        let refused = words::user(internal.as_bytes()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
