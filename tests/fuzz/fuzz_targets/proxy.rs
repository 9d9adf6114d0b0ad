//! What proxies say: the PROXY header, the same however it is cut, and the fields about the client.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::http::{
    ForwardedFields, MAX_PROXY_BLOCK, MAX_PROXY_LINE, ProxyHeader, forwarded_client,
};
use std::net::IpAddr;

fuzz_target!(|data: &[u8]| {
    header(data);
    // Most of what is random is none.
    header(&[b"PROXY ", data].concat());
    header(&[b"\r\n\r\n\0\r\nQUIT\n", data].concat());
    fields(data);
});

fn header(data: &[u8]) {
    let whole = ProxyHeader::parse(data);
    match whole {
        Ok(Some((header, used))) => {
            assert!(used <= data.len());
            assert!(used <= MAX_PROXY_LINE || ProxyHeader::is_binary(data));
            assert!(used <= 16 + MAX_PROXY_BLOCK);
            assert_eq!(ProxyHeader::parse(&data[..used]), Ok(Some((header, used))));
            for end in (0..used).step_by(used.div_ceil(50)) {
                assert_eq!(ProxyHeader::parse(&data[..end]), Ok(None), "to {end}");
            }
        }
        Ok(None) => assert!(data.len() < 16 + MAX_PROXY_BLOCK),
        // A beginning may be good yet, but is no header.
        Err(_) => {
            for end in (0..data.len()).step_by(data.len().div_ceil(50).max(1)) {
                assert!(
                    !matches!(ProxyHeader::parse(&data[..end]), Ok(Some(_))),
                    "to {end}"
                );
            }
        }
    }
}

fn fields(data: &[u8]) {
    const NAMES: [&str; 3] = ["Forwarded", "X-Forwarded-For", "x-forwarded-proto"];
    let lines = data.split(|&b| b == b'\n').take(20);
    let fields: Vec<_> = lines
        .filter_map(|line| line.split_first())
        .map(|(&name, value)| (NAMES[usize::from(name) % NAMES.len()], value))
        .collect();
    let peer: IpAddr = "10.0.0.1".parse().expect("an address");
    // Who believes nobody but the peer goes no further than one hop.
    for kind in [ForwardedFields::XForwarded, ForwardedFields::Forwarded] {
        let near = forwarded_client(fields.iter().copied(), kind, Some(peer), |_| false);
        assert!(near.ip.is_some());
        let _ = forwarded_client(fields.iter().copied(), kind, Some(peer), |_| true);
        let _ = forwarded_client(fields.iter().copied(), kind, None, |ip| ip.is_ipv4());
    }
}
