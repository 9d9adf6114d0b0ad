//! One connection's talk: what is answered, in what order, and when it ends.

use super::*;
use crate::app::ws::socket::MOST;
use crate::app::ws::tests::{close, frame};
use std::sync::mpsc::{Receiver, Sender, channel};

const SIZES: Sizes = Sizes {
    frame: 1 << 20,
    message: 1 << 20,
};
const EVERY: Duration = Duration::from_secs(30);

/// A session that has begun, but for its line, and a copy of its socket.
struct Rig {
    session: Session,
    socket: Socket,
    now: Instant,
    ended: Receiver<CloseReason>,
}

impl Rig {
    fn new(on_message: impl FnMut(&Socket, Message) + Send + 'static) -> Self {
        Self::with(Callbacks {
            message: Some(Box::new(on_message)),
            ..Callbacks::default()
        })
    }

    fn with(mut callbacks: Callbacks) -> Self {
        let (told, ended): (Sender<_>, _) = channel();
        callbacks.close = Some(Box::new(move |_, reason| told.send(reason).unwrap()));
        let socket = Socket::new(None);
        let now = Instant::now();
        let mut session = Session::new(socket.clone(), callbacks, SIZES, Some(EVERY));
        session.life = Some(Life::Heard(now));
        session.entered = true;
        Self {
            session,
            socket,
            now,
            ended,
        }
    }

    fn echo() -> Self {
        Self::new(|socket, message| {
            let _ = socket.send(message);
        })
    }

    /// Everything that comes of `input`, as the server would ask for it.
    fn receive(&mut self, input: &[u8]) -> (Vec<u8>, After) {
        let mut out = Vec::new();
        let mut after = self.session.received(input, self.now, &mut out);
        while after == After::More {
            let mut more = Vec::new();
            after = self.session.fill(self.now, &mut more);
            out.extend(more);
        }
        (out, after)
    }

    fn later(&mut self, by: Duration) -> (Vec<u8>, After) {
        self.now += by;
        let mut out = Vec::new();
        let after = self.session.expired(self.now, &mut out);
        (out, after)
    }

    fn reason(mut self) -> u16 {
        self.session.ended();
        self.session.ended();
        drop(self.session);
        let reason = self.ended.try_recv().unwrap();
        assert!(self.ended.try_recv().is_err(), "once");
        assert!(!self.socket.is_open());
        reason.code()
    }
}

#[test]
fn answers_and_pongs_keep_their_order() {
    let mut rig = Rig::echo();
    let input = [
        frame(0x81, b"one"),
        frame(0x89, b"p"),
        frame(0x8a, b"unasked"),
        frame(0x82, b"two"),
    ]
    .concat();
    let (out, after) = rig.receive(&input);
    assert_eq!(out, b"\x81\x03one\x8a\x01p\x82\x03two");
    assert_eq!(after, After::Continue);
    assert_eq!(rig.reason(), code::ABNORMAL);
}

#[test]
fn a_violation_comes_after_what_was_right() {
    let mut rig = Rig::echo();
    let input = [frame(0x81, b"one"), frame(0x83, b""), frame(0x81, b"two")].concat();
    let (out, after) = rig.receive(&input);
    assert_eq!(out[..7], *b"\x81\x03one\x88\x13");
    assert_eq!(out[7..9], code::PROTOCOL.to_be_bytes());
    assert_eq!(after, After::Finish);
    assert_eq!(rig.reason(), code::PROTOCOL);
}

#[test]
fn a_close_is_answered_and_nothing_after_it() {
    let mut rig = Rig::echo();
    let input = [frame(0x88, &close(4001, b"why")), frame(0x81, b"two")].concat();
    let (out, after) = rig.receive(&input);
    assert_eq!(out, [&[0x88, 5][..], &close(4001, b"why")].concat());
    assert_eq!(after, After::Finish);
    assert_eq!(rig.reason(), 4001);
    let mut rig = Rig::echo();
    assert_eq!(
        rig.receive(&frame(0x88, b"")),
        (b"\x88\x00".to_vec(), After::Finish)
    );
    assert_eq!(rig.reason(), code::NO_STATUS);
}

#[test]
fn our_close_waits_for_the_peers() {
    let mut rig = Rig::new(|socket, _| {
        socket.send("last").unwrap();
        socket.close(4000, "x");
        assert!(socket.send("late").is_err());
    });
    let input = [frame(0x81, b"a"), frame(0x81, b"b"), frame(0x89, b"p")].concat();
    let (out, after) = rig.receive(&input);
    assert_eq!(
        out,
        [&b"\x81\x04last\x88\x03"[..], &close(4000, b"x")].concat()
    );
    assert_eq!(after, After::Continue);
    assert_eq!(rig.session.deadline(), Some(rig.now + CLOSE_WAIT));
    let (out, after) = rig.receive(&frame(0x88, &close(4000, b"")));
    assert_eq!((out.len(), after), (0, After::Finish));
    assert_eq!(rig.reason(), 4000);
}

#[test]
fn a_peer_that_does_not_answer_our_close_is_left() {
    let mut rig = Rig::echo();
    let mut out = Vec::new();
    let after = rig.session.drain(rig.now, &mut out);
    assert_eq!(
        (&out[..], after),
        (&b"\x88\x02\x03\xe9"[..], After::Continue)
    );
    assert_eq!(
        rig.later(CLOSE_WAIT - Duration::from_secs(1)),
        (vec![], After::Continue)
    );
    assert_eq!(rig.later(Duration::from_secs(1)), (vec![], After::Finish));
    assert_eq!(rig.reason(), code::AWAY);
}

#[test]
fn silence_is_asked_and_then_ended() {
    let mut rig = Rig::echo();
    assert_eq!(rig.session.deadline(), Some(rig.now + EVERY));
    assert_eq!(rig.later(EVERY), (b"\x89\x00".to_vec(), After::Continue));
    // Anything will do.
    rig.now += EVERY / 2;
    rig.receive(&frame(0x8a, b""));
    assert_eq!(rig.session.deadline(), Some(rig.now + EVERY));
    assert_eq!(rig.later(EVERY).0, b"\x89\x00");
    let (out, after) = rig.later(EVERY);
    assert_eq!(out[2..4], code::ERROR.to_be_bytes());
    assert_eq!(after, After::Finish);
}

#[test]
fn a_panic_closes_one_connection() {
    let mut rig = Rig::new(|socket, message| {
        socket.send(message).unwrap();
        panic!("on purpose");
    });
    let input = [frame(0x81, b"a"), frame(0x81, b"b")].concat();
    let (out, after) = rig.receive(&input);
    assert_eq!(out, b"\x81\x01a\x88\x02\x03\xf3");
    assert_eq!(after, After::Finish);
    assert_eq!(rig.reason(), code::ERROR);
}

#[test]
fn a_peer_that_does_not_read_is_not_listened_to() {
    let mut rig = Rig::new(|socket, _| {
        socket.send(vec![7; 100_000]).unwrap();
    });
    let input = frame(0x81, b"x").repeat(100);
    let mut out = Vec::new();
    let mut after = rig.session.received(&input, rig.now, &mut out);
    assert!(
        rig.socket.buffered() < HIGH_WATER + 200_000,
        "{}",
        rig.socket.buffered()
    );
    let mut total = out.len();
    while after == After::More {
        assert!(out.len() <= FILL);
        out.clear();
        after = rig.session.fill(rig.now, &mut out);
        total += out.len();
    }
    assert_eq!(total, 100 * 100_010, "all is answered in the end");
}

#[test]
fn a_sender_is_told_to_pause_refused_and_told_to_go_on() {
    let (told, room) = channel();
    let mut rig = Rig::with(Callbacks {
        drain: Some(Box::new(move |_| told.send(()).unwrap())),
        ..Callbacks::default()
    });
    assert_eq!(rig.socket.send("little"), Ok(true));
    assert_eq!(rig.socket.send(vec![0; HIGH_WATER]), Ok(false));
    assert_eq!(rig.socket.send(vec![0; MOST]), Ok(false));
    assert_eq!(
        rig.socket.send("more"),
        Err(crate::app::ws::SendError::Full)
    );
    rig.receive(b"");
    assert_eq!(room.try_iter().count(), 1, "once");
    assert_eq!(rig.socket.buffered(), 0);
    assert_eq!(rig.socket.send("more"), Ok(true));
}

#[test]
fn another_thread_closes_behind_what_it_sent() {
    let mut rig = Rig::echo();
    let socket = rig.socket.clone();
    let other = std::thread::spawn(move || {
        socket.send("a").unwrap();
        socket.close(1005, "no such code");
    });
    other.join().unwrap();
    let mut out = Vec::new();
    assert_eq!(rig.session.fill(rig.now, &mut out), After::Continue);
    assert_eq!(out[..3], *b"\x81\x01a");
    assert_eq!(out[5..7], code::ERROR.to_be_bytes());
    assert_eq!(rig.session.deadline(), Some(rig.now + CLOSE_WAIT));
}

#[test]
fn an_idle_connection_is_small() {
    let size = size_of::<Session>();
    assert!(size <= 400, "{size}");
}

#[test]
fn a_message_that_drips_is_too_slow_and_one_that_flows_is_not() {
    for (step, slow) in [(1, true), (3000, false)] {
        let mut rig = Rig::echo();
        let whole = frame(0x82, &[7; 65_000]);
        let mut ended = None;
        for piece in whole.chunks(step).take(20) {
            rig.now += Duration::from_secs(5);
            let (out, after) = rig.receive(piece);
            if after == After::Finish {
                ended = Some(u16::from_be_bytes([out[2], out[3]]));
                break;
            }
        }
        assert_eq!(ended, slow.then_some(code::POLICY), "by {step}");
    }
}

#[test]
fn broadcasts_to_a_peer_that_does_not_read_count_in_full() {
    let socket = Socket::new(None);
    let letter: std::sync::Arc<[u8]> = frame(0x81, b"x").into();
    let mut sent = 0;
    while socket.send_shared(&letter).is_ok() {
        sent += 1;
        assert!(sent <= 1 + MOST / letter.len());
    }
    assert!(socket.buffered() > MOST);
}
