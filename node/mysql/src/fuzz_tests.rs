//! Bytes of a client's choosing never panic, whatever they are.

use proptest::prelude::*;

use crate::codec::Reader;
use crate::handshake::{Identity, Response, offered};
use crate::packet::PacketReader;
use crate::params::Statement;
use crate::value::{Date, DateTime, Time};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_login_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(byte) = bytes.get_mut(1) {
            *byte |= 0x02; // PROTOCOL_41, to get further.
        }
        let _ = Response::parse(&bytes, offered(true));
        let _ = Identity::parse_change_user(&bytes, offered(true));
    }

    #[test]
    fn any_bytes_are_parameters_or_refused(count in 0u16..20, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut statement = Statement::new(count);
        let _ = statement.bind(&bytes);
        let _ = statement.bind(&bytes);
    }

    #[test]
    fn packets_do_not_depend_on_how_bytes_arrive(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cut in 0usize..300,
    ) {
        let payloads = |pieces: &[&[u8]]| {
            let mut reader = PacketReader::new(1 << 16);
            let mut got = Vec::new();
            for piece in pieces {
                reader.extend(piece);
                loop {
                    reader.expect(0);
                    match reader.next() {
                        Ok(Some(payload)) => got.push(Ok(payload)),
                        Ok(None) => break,
                        Err(error) => {
                            got.push(Err(error));
                            return got;
                        }
                    }
                }
            }
            got
        };
        let cut = cut.min(bytes.len());
        prop_assert_eq!(payloads(&[&bytes]), payloads(&[&bytes[..cut], &bytes[cut..]]));
    }

    #[test]
    fn any_text_is_a_time_or_refused(text in "[-0-9:. ]{0,30}", bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        let _ = (Date::parse(text.as_bytes()), DateTime::parse(text.as_bytes()), Time::parse(text.as_bytes()));
        let _ = crate::temporal::read_datetime(&mut Reader::new(&bytes));
        let _ = crate::temporal::read_time(&mut Reader::new(&bytes));
    }
}
