//! Answers as a client reads them: the same however they are cut. The first byte says whether HEAD was asked, the next
//! two where it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::http::Error;
use mcluster::internals::Answers;

type Answer = ((u16, bool), Vec<u8>, Option<Vec<u8>>);

fn read<'b>(
    pieces: impl IntoIterator<Item = &'b [u8]>,
    to_head: bool,
) -> (Vec<Answer>, Result<bool, Error>) {
    let mut reader = Answers::new(to_head);
    let (mut answers, mut body) = (Vec::new(), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() {
            match reader.feed_into(piece, &mut body) {
                Ok((used, Some(end))) => {
                    assert!(
                        used <= piece.len() && reader.is_idle() && (200..1000).contains(&end.0)
                    );
                    let worker = reader.worker().map(<[u8]>::to_vec);
                    answers.push((end, std::mem::take(&mut body), worker));
                    piece = &piece[used..];
                }
                Ok((used, None)) => {
                    assert!(used == piece.len() && !reader.is_idle(), "input left lying");
                    break;
                }
                Err(error) => {
                    assert_eq!((error.status(), reader.feed(b"HTTP")), (502, Err(error)));
                    assert_eq!((reader.at_close(), reader.is_idle()), (None, false));
                    return (answers, Err(error));
                }
            }
        }
    }
    if let Some(end) = reader.at_close() {
        assert!(!end.1, "a connection that ended goes on");
        answers.push((
            end,
            std::mem::take(&mut body),
            reader.worker().map(<[u8]>::to_vec),
        ));
    }
    let idle = reader.is_idle();
    (answers, Ok(idle))
}

fuzz_target!(|data: &[u8]| {
    let [to_head, first, second, data @ ..] = data else {
        return;
    };
    let to_head = to_head % 2 == 1;
    let whole = read([data], to_head);
    for (_, body, worker) in &whole.0 {
        assert!(body.len() <= data.len() && (!to_head || body.is_empty()));
        assert!(
            worker
                .as_ref()
                .is_none_or(|name| (1..=64).contains(&name.len()))
        );
    }
    let at = |byte: u8| usize::from(byte) * data.len() / 255;
    let (a, b) = (at(*first).min(at(*second)), at(*first).max(at(*second)));
    assert_eq!(read([&data[..a], &data[a..b], &data[b..]], to_head), whole);
    assert_eq!(read(data.chunks(1), to_head), whole);
});
