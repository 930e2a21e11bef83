//! The packets of a connection's beginning.

use crate::constants::CapabilityFlags as Caps;

use crate::auth::{AuthPlugin, Salt};
use crate::codec::{Malformed, Reader, put_lenenc};
use crate::packet::PacketWriter;

/// utf8mb4_0900_ai_ci, what MySQL 8 announces.
const COLLATION: u8 = 255;
const SERVER_STATUS_AUTOCOMMIT: u16 = 2;

/// What this server can do; `SSL` is added where there is a certificate.
pub(crate) fn offered(tls: bool) -> Caps {
    let mut all = Caps::LONG_PASSWORD
        | Caps::FOUND_ROWS
        | Caps::LONG_FLAG
        | Caps::CONNECT_WITH_DB
        | Caps::IGNORE_SPACE
        | Caps::PROTOCOL_41
        | Caps::INTERACTIVE
        | Caps::TRANSACTIONS
        | Caps::SECURE_CONNECTION
        | Caps::MULTI_STATEMENTS
        | Caps::MULTI_RESULTS
        | Caps::PS_MULTI_RESULTS
        | Caps::PLUGIN_AUTH
        | Caps::CONNECT_ATTRS
        | Caps::PLUGIN_AUTH_LENENC_DATA
        | Caps::DEPRECATE_EOF;
    all.set(Caps::SSL, tls);
    all
}

/// The server's first packet.
pub(crate) struct Greeting<'a> {
    pub(crate) version: &'a str,
    pub(crate) connection: u32,
    pub(crate) salt: &'a Salt,
    pub(crate) capabilities: Caps,
    pub(crate) plugin: AuthPlugin,
}

impl Greeting<'_> {
    pub(crate) fn write(&self, out: &mut PacketWriter) {
        let [c0, c1, c2, c3] = self.capabilities.bits().to_le_bytes();
        let begun = out.begin();
        let payload = out.payload();
        payload.push(10);
        payload.extend(self.version.bytes().filter(|byte| *byte != 0));
        payload.push(0);
        payload.extend_from_slice(&self.connection.to_le_bytes());
        payload.extend_from_slice(&self.salt[..8]);
        payload.extend_from_slice(&[0, c0, c1, COLLATION]);
        payload.extend_from_slice(&SERVER_STATUS_AUTOCOMMIT.to_le_bytes());
        payload.extend_from_slice(&[c2, c3, self.salt.len() as u8 + 1]);
        payload.extend_from_slice(&[0; 10]);
        payload.extend_from_slice(&self.salt[8..]);
        payload.push(0);
        payload.extend_from_slice(self.plugin.name().as_bytes());
        payload.push(0);
        out.end(begun);
    }
}

/// Asks the client to authenticate with a plugin.
pub(crate) fn write_auth_switch(out: &mut PacketWriter, plugin: AuthPlugin, salt: &Salt) {
    let begun = out.begin();
    let payload = out.payload();
    payload.push(0xfe);
    payload.extend_from_slice(plugin.name().as_bytes());
    payload.push(0);
    payload.extend_from_slice(salt);
    payload.push(0);
    out.end(begun);
}

/// A client's answer to the greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// It wants TLS first.
    Tls,
    /// It speaks a protocol of before MySQL 4.1.
    TooOld,
    /// It logs in.
    Login(Identity),
}

/// Who logs in, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) capabilities: Caps,
    pub(crate) collation: u16,
    pub(crate) user: Vec<u8>,
    pub(crate) response: Vec<u8>,
    pub(crate) database: Option<Vec<u8>>,
    /// `None`: not named, so the one that the server announced.
    pub(crate) plugin: Option<Vec<u8>>,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Response {
    /// Parses the first packet of a client; `offered` is what the greeting said.
    pub(crate) fn parse(payload: &[u8], offered: Caps) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let low = reader.u16()?;
        if !Caps::from_bits(u32::from(low)).contains(Caps::PROTOCOL_41) {
            return Ok(Self::TooOld);
        }
        let high = reader.u16()?;
        let capabilities = Caps::from_bits(u32::from(low) | u32::from(high) << 16) & offered;
        let _max_packet = reader.u32()?;
        let collation = u16::from(reader.u8()?);
        reader.take(23)?;
        if reader.is_empty() && capabilities.contains(Caps::SSL) {
            return Ok(Self::Tls);
        }
        let user = reader.nul_terminated()?.to_vec();
        let response = if capabilities.contains(Caps::PLUGIN_AUTH_LENENC_DATA) {
            reader.lenenc_bytes()?
        } else if capabilities.contains(Caps::SECURE_CONNECTION) {
            let length = reader.u8()?;
            reader.take(usize::from(length))?
        } else {
            reader.nul_or_rest()
        }
        .to_vec();
        let mut database = None;
        if capabilities.contains(Caps::CONNECT_WITH_DB) && !reader.is_empty() {
            database = Some(reader.nul_or_rest().to_vec());
        }
        let (plugin, attributes) = plugin_and_attributes(&mut reader, capabilities)?;
        let database = database.filter(|name| !name.is_empty());
        Ok(Self::Login(Identity { capabilities, collation, user, response, database, plugin, attributes }))
    }
}

impl Identity {
    /// Parses COM_CHANGE_USER behind its command byte.
    pub(crate) fn parse_change_user(payload: &[u8], capabilities: Caps) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let user = reader.nul_terminated()?.to_vec();
        let response = if capabilities.contains(Caps::SECURE_CONNECTION) {
            let length = reader.u8()?;
            reader.take(usize::from(length))?
        } else {
            reader.nul_terminated()?
        }
        .to_vec();
        let database = Some(reader.nul_or_rest().to_vec()).filter(|name| !name.is_empty());
        let collation = if reader.is_empty() { u16::from(COLLATION) } else { reader.u16()? };
        let (plugin, attributes) = plugin_and_attributes(&mut reader, capabilities)?;
        Ok(Self { capabilities, collation, user, response, database, plugin, attributes })
    }
}

type Attributes = Vec<(String, String)>;

fn plugin_and_attributes(
    reader: &mut Reader<'_>,
    capabilities: Caps,
) -> Result<(Option<Vec<u8>>, Attributes), Malformed> {
    let mut plugin = None;
    if capabilities.contains(Caps::PLUGIN_AUTH) && !reader.is_empty() {
        plugin = Some(reader.nul_or_rest().to_vec()).filter(|name| !name.is_empty());
    }
    let mut attributes = Vec::new();
    if capabilities.contains(Caps::CONNECT_ATTRS) && !reader.is_empty() {
        let mut pairs = Reader::new(reader.lenenc_bytes()?);
        while !pairs.is_empty() {
            let key = String::from_utf8_lossy(pairs.lenenc_bytes()?).into_owned();
            let value = String::from_utf8_lossy(pairs.lenenc_bytes()?).into_owned();
            attributes.push((key, value));
        }
    }
    Ok((plugin, attributes))
}

/// An OK packet with nothing to say but the status flags.
pub(crate) fn write_plain_ok(out: &mut PacketWriter, status: u16) {
    let begun = out.begin();
    let payload = out.payload();
    payload.push(0);
    put_lenenc(payload, 0);
    put_lenenc(payload, 0);
    payload.extend_from_slice(&status.to_le_bytes());
    payload.extend_from_slice(&[0, 0]);
    out.end(begun);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the mariadb command line sends it, with a database and attributes.
    pub(crate) fn sample() -> Vec<u8> {
        let mut payload = offered(false).bits().to_le_bytes().to_vec();
        payload.extend_from_slice(&[0, 0, 0, 1, 45]);
        payload.extend_from_slice(&[0; 23]);
        payload.extend_from_slice(b"app\0");
        payload.push(20);
        payload.extend_from_slice(&[9; 20]);
        payload.extend_from_slice(b"shop\0mysql_native_password\0");
        payload.extend_from_slice(&[6, 2, b'o', b's', 2, b'l', b'x']);
        payload
    }

    #[test]
    fn a_login_is_understood() {
        let Ok(Response::Login(identity)) = Response::parse(&sample(), offered(false)) else {
            panic!("a login");
        };
        assert_eq!(identity.user, b"app");
        assert_eq!(identity.response, [9; 20]);
        assert_eq!(identity.database.as_deref(), Some(&b"shop"[..]));
        assert_eq!(identity.plugin.as_deref(), Some(&b"mysql_native_password"[..]));
        assert_eq!(identity.attributes, [("os".to_owned(), "lx".to_owned())]);
        assert_eq!(identity.collation, 45);
    }

    #[test]
    fn no_prefix_of_a_login_panics() {
        let whole = sample();
        for end in 0..whole.len() {
            let _ = Response::parse(&whole[..end], offered(false));
            let _ = Identity::parse_change_user(&whole[..end], offered(false));
        }
    }

    #[test]
    fn what_was_not_offered_is_not_used() {
        let mut payload = sample();
        payload[0] |= 0x20; // Compression.
        let Ok(Response::Login(identity)) = Response::parse(&payload, offered(false)) else {
            panic!("a login")
        };
        assert!(!identity.capabilities.contains(Caps::COMPRESS));
        assert_eq!(Response::parse(&[0, 0, 0, 0], offered(false)), Ok(Response::TooOld));
    }
}
