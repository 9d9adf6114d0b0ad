//! That the program after finds what the one before has left.

use super::*;
use crate::ipc::Place;
use std::os::fd::IntoRawFd;

#[test]
fn what_is_written_is_read() {
    let state = State {
        protocol: crate::ipc::VERSION,
        wanted: 3,
        members: vec![MemberState {
            pid: 7,
            unsent: vec![(vec![1, 2], vec![9])],
            ..MemberState::default()
        }],
        waiting: vec![ArrivalState {
            peer: "127.0.0.1:80".parse().ok(),
            bytes: b"GET".to_vec(),
            ..ArrivalState::default()
        }],
        ..State::default()
    };
    let file = state.write().unwrap();
    let read = State::read(file.as_fd()).unwrap();
    assert_eq!(format!("{read:?}"), format!("{state:?}"));
}

/// What `ports` are after an upgrade.
fn upgraded(ports: Ports, registry: &mio::Registry) -> Ports {
    let mut kept = Kept::default();
    let all = ports.iter().filter_map(|port| kept.port(&ports, port));
    let mut state = State {
        protocol: crate::ipc::VERSION,
        ports: all.collect(),
        next_number: ports.next_number(),
        ..State::default()
    };
    // As execve(2) does: what was kept is open, and nobody's.
    let copy = |fd: &mut RawFd| {
        let own = kept.all.iter().find(|one| one.as_raw_fd() == *fd).unwrap();
        let copy = own.try_clone_to_owned().unwrap();
        exec::keep_across_exec(copy.as_fd(), true).unwrap();
        *fd = copy.into_raw_fd();
    };
    for port in &mut state.ports {
        let beside = port.beside.values_mut().map(|socket| &mut socket.fd);
        beside.chain([&mut port.first.fd]).for_each(&copy);
    }
    drop(kept);
    drop(ports);
    let file = state.write().unwrap();
    let state = State::read(file.as_fd()).unwrap();
    let restored = state.ports.into_iter().map(PortState::adopt);
    let restored = restored.collect::<io::Result<_>>().unwrap();
    Ports::restored(registry, restored, state.next_number).unwrap()
}

#[test]
fn what_programs_asked_for_goes_on() {
    let own = format!(
        "mcluster-upgrade-{}-{}",
        std::process::id(),
        "d".repeat(100)
    );
    let directory = std::env::temp_dir().join(own);
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("x.sock");
    let reactor = crate::net::Reactor::new().unwrap();
    let registry = reactor.registry();
    let localhost = std::net::Ipv4Addr::LOCALHOST.into();
    let mut ports = Ports::new();
    let ask = |nth, place| {
        Ask::Bind(Bind {
            place,
            nth,
            backlog: Some(9),
            data: Some("keys".to_owned()),
        })
    };
    let asks = [
        ask(
            1,
            Place::Tcp {
                address: Some(localhost),
                port: 0,
                v6_only: false,
            },
        ),
        ask(
            0,
            Place::Udp {
                address: localhost,
                port: 0,
                v6_only: false,
                reuse_address: true,
            },
        ),
        ask(
            0,
            Place::Unix {
                path: path.clone(),
                readable_all: true,
                writable_all: false,
            },
        ),
    ];
    for ask in &asks {
        ports.find(registry, ask, WorkerId(1), false).unwrap();
    }
    let urls = |ports: &Ports| ports.iter().map(Port::url).collect::<Vec<_>>();
    let before = urls(&ports);
    let mut ports = upgraded(ports, registry);
    assert_eq!(urls(&ports), before);
    for (number, ask) in (0..).zip(&asks) {
        let again = ports.find(registry, ask, WorkerId(1), false);
        assert_eq!(again.unwrap_err().errno, libc::EADDRINUSE, "it is there");
        assert_eq!(ports.find(registry, ask, WorkerId(2), false), Ok(number));
        let data = ports.get(number).unwrap().data.as_deref();
        assert_eq!(data, Some("keys"));
    }
    ports.close_all(registry);
    assert!(!path.exists(), "by its own name");
    std::fs::remove_dir(directory).unwrap();
}

#[test]
fn another_protocol_and_nonsense_are_refused() {
    let other = State {
        protocol: crate::ipc::VERSION + 1,
        ..State::default()
    };
    let file = other.write().unwrap();
    let error = State::read(file.as_fd()).unwrap_err();
    assert!(error.to_string().contains("protocol"), "{error}");
    let nonsense = exec::sealed_memfd("x", b"{}").unwrap();
    assert!(State::read(nonsense.as_fd()).is_err());
}
