//! Packets: a payload of up to 2^24-2 bytes behind a header of length and sequence number; longer payloads
//! are split, and end with a packet that is shorter than the most.

use bytes::{Buf, Bytes, BytesMut};

/// Payload bytes of a packet that is followed by its continuation.
pub(crate) const SPLIT: usize = 0xff_ffff;
const HEADER: usize = 4;

/// What makes the stream of packets unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PacketError {
    /// Another sequence number was due.
    #[error("packets out of order: expected {expected}, got {got}")]
    OutOfOrder {
        /// What was due.
        expected: u8,
        /// What came.
        got: u8,
    },
    /// A payload longer than allowed.
    #[error("a packet of more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}

/// Bytes in, payloads out.
#[derive(Debug)]
pub(crate) struct PacketReader {
    buffer: BytesMut,
    /// The parts so far of a payload that is split.
    whole: BytesMut,
    /// Whether a split payload is being put together.
    continuing: bool,
    expected: u8,
    max: usize,
}

impl PacketReader {
    pub(crate) fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), whole: BytesMut::new(), continuing: false, expected: 0, max }
    }
    /// Changes the limit for payloads that have not begun yet.
    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
    }
    /// Bytes that have arrived.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
    /// The sequence number that the next packet has to have; ignored in the middle of a split payload.
    pub(crate) fn expect(&mut self, sequence: u8) {
        if !self.continuing {
            self.expected = sequence;
        }
    }
    /// The sequence number of the answer to the payload returned last.
    pub(crate) fn answer_sequence(&self) -> u8 {
        self.expected
    }
    /// The next payload, if all of it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, PacketError> {
        loop {
            let Some((header, _)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
            let [a, b, c, sequence] = *header;
            let length = u32::from_le_bytes([a, b, c, 0]) as usize;
            if sequence != self.expected {
                return Err(PacketError::OutOfOrder { expected: self.expected, got: sequence });
            }
            // Before the payload is waited for: an announcement must not make us hold its bytes.
            if self.whole.len() + length > self.max {
                return Err(PacketError::TooLarge { max: self.max });
            }
            if self.buffer.len() < HEADER + length {
                return Ok(None);
            }
            self.buffer.advance(HEADER);
            let part = self.buffer.split_to(length);
            self.expected = sequence.wrapping_add(1);
            if length == SPLIT {
                self.continuing = true;
                self.whole.unsplit(part);
                continue;
            }
            if !self.continuing {
                return Ok(Some(part.freeze()));
            }
            self.continuing = false;
            let mut whole = std::mem::take(&mut self.whole);
            whole.extend_from_slice(&part);
            return Ok(Some(whole.freeze()));
        }
    }
    /// Takes whatever has arrived after the last payload: the beginning of TLS.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
    /// Gives memory back while nothing is under way.
    pub(crate) fn shrink(&mut self) {
        if self.buffer.is_empty() && !self.continuing {
            self.buffer = BytesMut::new();
            self.whole = BytesMut::new();
        }
    }
}

/// Payloads in, packets out.
#[derive(Debug, Default)]
pub(crate) struct PacketWriter {
    out: Vec<u8>,
    sequence: u8,
}

/// Where a packet begins in the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun(usize);

impl PacketWriter {
    /// The sequence number of the next packet.
    pub(crate) fn sequence(&self) -> u8 {
        self.sequence
    }
    pub(crate) fn set_sequence(&mut self, sequence: u8) {
        self.sequence = sequence;
    }
    /// Begins a packet; its payload is then appended to [`PacketWriter::payload`].
    pub(crate) fn begin(&mut self) -> Begun {
        let begun = Begun(self.out.len());
        self.out.extend_from_slice(&[0; HEADER]);
        begun
    }
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }
    /// Fills in the header, splitting the payload where it is too long for one packet.
    pub(crate) fn end(&mut self, begun: Begun) {
        let start = begun.0;
        let length = self.out.len() - start - HEADER;
        if length < SPLIT {
            let header = self.header(length);
            self.out[start..start + HEADER].copy_from_slice(&header);
            return;
        }
        let payload = self.out.split_off(start + HEADER);
        self.out.truncate(start);
        self.split(&payload);
    }
    /// A whole packet.
    pub(crate) fn packet(&mut self, payload: &[u8]) {
        self.split(payload);
    }
    fn split(&mut self, payload: &[u8]) {
        let mut rest = payload;
        loop {
            let (part, after) = rest.split_at(rest.len().min(SPLIT));
            let header = self.header(part.len());
            self.out.extend_from_slice(&header);
            self.out.extend_from_slice(part);
            rest = after;
            if part.len() < SPLIT {
                return;
            }
        }
    }
    fn header(&mut self, length: usize) -> [u8; HEADER] {
        let [a, b, c, _] = (length as u32).to_le_bytes();
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        [a, b, c, sequence]
    }
    /// Bytes waiting to be sent.
    pub(crate) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }
    /// Gives memory back.
    pub(crate) fn shrink(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(payload: &[u8]) -> Vec<u8> {
        let mut writer = PacketWriter::default();
        let begun = writer.begin();
        writer.payload().extend_from_slice(payload);
        writer.end(begun);
        std::mem::take(writer.pending())
    }

    #[test]
    fn payloads_around_the_split_read_back_whole() {
        for length in [0, 1, SPLIT - 1, SPLIT, SPLIT + 1, 2 * SPLIT, 2 * SPLIT + 7] {
            let payload = vec![7; length];
            let bytes = written(&payload);
            let mut reader = PacketReader::new(usize::MAX);
            // In uneven pieces, so that headers are cut too.
            for piece in bytes.chunks(1_000_003) {
                reader.extend(piece);
            }
            let got = reader.next().expect("in order").expect("whole");
            assert_eq!(got.len(), length);
            assert!(got.iter().all(|byte| *byte == 7));
            assert_eq!(reader.next(), Ok(None));
        }
    }

    #[test]
    fn an_unexpected_sequence_number_is_refused() {
        let mut reader = PacketReader::new(1024);
        reader.extend(&[1, 0, 0, 3, 9]);
        assert_eq!(reader.next(), Err(PacketError::OutOfOrder { expected: 0, got: 3 }));
    }

    #[test]
    fn a_payload_is_refused_by_its_announcement() {
        let mut reader = PacketReader::new(1024);
        reader.extend(&[0x01, 0x04, 0, 0]);
        assert_eq!(reader.next(), Err(PacketError::TooLarge { max: 1024 }));
        let mut reader = PacketReader::new(1024);
        reader.extend(&[0x00, 0x04, 0, 0]);
        assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn several_packets_in_one_piece_come_one_by_one() {
        let mut reader = PacketReader::new(1024);
        reader.extend(&[1, 0, 0, 0, b'a', 1, 0, 0, 0, b'b', 1, 0]);
        assert_eq!(reader.next().expect("in order").as_deref(), Some(&b"a"[..]));
        reader.expect(0);
        assert_eq!(reader.next().expect("in order").as_deref(), Some(&b"b"[..]));
        reader.expect(0);
        assert_eq!(reader.next(), Ok(None));
    }
}
