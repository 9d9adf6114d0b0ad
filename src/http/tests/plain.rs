//! The head parser against `httparse` read plainly: nothing is accepted that it refuses, and what is accepted is the
//! same request.

use super::super::{Method, Parsed, Version};
use super::parse;

/// Compares the two on the head at the front of `bytes`.
pub(super) fn compare(bytes: &[u8]) {
    let (head, answer) = parse(bytes);
    let mut room = [httparse::EMPTY_HEADER; 512];
    let mut request = httparse::Request::new(&mut room);
    let plain = request.parse(bytes);

    match answer {
        Ok(Parsed::Complete(used)) => {
            if plain == Err(httparse::Error::Version) {
                // HTTP/1.2 to HTTP/1.9, which are served as 1.1.
                assert_eq!(head.version(), Version::Http11);
                return;
            }
            assert_eq!(plain, Ok(httparse::Status::Complete(used)));
            assert_eq!(request.method, Some(head.method().as_str()));
            assert_eq!(request.path, Some(head.target()));
            assert_eq!(
                request.version,
                Some(u8::from(head.version() == Version::Http11))
            );
            let fields: Vec<_> = head.fields().collect();
            let plain: Vec<_> = request
                .headers
                .iter()
                .map(|header| (header.name, header.value))
                .collect();
            assert_eq!(fields, plain);
            for (name, _) in &plain {
                let first = plain
                    .iter()
                    .find(|(other, _)| other.eq_ignore_ascii_case(name))
                    .map(|(_, value)| *value);
                assert_eq!(head.get(&name.to_ascii_uppercase()), first);
            }
        }
        Ok(Parsed::Partial) => match plain {
            // Not told apart yet: an empty line cut in two, or a version cut short.
            Ok(httparse::Status::Partial) | Err(httparse::Error::Version) => {}
            other => panic!("partial, but httparse says {other:?}"),
        },
        Err(_) => {
            assert_eq!(head.fields().count(), 0, "a refused head is empty");
            assert_eq!((head.method(), head.target()), (Method::Get, ""));
        }
    }
}
