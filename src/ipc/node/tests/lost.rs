//! What never comes through.

use super::*;

#[test]
fn an_offer_that_fails_for_good_is_a_listener_closed() {
    let mut talk = Talk::new();
    let offer = Offer {
        ack: 1,
        listener: 3,
        data: "null".to_owned(),
        tries: u32::MAX,
    };
    let with = File::open("/dev/null").unwrap().into();
    let line = b"an offer\n".to_vec();
    talk.ours.sending.push_with(line, with, Kind::Offer(offer));
    talk.ours.flush().unwrap();
    assert_eq!(talk.got(), ("an offer\n".to_owned(), vec![1]));
    talk.says(words::NACK);
    assert_eq!(talk.heard(), [Message::Close { listener: 3 }]);
    assert!(talk.got_lines().contains("\"ack\":1"));
}
