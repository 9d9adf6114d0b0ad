//! What a handle counts of the messages that go through it.

use super::*;
use crate::ipc::user::cost;
use std::time::Duration;

#[test]
fn a_sender_is_told_to_go_on_only_if_told_to_pause() {
    let worker = ClusterHandle::default().add(WorkerId(1));
    assert_eq!(worker.send(vec![0; HIGH_WATER - 100]), Ok(true));
    while worker.next_unsent().is_some() {}
    assert!(!worker.set_queued(HIGH_WATER - 96));
    assert!(!worker.set_queued(0), "nobody was told to pause");
    assert_eq!(worker.send(vec![0; HIGH_WATER]), Ok(false));
    assert!(!worker.set_queued(0), "the loop has not seen it");
    while worker.next_unsent().is_some() {}
    assert!(!worker.set_queued(HIGH_WATER));
    assert!(worker.set_queued(HIGH_WATER / 2));
    assert!(!worker.set_queued(0), "once");
}

#[test]
fn messages_are_counted_with_their_lengths() {
    let worker = ClusterHandle::default().add(WorkerId(1));
    let room = (0..).find(|_| worker.send("") == Ok(false));
    assert_eq!(room, Some(HIGH_WATER / cost(&Message::default())));
}

#[test]
fn many_small_ones_are_bounded_by_what_they_take() {
    let worker = ClusterHandle::default().add(WorkerId(1));
    let room = (0..).find(|_| worker.send("").is_err());
    let each = cost(&Message::default()) + crate::ipc::user::OVERHEAD;
    assert_eq!(room, Some(MAX_QUEUED / each + 1));
}

#[test]
fn what_is_lost_is_counted_and_said_seldom() {
    let cluster = ClusterHandle::default();
    let worker = cluster.add(WorkerId(1));
    for _ in 0..3 {
        let _ = worker.send(vec![0; MAX_MESSAGE]);
    }
    for _ in 0..1000 {
        let message = Message::from("late");
        let error = cluster.queue_all(Kind::Publish, None, &message);
        assert_eq!(error, Err(SendError::Full(message)));
    }
    // The first was said at once.
    let later = Instant::now() + Duration::from_secs(10);
    assert_eq!(worker.0.lost.borrow_mut().add(0, later), Some(999));
}
