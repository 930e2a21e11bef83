//! Prepared statements on this side of the handler: the types and long data of their parameters.

use std::collections::HashMap;

use crate::constants::ColumnType;

use crate::codec::{Malformed, Reader};
use crate::cursor::Cursor;
use crate::temporal;
use crate::value::Value;

/// Type of a parameter as the client binds it.
#[derive(Clone, Copy, Debug)]
struct ParameterType {
    kind: ColumnType,
    unsigned: bool,
}

/// A prepared statement of a connection.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    parameters: u16,
    /// As bound by the first execution, and kept for those that do not bind again.
    types: Vec<ParameterType>,
    /// COM_STMT_SEND_LONG_DATA, by parameter.
    long: HashMap<u16, Vec<u8>>,
    /// Its open cursor.
    pub(crate) cursor: Option<Cursor>,
    /// Why the next execution must fail: the long data could not be taken.
    pub(crate) broken_long_data: bool,
}

/// Why an execution's parameters cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    /// The packet is malformed.
    #[error("malformed parameters")]
    Malformed,
    /// Types were never bound.
    #[error("parameters without types")]
    Unbound,
}

impl From<Malformed> for ParameterError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Statement {
    pub(crate) fn new(parameters: u16) -> Self {
        Self { parameters, ..Self::default() }
    }
    /// Adds long data; false when the parameter does not exist or its data would exceed the limit.
    pub(crate) fn add_long_data(&mut self, parameter: u16, data: &[u8], max: usize) -> bool {
        if parameter >= self.parameters {
            return false;
        }
        let all = self.long.entry(parameter).or_default();
        if all.len() + data.len() > max {
            return false;
        }
        all.extend_from_slice(data);
        true
    }
    /// Forgets long data and the cursor: COM_STMT_RESET, and the end of every execution for long data.
    pub(crate) fn reset(&mut self) {
        self.forget_long_data();
        self.cursor = None;
    }
    pub(crate) fn forget_long_data(&mut self) {
        self.long.clear();
        self.broken_long_data = false;
    }
    /// Reads the parameters of COM_STMT_EXECUTE: what follows the iteration count.
    pub(crate) fn bind<'a>(&'a mut self, payload: &'a [u8]) -> Result<Vec<Value<'a>>, ParameterError> {
        let count = usize::from(self.parameters);
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut reader = Reader::new(payload);
        let nulls = reader.take(count.div_ceil(8))?;
        if reader.u8()? == 1 {
            self.types.clear();
            for _ in 0..count {
                let kind = ColumnType::from_number(reader.u8()?).ok_or(ParameterError::Malformed)?;
                let unsigned = reader.u8()? & 0x80 != 0;
                self.types.push(ParameterType { kind, unsigned });
            }
        }
        if self.types.len() != count {
            return Err(ParameterError::Unbound);
        }
        let mut values = Vec::with_capacity(count);
        for (at, of) in self.types.iter().enumerate() {
            let value = if let Some(data) = self.long.get(&(at as u16)) {
                Value::Bytes(data)
            } else if nulls[at / 8] & (1 << (at % 8)) != 0 {
                Value::Null
            } else {
                read_value(*of, &mut reader)?
            };
            values.push(value);
        }
        Ok(values)
    }
}

fn read_value<'a>(of: ParameterType, reader: &mut Reader<'a>) -> Result<Value<'a>, Malformed> {
    let unsigned = of.unsigned;
    Ok(match of.kind {
        ColumnType::Null => Value::Null,
        ColumnType::Tiny => {
            let raw = reader.u8()?;
            if unsigned { Value::UInt(raw.into()) } else { Value::Int((raw as i8).into()) }
        }
        ColumnType::Short | ColumnType::Year => {
            let raw = reader.u16()?;
            if unsigned { Value::UInt(raw.into()) } else { Value::Int((raw as i16).into()) }
        }
        ColumnType::Long | ColumnType::Int24 => {
            let raw = reader.u32()?;
            if unsigned { Value::UInt(raw.into()) } else { Value::Int((raw as i32).into()) }
        }
        ColumnType::LongLong => {
            let raw = reader.u64()?;
            if unsigned { Value::UInt(raw) } else { Value::Int(raw as i64) }
        }
        ColumnType::Float => Value::Float(reader.f32()?),
        ColumnType::Double => Value::Double(reader.f64()?),
        ColumnType::Date => Value::Date(temporal::read_datetime(reader)?.date),
        ColumnType::DateTime | ColumnType::Timestamp => Value::DateTime(temporal::read_datetime(reader)?),
        ColumnType::Time => Value::Time(temporal::read_time(reader)?),
        // Everything else is a string on the wire: DECIMAL, BLOB, JSON, ENUM and so on.
        _ => Value::Bytes(reader.lenenc_bytes()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_kept_for_executions_that_do_not_bind_again() {
        let mut statement = Statement::new(2);
        let first = [0, 1, 8, 0, 253, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2, b'h', b'i'];
        assert_eq!(statement.bind(&first), Ok(vec![Value::Int(5), Value::Bytes(b"hi")]));
        let again = [0b10, 0, 6, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(statement.bind(&again), Ok(vec![Value::Int(6), Value::Null]));
        assert_eq!(Statement::new(1).bind(&[0, 0]), Err(ParameterError::Unbound));
    }

    #[test]
    fn long_data_takes_the_place_of_the_value() {
        let mut statement = Statement::new(1);
        assert!(statement.add_long_data(0, b"ab", 4));
        assert!(statement.add_long_data(0, b"cd", 4));
        assert!(!statement.add_long_data(0, b"e", 4), "beyond the limit");
        assert!(!statement.add_long_data(1, b"e", 4), "no such parameter");
        assert_eq!(statement.bind(&[0, 1, 252, 0]), Ok(vec![Value::Bytes(b"abcd")]));
    }

    #[test]
    fn no_prefix_of_an_execution_panics() {
        let mut all = vec![0, 0, 1];
        let kinds = [1, 2, 3, 8, 4, 5, 10, 12, 11, 253, 6, 16];
        all.extend(kinds.iter().flat_map(|kind| [*kind, 0x80]));
        all.extend_from_slice(&[1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        all.extend_from_slice(&1.5f64.to_le_bytes());
        all.extend_from_slice(&[4, 0xea, 7, 1, 2, 7, 0xea, 7, 1, 2, 3, 4, 5, 8, 1, 0, 0, 0, 0, 1, 2, 3]);
        all.extend_from_slice(&[3, b'a', b'b', b'c', 1, 1]);
        for end in 0..all.len() {
            assert!(Statement::new(12).bind(&all[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(Statement::new(12).bind(&all).map(|values| values.len()), Ok(12));
    }
}
