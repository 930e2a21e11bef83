//! A client without manners: packets by hand.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sha1::{Digest, Sha1};

/// LONG_PASSWORD, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH, and FOUND_ROWS.
pub(crate) const CAPABILITIES: u32 = 1 | 2 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 19;

/// A connection.
pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    pub(crate) salt: Vec<u8>,
    pub(crate) greeting: Vec<u8>,
}

impl Raw {
    /// Connects and takes the greeting.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("a server");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut raw = Self { socket, salt: Vec::new(), greeting: Vec::new() };
        let (_, greeting) = raw.read().expect("a greeting");
        if greeting[0] == 10 {
            let version = greeting.iter().position(|byte| *byte == 0).expect("a version");
            raw.salt = greeting[version + 5..version + 13].to_vec();
            raw.salt.extend_from_slice(&greeting[version + 32..version + 44]);
        }
        raw.greeting = greeting;
        raw
    }
    /// Connects and logs in as `app`.
    pub(crate) fn login(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address);
        raw.send_login("app", "secret");
        let (_, answer) = raw.read().expect("an answer");
        assert_eq!(answer[0], 0, "logged in: {}", String::from_utf8_lossy(&answer));
        raw
    }
    pub(crate) fn send_login(&mut self, user: &str, password: &str) {
        let once = Sha1::digest(password);
        let mask = Sha1::new().chain_update(&self.salt).chain_update(Sha1::digest(once)).finalize();
        let mut payload = CAPABILITIES.to_le_bytes().to_vec();
        payload.extend_from_slice(&[0, 0, 0, 1, 45]);
        payload.extend_from_slice(&[0; 23]);
        payload.extend_from_slice(user.as_bytes());
        payload.extend_from_slice(&[0, 20]);
        payload.extend(once.iter().zip(&mask).map(|(a, b)| a ^ b));
        payload.extend_from_slice(b"mysql_native_password\0");
        self.write(1, &payload);
    }
    pub(crate) fn write(&mut self, sequence: u8, payload: &[u8]) {
        let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
        let mut packet = vec![a, b, c, sequence];
        packet.extend_from_slice(payload);
        self.socket.write_all(&packet).expect("the server takes it");
    }
    /// A packet's sequence number and payload; an error at the end.
    pub(crate) fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 4];
        self.socket.read_exact(&mut header)?;
        let [a, b, c, sequence] = header;
        let mut payload = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
        self.socket.read_exact(&mut payload)?;
        Ok((sequence, payload))
    }
    /// Reads an ERR packet: its sequence number, code, and the rest.
    pub(crate) fn read_error(&mut self) -> (u8, u16, String) {
        let (sequence, payload) = self.read().expect("an answer");
        assert_eq!(payload[0], 0xff, "an error");
        let code = u16::from_le_bytes([payload[1], payload[2]]);
        (sequence, code, String::from_utf8_lossy(&payload[3..]).into_owned())
    }
    /// Whether the server has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.socket.read(&mut [0; 16]), Ok(0) | Err(_))
    }
    pub(crate) fn query(&mut self, sql: &str) {
        let mut payload = vec![3];
        payload.extend_from_slice(sql.as_bytes());
        self.write(0, &payload);
    }
    pub(crate) fn ping(&mut self) {
        self.write(0, &[14]);
        let (sequence, answer) = self.read().expect("an answer");
        assert_eq!((sequence, answer[0]), (1, 0));
    }
}
