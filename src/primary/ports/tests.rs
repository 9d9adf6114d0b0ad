//! What of the listeners shows without a cluster around them.

use super::*;
use crate::net::{Listen, Reactor};
use std::net::{TcpListener, TcpStream};

fn any() -> Listener {
    let listen: Listen = "127.0.0.1:0".parse().unwrap();
    listen.bind().unwrap()
}

#[test]
fn an_address_that_was_lost_keeps_no_other_from_its_clients() {
    let mut reactor = Reactor::new().unwrap();
    let mut ports = Ports::new();
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let listener = any();
        addresses.push(listener.address().to_string());
        ports
            .add(reactor.registry(), listener, String::new())
            .unwrap();
    }
    let policy = &SchedulingPolicy::RoundRobin;
    ports.mind(reactor.registry(), policy, |_, _| false);
    ports.shut(reactor.registry());
    for address in &addresses {
        assert!(TcpStream::connect(address).is_err());
    }
    let other = TcpListener::bind(&addresses[0]).unwrap();
    let now = reactor.now();
    ports.open_again(reactor.registry(), now);
    let _clients = [&addresses[1], &addresses[2]].map(|one| TcpStream::connect(one).unwrap());
    reactor.wait(Some(now + RETRY)).unwrap();
    let ready: Vec<_> = reactor.ready().map(|one| one.token).collect();
    assert_eq!(ready.len(), 2, "{ready:?}: the lost one is not waited for");
    assert!(
        ports
            .socket(reactor.registry(), 0, 0, &SchedulingPolicy::Shared)
            .is_none(),
        "no worker gets it"
    );
    // It is tried again until its address is free.
    assert_eq!(ports.deadline(), Some(now + RETRY));
    assert!(!ports.resume_at(reactor.registry(), now));
    assert!(!ports.resume_at(reactor.registry(), now + RETRY));
    drop(other);
    assert!(ports.resume_at(reactor.registry(), now + 2 * RETRY));
    assert_eq!(ports.deadline(), None);
    let _client = TcpStream::connect(&addresses[0]).unwrap();
    let first = LISTENERS;
    let now = reactor.now();
    let accepted = ports.gate.accept(reactor.registry(), first, now);
    assert!(matches!(
        accepted,
        crate::server::gate::Accepted::Connection(..)
    ));
    ports.close_all(reactor.registry());
}
