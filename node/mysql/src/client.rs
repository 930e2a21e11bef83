//! A client that has logged in: its commands, its prepared statements, its session.

use std::collections::HashMap;

use crate::constants::{CapabilityFlags as Caps, ColumnFlags, ColumnType, Command, StatusFlags};
use bytes::Bytes;

use crate::codec::{Malformed, Reader};
use crate::encode::{OkHeader, write_column, write_end, write_error, write_ok};
use crate::error::MysqlError;
use crate::handler::{Backend, Handler, Outcome};
use crate::packet::PacketWriter;
use crate::params::{ParameterError, Statement};
use crate::registry::{Entry, Registry};
use crate::responder::{Format, Responder, Sink};
use crate::shared::Config;
use crate::value::Column;

/// What follows a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next command.
    Command,
    /// Nothing: the client has said goodbye, or cannot be talked to any more.
    Close,
    /// COM_CHANGE_USER, with this payload.
    ChangeUser(Bytes),
}

/// What commands need of the server around.
pub(crate) struct Environment<'a> {
    pub(crate) config: &'a Config,
    pub(crate) backend: &'a dyn Backend,
    pub(crate) registry: &'a Registry,
    pub(crate) entry: &'a Entry,
}

/// A client that has logged in.
pub(crate) struct Client {
    pub(crate) handler: Box<dyn Handler>,
    pub(crate) capabilities: Caps,
    statements: HashMap<u32, Statement>,
    last_statement: u32,
}

impl Client {
    pub(crate) fn new(mut handler: Box<dyn Handler>, capabilities: Caps) -> Self {
        handler.set_multi_statements(capabilities.contains(Caps::MULTI_STATEMENTS));
        Self { handler, capabilities, statements: HashMap::new(), last_statement: 0 }
    }

    /// Another user takes over.
    pub(crate) fn changed_user(&mut self) {
        self.statements.clear();
        self.handler.set_multi_statements(self.capabilities.contains(Caps::MULTI_STATEMENTS));
    }

    /// Executes one command. The answer is in `out` afterwards, except for what was sent before.
    pub(crate) fn command(
        &mut self,
        payload: &Bytes,
        environment: &Environment<'_>,
        out: &mut PacketWriter,
        sink: &mut dyn Sink,
    ) -> Next {
        let Some((&number, body)) = payload.split_first() else {
            write_error(out, &MysqlError::malformed());
            return Next::Close;
        };
        let Some(command) = Command::from_number(number) else {
            write_error(out, &MysqlError::unknown_command());
            return Next::Command;
        };
        let info = (command == Command::Query).then(|| payload.slice(1..));
        environment.entry.command_begins(command.name(), info);
        let next = self.dispatch(command, body, payload, environment, out, sink);
        environment.entry.command_ends(self.handler.as_ref());
        next.unwrap_or_else(|Malformed| {
            write_error(out, &MysqlError::malformed());
            Next::Close
        })
    }

    fn dispatch(
        &mut self,
        command: Command,
        body: &[u8],
        payload: &Bytes,
        environment: &Environment<'_>,
        out: &mut PacketWriter,
        sink: &mut dyn Sink,
    ) -> Result<Next, Malformed> {
        match command {
            Command::Quit => return Ok(Next::Close),
            Command::ChangeUser => return Ok(Next::ChangeUser(payload.slice(1..))),
            Command::Query => return Ok(self.query(body, out, sink)),
            Command::StmtExecute => return self.execute(body, environment.config, out, sink),
            Command::StmtFetch => self.fetch(body, out)?,
            Command::StmtPrepare => self.prepare(body, environment.config, out),
            Command::StmtSendLongData => self.long_data(body, environment.config)?,
            Command::StmtClose => self.close(body)?,
            Command::StmtReset => self.reset_statement(body, out)?,
            Command::InitDb => {
                let result = self.handler.init_db(&String::from_utf8_lossy(body));
                self.plain(result, out);
            }
            Command::FieldList => self.field_list(body, out)?,
            Command::Ping => self.plain(Ok(()), out),
            Command::Statistics => out.packet(environment.backend.statistics().as_bytes()),
            Command::ProcessKill => {
                let id = Reader::new(body).u32()?;
                let found = environment.registry.kill_connection(id);
                let unknown = || MysqlError::new(1094, "HY000", format!("Unknown thread id: {id}"));
                self.plain(found.then_some(()).ok_or_else(unknown), out);
            }
            Command::SetOption => self.set_option(body, out)?,
            Command::ResetConnection => {
                self.statements.clear();
                let result = self.handler.reset();
                self.plain(result, out);
            }
        }
        Ok(Next::Command)
    }

    fn status(&self) -> Outcome {
        Outcome { status: self.handler.status(), ..Outcome::default() }
    }

    /// OK or ERR.
    fn plain(&self, result: Result<(), MysqlError>, out: &mut PacketWriter) {
        match result {
            Ok(()) => write_ok(out, OkHeader::Ok, &self.status(), StatusFlags::empty()),
            Err(error) => write_error(out, &error),
        }
    }

    fn query(&mut self, sql: &[u8], out: &mut PacketWriter, sink: &mut dyn Sink) -> Next {
        let mut responder = Responder::new(out, sink, self.capabilities, Format::Text);
        let result = self.handler.query(sql, &mut responder);
        if responder.finish(result).gone { Next::Close } else { Next::Command }
    }

    fn prepare(&mut self, sql: &[u8], config: &Config, out: &mut PacketWriter) {
        if self.statements.len() >= config.prepared_statements_max {
            let text = format!(
                "Can't create more than max_prepared_stmt_count statements (current value: {})",
                config.prepared_statements_max
            );
            return write_error(out, &MysqlError::new(1461, "42000", text));
        }
        self.last_statement = self.last_statement.wrapping_add(1).max(1);
        let id = self.last_statement;
        let outcome = self.status();
        let prepared = match self.handler.prepare(id, sql) {
            Ok(prepared) => prepared,
            Err(error) => return write_error(out, &error),
        };
        let parameters = prepared.parameters;
        let begun = out.begin();
        let payload = out.payload();
        payload.push(0);
        payload.extend_from_slice(&id.to_le_bytes());
        payload.extend_from_slice(&(prepared.columns.len() as u16).to_le_bytes());
        payload.extend_from_slice(&parameters.to_le_bytes());
        payload.extend_from_slice(&[0, 0, 0]);
        out.end(begun);
        let mut parameter = Column::new("?", ColumnType::VarString);
        parameter.collation = 63;
        parameter.length = 0;
        parameter.flags = ColumnFlags::BINARY;
        let parameter_columns = vec![parameter; usize::from(parameters)];
        for columns in [&parameter_columns, &prepared.columns] {
            for column in columns {
                write_column(out, column, false);
            }
            if !columns.is_empty() && !self.capabilities.contains(Caps::DEPRECATE_EOF) {
                write_end(out, self.capabilities, &outcome, StatusFlags::empty());
            }
        }
        drop(prepared);
        self.statements.insert(id, Statement::new(parameters));
    }

    fn execute(
        &mut self,
        body: &[u8],
        config: &Config,
        out: &mut PacketWriter,
        sink: &mut dyn Sink,
    ) -> Result<Next, Malformed> {
        let mut reader = Reader::new(body);
        let id = self.statement_id(reader.u32()?);
        let flags = reader.u8()?;
        let _iterations = reader.u32()?;
        let Some(statement) = self.statements.get_mut(&id) else {
            write_error(out, &MysqlError::unknown_statement(id, "mysqld_stmt_execute"));
            return Ok(Next::Command);
        };
        statement.cursor = None;
        if statement.broken_long_data {
            statement.forget_long_data();
            write_error(
                out,
                &MysqlError::new(1210, "HY000", "Incorrect arguments to mysqld_stmt_send_long_data"),
            );
            return Ok(Next::Command);
        }
        let parameters = match statement.bind(reader.rest()) {
            Ok(parameters) => parameters,
            Err(ParameterError::Malformed) => return Err(Malformed),
            Err(ParameterError::Unbound) => {
                write_error(
                    out,
                    &MysqlError::new(1210, "HY000", "Incorrect arguments to mysqld_stmt_execute"),
                );
                return Ok(Next::Command);
            }
        };
        let read_only_cursor = flags & 1 != 0;
        let format =
            if read_only_cursor { Format::Cursor { max: config.cursor_bytes_max } } else { Format::Binary };
        let mut responder = Responder::new(out, sink, self.capabilities, format);
        let result = self.handler.execute(id, &parameters, &mut responder);
        let answered = responder.finish(result);
        statement.forget_long_data();
        statement.cursor = answered.cursor;
        Ok(if answered.gone { Next::Close } else { Next::Command })
    }

    fn fetch(&mut self, body: &[u8], out: &mut PacketWriter) -> Result<(), Malformed> {
        let mut reader = Reader::new(body);
        let (id, count) = (self.statement_id(reader.u32()?), reader.u32()?);
        let outcome = self.status();
        let Some(statement) = self.statements.get_mut(&id) else {
            write_error(out, &MysqlError::unknown_statement(id, "mysqld_stmt_fetch"));
            return Ok(());
        };
        let Some(cursor) = &mut statement.cursor else {
            let text = format!("The statement ({id}) has no open cursor.");
            write_error(out, &MysqlError::new(1421, "HY000", text));
            return Ok(());
        };
        for row in std::iter::from_fn(|| cursor.pop()).take(usize::try_from(count).unwrap_or(usize::MAX)) {
            out.packet(&row);
        }
        let mut extra = StatusFlags::CURSOR_EXISTS;
        if cursor.is_empty() {
            extra = StatusFlags::LAST_ROW_SENT;
            statement.cursor = None;
        }
        write_end(out, self.capabilities, &outcome, extra);
        Ok(())
    }

    /// Takes data without an answer, as the protocol has it: failures show at the execution.
    fn long_data(&mut self, body: &[u8], config: &Config) -> Result<(), Malformed> {
        let mut reader = Reader::new(body);
        let (id, parameter) = (self.statement_id(reader.u32()?), reader.u16()?);
        if let Some(statement) = self.statements.get_mut(&id)
            && !statement.add_long_data(parameter, reader.rest(), config.max_allowed_packet)
        {
            statement.broken_long_data = true;
        }
        Ok(())
    }

    fn close(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let id = self.statement_id(Reader::new(body).u32()?);
        if self.statements.remove(&id).is_some() {
            self.handler.close(id);
        }
        Ok(())
    }

    fn reset_statement(&mut self, body: &[u8], out: &mut PacketWriter) -> Result<(), Malformed> {
        let id = self.statement_id(Reader::new(body).u32()?);
        let result = match self.statements.get_mut(&id) {
            Some(statement) => {
                statement.reset();
                Ok(())
            }
            None => Err(MysqlError::unknown_statement(id, "mysqld_stmt_reset")),
        };
        self.plain(result, out);
        Ok(())
    }

    /// MariaDB's clients say -1 for the statement prepared last.
    fn statement_id(&self, id: u32) -> u32 {
        if id == u32::MAX { self.last_statement } else { id }
    }

    fn field_list(&mut self, body: &[u8], out: &mut PacketWriter) -> Result<(), Malformed> {
        let mut reader = Reader::new(body);
        let table = String::from_utf8_lossy(reader.nul_terminated()?).into_owned();
        let pattern = String::from_utf8_lossy(reader.rest()).into_owned();
        // An unknown table is found out before any column is given.
        match self.handler.fields(&table, &pattern, &mut |column| write_column(out, column, true)) {
            Ok(()) => write_end(out, self.capabilities, &self.status(), StatusFlags::empty()),
            Err(error) => write_error(out, &error),
        }
        Ok(())
    }

    fn set_option(&mut self, body: &[u8], out: &mut PacketWriter) -> Result<(), Malformed> {
        match Reader::new(body).u16()? {
            option @ (0 | 1) => {
                self.handler.set_multi_statements(option == 0);
                write_end(out, self.capabilities, &self.status(), StatusFlags::empty());
            }
            _ => write_error(out, &MysqlError::unknown_command()),
        }
        Ok(())
    }
}
