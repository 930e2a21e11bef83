//! One connection: reads packets, logs its client in, executes its commands.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::client::{Client, Environment, Next};
use crate::encode::write_error;
use crate::error::MysqlError;
use crate::handler::{ConnectionInfo, SessionStatus};
use crate::handshake::{Identity, write_plain_ok};
use crate::login::{LoggedIn, Login, Step};
use crate::packet::{PacketError, PacketReader, PacketWriter};
use crate::registry::{Entry, Registry};
use crate::responder::Sink;
use crate::shared::Shared;
use crate::transport::Transport;

/// Longest payload of a client that has not logged in.
const LOGIN_PACKET_MAX: usize = 64 << 10;

/// Where serving a connection has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// The client is silent.
    Silent,
    /// The connection is over.
    Over,
}

enum Phase {
    Login(Box<Login>),
    Commands(Box<Client>),
    /// COM_CHANGE_USER is being authenticated.
    ChangingUser(Box<Client>, Box<Login>),
    Over,
}

/// One connection.
pub(crate) struct Connection {
    entry: Arc<Entry>,
    registry: Arc<Registry>,
    transport: Transport,
    reader: PacketReader,
    writer: PacketWriter,
    phase: Phase,
    /// Beyond `max_connections`: for an administrator.
    extra: bool,
    /// The socket is known to the reactor's epoll.
    watched: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The session first: whoever waits for the registry to be empty relies on its being gone.
        self.phase = Phase::Over;
        self.registry.remove(self.entry.id);
    }
}

impl Connection {
    /// Greets a new client.
    pub(crate) fn greet(shared: &Shared, entry: Arc<Entry>, extra: bool) -> io::Result<Box<Self>> {
        let mut writer = PacketWriter::default();
        let config = &shared.config;
        let registry = Arc::clone(&shared.registry);
        let login = Login::greet(
            &config.server_version,
            entry.id,
            entry.host(),
            config.default_plugin,
            config.tls.is_some(),
            &mut writer,
        );
        let phase = match &login {
            Ok(_) => Phase::Over,
            Err(_) => {
                registry.remove(entry.id);
                return Err(io::Error::other("no random numbers for a greeting"));
            }
        };
        let mut connection = Box::new(Self {
            transport: Transport::new(Arc::clone(&entry)),
            entry,
            registry,
            reader: PacketReader::new(LOGIN_PACKET_MAX),
            writer,
            phase,
            extra,
            watched: false,
        });
        if let Ok(login) = login {
            connection.phase = Phase::Login(Box::new(login));
        }
        connection.entry.socket.set_write_timeout(Some(config.net_write_timeout))?;
        connection.send()?;
        Ok(connection)
    }
    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
    /// Whether the reactor knew the socket before; from here on it does.
    pub(crate) fn watched(&mut self) -> bool {
        std::mem::replace(&mut self.watched, true)
    }
    /// Gives memory back.
    pub(crate) fn shrink(&mut self) {
        self.reader.shrink();
        self.writer.shrink();
    }

    fn send(&mut self) -> io::Result<()> {
        if self.writer.pending().is_empty() {
            return Ok(());
        }
        self.transport.send(self.writer.pending())
    }

    /// Serves the client until it is silent or gone.
    pub(crate) fn serve(&mut self, shared: &Shared, scratch: &mut [u8]) -> Served {
        match self.serve_until_error(shared, scratch) {
            Ok(served) => served,
            Err(error) => {
                tracing::debug!(connection = self.entry.id, %error, "a connection broke");
                Served::Over
            }
        }
    }

    fn serve_until_error(&mut self, shared: &Shared, scratch: &mut [u8]) -> io::Result<Served> {
        loop {
            match self.next_payload() {
                Ok(Some(payload)) => {
                    if self.entry.closing().is_some() {
                        return self.farewell(scratch);
                    }
                    self.writer.set_sequence(self.reader.answer_sequence());
                    let go_on = self.payload(&payload, shared)?;
                    drop(payload);
                    self.send()?;
                    if !go_on {
                        self.transport.linger(scratch);
                        return Ok(Served::Over);
                    }
                    if matches!(self.phase, Phase::Over) {
                        return Ok(Served::Over);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(problem) => return self.broken(problem, scratch),
            }
            self.transport.set_read_timeout(shared.linger())?;
            match self.transport.read(scratch) {
                Ok(0) if self.entry.closing().is_some() => return self.farewell(scratch),
                Ok(0) => return Ok(Served::Over),
                Ok(count) => self.reader.extend(&scratch[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(Served::Silent);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn next_payload(&mut self) -> Result<Option<Bytes>, PacketError> {
        // Every command begins at 0; a login counts on.
        let sequence = if matches!(self.phase, Phase::Commands(_)) { 0 } else { self.writer.sequence() };
        self.reader.expect(sequence);
        self.reader.next()
    }

    /// Tells the client why it is closed from this side.
    fn farewell(&mut self, scratch: &mut [u8]) -> io::Result<Served> {
        if let Some(error) = self.entry.closing().and_then(|reason| reason.error()) {
            // In answer to a command that has come meanwhile, or out of the blue.
            let in_login = !matches!(self.phase, Phase::Commands(_));
            let sequence = if in_login { self.writer.sequence() } else { self.reader.answer_sequence() };
            self.writer.set_sequence(sequence);
            write_error(&mut self.writer, &error);
            self.send()?;
            self.transport.linger(scratch);
        }
        Ok(Served::Over)
    }

    /// The stream of packets cannot be followed any more.
    fn broken(&mut self, problem: PacketError, scratch: &mut [u8]) -> io::Result<Served> {
        tracing::info!(connection = self.entry.id, %problem, "closing a connection");
        let (error, sequence) = match problem {
            PacketError::OutOfOrder { got, .. } => (MysqlError::out_of_order(), got.wrapping_add(1)),
            PacketError::TooLarge { .. } => {
                (MysqlError::too_large(), self.reader.answer_sequence().wrapping_add(1))
            }
        };
        self.writer.set_sequence(sequence);
        write_error(&mut self.writer, &error);
        self.send()?;
        self.transport.linger(scratch);
        Ok(Served::Over)
    }

    /// Acts on a payload; false when the connection is to be closed after what was written.
    fn payload(&mut self, payload: &Bytes, shared: &Shared) -> io::Result<bool> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Login(mut login) => {
                let step = login.feed(payload, shared, &mut self.writer);
                self.login_step(login, None, step, shared)
            }
            Phase::ChangingUser(client, mut login) => {
                let step = login.feed(payload, shared, &mut self.writer);
                self.login_step(login, Some(client), step, shared)
            }
            Phase::Commands(client) => self.command(client, payload, shared),
            Phase::Over => Ok(false),
        }
    }

    fn command(&mut self, mut client: Box<Client>, payload: &Bytes, shared: &Shared) -> io::Result<bool> {
        let environment = Environment {
            config: &shared.config,
            backend: shared.backend.as_ref(),
            registry: &shared.registry,
            entry: &self.entry,
        };
        match client.command(payload, &environment, &mut self.writer, &mut self.transport) {
            Next::Command => {
                self.phase = Phase::Commands(client);
                Ok(true)
            }
            // With an error to be read, close gently; after COM_QUIT there is nothing to say.
            Next::Close => Ok(self.writer.pending().is_empty()),
            Next::ChangeUser(body) => self.change_user(client, &body, shared),
        }
    }

    fn change_user(&mut self, client: Box<Client>, body: &[u8], shared: &Shared) -> io::Result<bool> {
        let Ok(identity) = Identity::parse_change_user(body, client.capabilities) else {
            return Ok(self.refuse(&MysqlError::malformed()));
        };
        let encrypted = self.transport.is_encrypted();
        let begun = Login::change_user(identity, self.entry.host(), encrypted, shared, &mut self.writer);
        let (login, step) = begun.map_err(|_| io::Error::other("no random numbers for a challenge"))?;
        self.login_step(Box::new(login), Some(client), step, shared)
    }

    fn refuse(&mut self, error: &MysqlError) -> bool {
        write_error(&mut self.writer, error);
        false
    }

    fn login_step(
        &mut self,
        mut login: Box<Login>,
        client: Option<Box<Client>>,
        step: Step,
        shared: &Shared,
    ) -> io::Result<bool> {
        match step {
            Step::Continue => {
                self.phase = match client {
                    None => Phase::Login(login),
                    Some(client) => Phase::ChangingUser(client, login),
                };
                Ok(true)
            }
            Step::StartTls => {
                let Some(config) = &shared.config.tls else {
                    return Ok(self.refuse(&MysqlError::bad_handshake()));
                };
                let arrived = self.reader.take_rest();
                self.transport.start_tls(Arc::clone(config), &arrived)?;
                login.tls_started();
                self.phase = Phase::Login(login);
                Ok(true)
            }
            Step::Refused(error) => {
                tracing::info!(connection = self.entry.id, %error, "refusing a client");
                Ok(self.refuse(&error))
            }
            Step::Done(who) => Ok(self.logged_in(*who, client, shared)),
        }
    }

    /// Opens the session of a client that has proven who it is; false if there is none for it.
    fn logged_in(&mut self, who: LoggedIn, client: Option<Box<Client>>, shared: &Shared) -> bool {
        if self.extra && !who.admin {
            return self.refuse(&MysqlError::too_many_connections());
        }
        let info = ConnectionInfo {
            id: self.entry.id,
            user: who.user,
            host: self.entry.host(),
            database: who.database,
            collation: who.collation,
            capabilities: who.capabilities,
            attributes: who.attributes,
            registry: Arc::clone(&shared.registry),
        };
        let user = info.user.clone();
        let opened = match client {
            None => shared.backend.open(info).map(|handler| Box::new(Client::new(handler, who.capabilities))),
            Some(mut client) => client.handler.change_user(info).map(|()| {
                client.changed_user();
                client
            }),
        };
        match opened {
            Ok(client) => {
                self.entry.logged_in(&user, client.handler.as_ref());
                let status: SessionStatus = client.handler.status();
                write_plain_ok(&mut self.writer, status.flags().bits());
                let max = shared.backend.max_allowed_packet().unwrap_or(shared.config.max_allowed_packet);
                self.reader.set_max(max);
                self.phase = Phase::Commands(client);
                true
            }
            Err(error) => self.refuse(&error),
        }
    }
}

/// Refuses a client before anything is spent on it: no thread, no session.
pub(crate) fn turn_away(mut socket: &std::net::TcpStream, error: &MysqlError) {
    let mut writer = PacketWriter::default();
    // Without SQLSTATE: the client has not said yet that it understands one. Few clients insist; MySQL's
    // own server leaves it out as well.
    let begun = writer.begin();
    let payload = writer.payload();
    payload.push(0xff);
    payload.extend_from_slice(&error.code.to_le_bytes());
    payload.extend_from_slice(error.message.as_bytes());
    writer.end(begun);
    // The buffer of a new socket has room; should it not, the client sees only the end of the connection.
    let _ = socket.set_nonblocking(true);
    let _ = io::Write::write(&mut socket, writer.pending());
}
