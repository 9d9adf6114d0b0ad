//! What a Node program says to the primary: the same however it is cut. The first byte says where.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::internals::Program;

/// What was heard, up to where the conversation ended.
fn hear<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> (Vec<String>, bool) {
    let mut program = Program::new().expect("descriptors");
    let mut heard = Vec::new();
    for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
        match program.say(piece) {
            Ok(more) => heard.extend(more),
            Err(_) => return (heard, false),
        }
    }
    (heard, true)
}

fuzz_target!(|data: &[u8]| {
    let [cut, data @ ..] = data else {
        return;
    };
    let whole = hear([data]);
    assert!(whole.0.len() <= data.len());
    let cut = usize::from(*cut) * data.len() / 255;
    assert_eq!(hear([&data[..cut], &data[cut..]]), whole);
    assert_eq!(hear(data.chunks(1)), whole);
});
