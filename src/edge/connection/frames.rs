//! Where the frames of a WebSocket end, seen from what is written to the client: the gateway's own Close frame must not
//! fall into another one (RFC 6455, 5.2).

/// Follows what the app sends.
#[derive(Debug, Default)]
pub(super) struct Frames {
    at: At,
    /// The app has sent its own Close frame.
    pub(super) are_closed: bool,
}

#[derive(Clone, Debug)]
enum At {
    /// In the response's head; so many bytes of its end are written.
    Head(usize),
    /// In a frame's header; so many bytes of it are written.
    Header { bytes: [u8; LONGEST_HEADER], written: usize },
    /// In a frame's payload; so many bytes are left.
    Payload(u64),
}

const LONGEST_HEADER: usize = 14;
const NO_HEADER: At = At::Header { bytes: [0; LONGEST_HEADER], written: 0 };
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const CLOSE: u8 = 8;

/// Status 1008, policy violation (RFC 6455, 7.4.1), and why.
pub(super) const SIGNED_OUT: &[u8] = b"\x88\x15\x03\xf0the sign-in is over";

impl Default for At {
    fn default() -> Self {
        At::Head(0)
    }
}

impl Frames {
    /// These bytes were written to the client.
    pub(super) fn wrote(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            match &mut self.at {
                At::Head(matched) => {
                    *matched = match END_OF_HEAD.get(*matched) {
                        Some(next) if next == first => *matched + 1,
                        _ => usize::from(*first == b'\r'),
                    };
                    bytes = rest;
                    if *matched == END_OF_HEAD.len() {
                        self.at = NO_HEADER;
                    }
                }
                At::Header { bytes: header, written } => {
                    if let Some(place) = header.get_mut(*written) {
                        *place = *first;
                    }
                    *written += 1;
                    bytes = rest;
                    if let Some(payload) = payload_of(header, *written) {
                        self.are_closed |= header[0] & 0x0f == CLOSE;
                        self.at = At::Payload(payload);
                        self.leave_empty_payload();
                    }
                }
                At::Payload(left) => {
                    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= passed as u64;
                    bytes = bytes.get(passed..).unwrap_or_default();
                    self.leave_empty_payload();
                }
            }
        }
    }

    /// How many of these bytes belong to what was begun: a frame, or the response's head.
    pub(super) fn rest_of_frame(&self, bytes: &[u8]) -> usize {
        let mut ahead = Frames { at: self.at.clone(), are_closed: self.are_closed };
        let mut taken = 0;
        while !ahead.are_between() {
            let Some(next) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else { return bytes.len() };
            let step = match ahead.at {
                At::Payload(left) => usize::try_from(left).unwrap_or(usize::MAX).min(next.len()),
                At::Head(_) | At::Header { .. } => 1,
            };
            ahead.wrote(next.get(..step).unwrap_or_default());
            taken += step;
        }
        taken
    }

    /// Whether another frame may begin here.
    pub(super) fn are_between(&self) -> bool {
        matches!(self.at, At::Header { written: 0, .. })
    }

    fn leave_empty_payload(&mut self) {
        if matches!(self.at, At::Payload(0)) {
            self.at = NO_HEADER;
        }
    }
}

/// The length of the payload, once the header is complete.
fn payload_of(header: &[u8; LONGEST_HEADER], written: usize) -> Option<u64> {
    let [_, second, a, b, c, d, e, f, g, h, ..] = *header;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (length, payload) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes([a, b]))),
        127 => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        short => (2, u64::from(short)),
    };
    (written >= length + mask).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_may_begin_where_another_has_ended() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n".to_vec();
        let frames: [Vec<u8>; 6] = [
            vec![0x81, 2, b'h', b'i'],
            vec![0x82, 0],
            [&[0x82, 126, 1, 0][..], &[7; 256]].concat(),
            [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65536]].concat(),
            [&[0x82, 0x83][..], &[1, 2, 3, 4], &[9; 3]].concat(),
            vec![0x89, 0],
        ];
        let ends: Vec<usize> = std::iter::once(&head)
            .chain(&frames)
            .scan(0, |at, piece| {
                *at += piece.len();
                Some(*at)
            })
            .collect();
        let sent = [head, frames.concat()].concat();
        for step in [1, 2, 3, 7, 4096, sent.len()] {
            let (mut seen, mut at) = (Frames::default(), 0);
            for piece in sent.chunks(step) {
                seen.wrote(piece);
                at += piece.len();
                assert_eq!(seen.are_between(), ends.contains(&at), "after {at} bytes, {step} at once");
            }
            assert!(!seen.are_closed);
            for from in 0..sent.len().min(400) {
                let mut there = Frames::default();
                there.wrote(&sent[..from]);
                let end = ends.iter().find(|end| **end >= from).unwrap();
                assert_eq!(there.rest_of_frame(&sent[from..]), end - from, "from {from}");
                assert_eq!(there.rest_of_frame(&sent[from..(from + 1).min(sent.len())]), usize::from(*end > from));
            }
            seen.wrote(SIGNED_OUT);
            assert!(seen.are_between() && seen.are_closed);
        }
    }
}
