//! What proxies say of the client behind them: PROXY headers at any cut, and forwarded fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::http::{MAX_PROXY_BLOCK, ProxyHeader, forwarded_client};
use std::net::IpAddr;

fuzz_target!(|data: &[u8]| {
    let whole = ProxyHeader::parse(data);
    if let Ok(Some((_, used))) = whole {
        assert!(used <= data.len() && used <= 16 + MAX_PROXY_BLOCK);
    }
    // What is decided stays decided, whatever follows.
    for end in [data.len() / 2, data.len().saturating_sub(1), data.len().min(16)] {
        match (ProxyHeader::parse(&data[..end]), whole) {
            (Ok(None), _) | (Err(_), Err(_)) => {}
            (found, whole) => assert_eq!(found, whole),
        }
    }
    let peer: IpAddr = [10, 0, 0, 1].into();
    let mut lines = data.split(|byte| *byte == b'\n');
    let names = ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"];
    let fields: Vec<_> = names.into_iter().zip(lines.by_ref()).collect();
    let nobody = forwarded_client(fields.iter().copied(), Some(peer), |_| false);
    let all = forwarded_client(fields.iter().copied(), Some(peer), |_| true);
    assert!(nobody.ip.is_some() && all.ip.is_some());
    // What a client puts left of all that, in a field of its own, changes nothing.
    let own = [("X-Forwarded-For", &b"6.6.6.6"[..])];
    let with = own.into_iter().chain(fields.iter().copied().filter(|(name, _)| *name != "Forwarded"));
    let without = fields.iter().copied().filter(|(name, _)| *name != "Forwarded");
    let trusted = |ip: IpAddr| ip == peer;
    let before = forwarded_client(without.clone(), Some(peer), trusted);
    let after = forwarded_client(with, Some(peer), trusted);
    if before.ip != Some(peer) {
        assert_eq!(after.ip, before.ip);
    }
});
