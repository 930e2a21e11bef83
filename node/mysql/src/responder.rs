//! Encodes the results of one command as they come.
//!
//! Whether more results follow is said at the end of each, so an end is held back until the next result
//! begins or the command ends. Output goes to the client whenever enough has gathered: a slow client makes
//! the write, and with it the statement, wait, up to `net_write_timeout`.

use std::io;

use crate::constants::{CapabilityFlags as Caps, StatusFlags};

use crate::codec::put_lenenc;
use crate::cursor::Cursor;
use crate::encode::{
    OkHeader, Shape, put_binary_row, put_text_row, write_column, write_end, write_error, write_ok,
};
use crate::error::MysqlError;
use crate::handler::{Outcome, ResultWriter};
use crate::packet::PacketWriter;
use crate::value::{Column, Value};

/// Output is sent when more than this has gathered.
const FLUSH_BYTES: usize = 16 << 10;

/// Where output goes. Empties the buffer.
pub(crate) trait Sink {
    /// Sends everything in the buffer.
    ///
    /// # Errors
    ///
    /// The client is gone or too slow.
    fn send(&mut self, bytes: &mut Vec<u8>) -> io::Result<()>;
}

/// The format of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// COM_QUERY.
    Text,
    /// COM_STMT_EXECUTE.
    Binary,
    /// COM_STMT_EXECUTE with a cursor: rows are kept, up to this many bytes.
    Cursor {
        /// The limit.
        max: usize,
    },
}

#[derive(Debug)]
enum State {
    /// No result is under way; `held` is the end of the one before.
    Between { held: Option<Held> },
    /// Rows are due.
    Rows,
}

#[derive(Debug)]
enum Held {
    Ok(Outcome),
    Rows(Outcome),
}

/// The [`ResultWriter`] of one command.
pub(crate) struct Responder<'a> {
    out: &'a mut PacketWriter,
    sink: &'a mut dyn Sink,
    capabilities: Caps,
    format: Format,
    shapes: Vec<Shape>,
    cursor: Cursor,
    state: State,
    gone: bool,
}

/// What is left when a command has been answered.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The cursor that the command has opened.
    pub(crate) cursor: Option<Cursor>,
    /// The client is gone.
    pub(crate) gone: bool,
}

impl<'a> Responder<'a> {
    pub(crate) fn new(
        out: &'a mut PacketWriter,
        sink: &'a mut dyn Sink,
        capabilities: Caps,
        format: Format,
    ) -> Self {
        Self {
            out,
            sink,
            capabilities,
            format,
            shapes: Vec::new(),
            cursor: Cursor::default(),
            state: State::Between { held: None },
            gone: false,
        }
    }

    /// Ends the answer with what the handler returned.
    pub(crate) fn finish(mut self, result: Result<(), MysqlError>) -> Answered {
        let mut opened = None;
        match (result, std::mem::replace(&mut self.state, State::Between { held: None })) {
            _ if self.gone => {}
            (Err(error), State::Between { held }) => {
                self.release(held, true);
                write_error(self.out, &error);
            }
            (Err(error), State::Rows) => write_error(self.out, &error),
            (Ok(()), State::Rows) => write_error(self.out, &MysqlError::internal("a result without its end")),
            (Ok(()), State::Between { held: None }) => {
                self.release(Some(Held::Ok(Outcome::default())), false)
            }
            (Ok(()), State::Between { held }) => {
                if matches!((&held, self.format), (Some(Held::Rows(_)), Format::Cursor { .. })) {
                    opened = Some(std::mem::take(&mut self.cursor));
                }
                self.release(held, false);
            }
        }
        Answered { cursor: opened, gone: self.gone }
    }

    fn release(&mut self, held: Option<Held>, more: bool) {
        let mut extra = StatusFlags::empty();
        extra.set(StatusFlags::MORE_RESULTS_EXISTS, more);
        match held {
            None => {}
            Some(Held::Ok(outcome)) => write_ok(self.out, OkHeader::Ok, &outcome, extra),
            Some(Held::Rows(outcome)) => {
                extra.set(StatusFlags::CURSOR_EXISTS, matches!(self.format, Format::Cursor { .. }));
                write_end(self.out, self.capabilities, &outcome, extra);
            }
        }
    }

    /// Takes the place of the previous result.
    fn begin(&mut self) -> Result<(), MysqlError> {
        match std::mem::replace(&mut self.state, State::Between { held: None }) {
            State::Between { held: Some(_) } if matches!(self.format, Format::Cursor { .. }) => {
                Err(MysqlError::internal("a cursor over several results"))
            }
            State::Between { held } => {
                self.release(held, true);
                self.flush()
            }
            State::Rows => Err(MysqlError::internal("a result inside another")),
        }
    }

    fn flush(&mut self) -> Result<(), MysqlError> {
        if self.gone
            || (self.out.pending().len() > FLUSH_BYTES && self.sink.send(self.out.pending()).is_err())
        {
            self.gone = true;
            return Err(MysqlError::client_gone());
        }
        Ok(())
    }
}

impl ResultWriter for Responder<'_> {
    fn ok(&mut self, outcome: &Outcome) -> Result<(), MysqlError> {
        self.begin()?;
        self.state = State::Between { held: Some(Held::Ok(outcome.clone())) };
        Ok(())
    }

    fn columns(&mut self, columns: &[Column<'_>]) -> Result<(), MysqlError> {
        self.begin()?;
        let begun = self.out.begin();
        put_lenenc(self.out.payload(), columns.len() as u64);
        self.out.end(begun);
        for column in columns {
            write_column(self.out, column, false);
        }
        self.shapes.clear();
        self.shapes.extend(columns.iter().map(Shape::of));
        // With a cursor the end of the columns is also the end of this answer.
        let cursor = matches!(self.format, Format::Cursor { .. });
        if !cursor && !self.capabilities.contains(Caps::DEPRECATE_EOF) {
            write_end(self.out, self.capabilities, &Outcome::default(), StatusFlags::empty());
        }
        self.state = State::Rows;
        Ok(())
    }

    fn row(&mut self, values: &[Value<'_>]) -> Result<(), MysqlError> {
        if !matches!(self.state, State::Rows) {
            return Err(MysqlError::internal("a row outside a result"));
        }
        if values.len() != self.shapes.len() {
            return Err(MysqlError::internal("a row of another width than its columns"));
        }
        if let Format::Cursor { max } = self.format {
            let mut row = Vec::new();
            put_binary_row(&mut row, &self.shapes, values);
            if !self.cursor.push(&row, max) {
                let text = format!("The cursor's rows take more than {max} bytes");
                return Err(MysqlError::new(1041, "HY000", text));
            }
            return Ok(());
        }
        let begun = self.out.begin();
        match self.format {
            Format::Text => put_text_row(self.out.payload(), &self.shapes, values),
            Format::Binary | Format::Cursor { .. } => {
                put_binary_row(self.out.payload(), &self.shapes, values)
            }
        }
        self.out.end(begun);
        self.flush()
    }

    fn end(&mut self, outcome: &Outcome) -> Result<(), MysqlError> {
        if !matches!(self.state, State::Rows) {
            return Err(MysqlError::internal("an end outside a result"));
        }
        self.state = State::Between { held: Some(Held::Rows(outcome.clone())) };
        Ok(())
    }
}
