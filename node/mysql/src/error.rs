//! Errors as clients see them: a number, an SQLSTATE and a sentence.

/// An ERR packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct MysqlError {
    /// MySQL's number (`ER_...`).
    pub code: u16,
    /// SQLSTATE: five characters of ASCII.
    pub state: [u8; 5],
    /// For a person.
    pub message: String,
}

impl MysqlError {
    /// An error of the given number, SQLSTATE and text. A state that is not five bytes long becomes `HY000`.
    pub fn new(code: u16, state: &str, message: impl Into<String>) -> Self {
        let state = state.as_bytes().try_into().unwrap_or(*b"HY000");
        Self { code, state, message: message.into() }
    }

    pub(crate) fn out_of_order() -> Self {
        Self::new(1156, "08S01", "Got packets out of order")
    }
    pub(crate) fn too_large() -> Self {
        Self::new(1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes")
    }
    pub(crate) fn malformed() -> Self {
        Self::new(1835, "HY000", "Malformed communication packet.")
    }
    pub(crate) fn bad_handshake() -> Self {
        Self::new(1043, "08S01", "Bad handshake")
    }
    pub(crate) fn too_many_connections() -> Self {
        Self::new(1040, "08004", "Too many connections")
    }
    pub(crate) fn unknown_command() -> Self {
        Self::new(1047, "08S01", "Unknown command")
    }
    pub(crate) fn client_gone() -> Self {
        Self::new(1160, "08S01", "Got an error writing communication packets")
    }
    pub(crate) fn unknown_statement(id: u32, what: &str) -> Self {
        Self::new(1243, "HY000", format!("Unknown prepared statement handler ({id}) given to {what}"))
    }
    pub(crate) fn internal(what: &str) -> Self {
        Self::new(1815, "HY000", format!("Internal error: {what}"))
    }
}
