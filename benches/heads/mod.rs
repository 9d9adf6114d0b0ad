//! Heads of requests that several benches send. Owns their bytes; what is measured with them is the benches'.

/// What a client of the cheapest kind sends.
pub(crate) const PLAIN: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n\r\n";

/// What a browser sends.
pub(crate) const BROWSER: &[u8] = b"GET /articles/2026/11/cluster?page=2&sort=new HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Mode: navigate\r\n\r\n";

/// A head and one that differs from it in a letter of Host: sent in turns, since a head of the same
/// bytes as the one before is not parsed again.
pub(crate) fn in_turns(head: &[u8]) -> [Vec<u8>; 2] {
    let mut other = head.to_vec();
    let host = head.windows(5).position(|bytes| bytes == b"Host:");
    other[host.expect("each has one")] = b'h';
    [head.to_vec(), other]
}
