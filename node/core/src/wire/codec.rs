//! How values become bytes: unsigned LEB128 for integers, a length before bytes and lists, a tag before
//! variants. Records are read to their last known field; what a newer version appended is skipped.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::{
    Ballot, Epoch, Height, Outcome, Position, RunId, Seat, Seq, StorageId, StreamId, TxnId, Vector, Ver,
};
use crate::txn::{Check, Txn, Write};
use crate::wire::WIRE_VERSION;

/// Bytes that are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a value.
    #[error("the message ends too early")]
    Incomplete,
    /// No such variant.
    #[error("unknown variant {tag} of {what}")]
    Tag {
        /// What was being read.
        what: &'static str,
        /// The tag found.
        tag: u64,
    },
    /// A number does not fit its type.
    #[error("a number is out of range for {what}")]
    Range {
        /// What was being read.
        what: &'static str,
    },
    /// A frame of a version this build does not read.
    #[error(
        "the other side speaks wire version {version}, and this build of borealis-node speaks {WIRE_VERSION}: \
         run the same version on all nodes and instances of a cluster"
    )]
    Version {
        /// The version found.
        version: u8,
    },
}

/// Reads values from bytes; `Bytes` fields share the buffer.
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }
    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// One byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Incomplete`] at the end.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        if self.bytes.is_empty() {
            return Err(DecodeError::Incomplete);
        }
        Ok(self.bytes.get_u8())
    }
    /// The next `len` bytes, shared.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Incomplete`] if fewer are left.
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if self.bytes.len() < len {
            return Err(DecodeError::Incomplete);
        }
        Ok(self.bytes.split_to(len))
    }
    /// An unsigned integer.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes end or the number exceeds 64 bits.
    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(DecodeError::Range { what: "integer" });
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Range { what: "integer" })
    }
}

/// Writes an unsigned integer.
pub(crate) fn put_uint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A value with a byte form.
pub trait Wire: Sized {
    /// Appends the value's bytes.
    fn put(&self, out: &mut BytesMut);
    /// Reads a value.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are not such a value.
    fn get(from: &mut Reader) -> Result<Self, DecodeError>;
    /// The value's bytes.
    fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.put(&mut out);
        out.freeze()
    }
}

macro_rules! wire_uint {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut BytesMut) {
                put_uint(out, u64::from(*self));
            }
            fn get(from: &mut Reader) -> Result<Self, DecodeError> {
                <$type>::try_from(from.uint()?).map_err(|_| DecodeError::Range { what: stringify!($type) })
            }
        }
    )*};
}
wire_uint!(u8, u16, u32, u64);

macro_rules! wire_newtype {
    ($($type:ident),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut BytesMut) {
                self.0.put(out);
            }
            fn get(from: &mut Reader) -> Result<Self, DecodeError> {
                Ok($type(Wire::get(from)?))
            }
        }
    )*};
}
wire_newtype!(Seat, Epoch, Seq, RunId, StorageId, Height);

macro_rules! wire_struct {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::wire::Wire for $type {
            fn put(&self, out: &mut ::bytes::BytesMut) {
                $($crate::wire::Wire::put(&self.$field, out);)*
            }
            fn get(from: &mut $crate::wire::Reader) -> Result<Self, $crate::wire::DecodeError> {
                Ok($type { $($field: $crate::wire::Wire::get(from)?),* })
            }
        }
    };
}
pub(crate) use wire_struct;

macro_rules! wire_enum {
    ($type:ident { $($tag:literal => $variant:ident $({ $($field:ident),* $(,)? })? $(($inner:ident))?),* $(,)? }) => {
        impl $crate::wire::Wire for $type {
            fn put(&self, out: &mut ::bytes::BytesMut) {
                match self {
                    $($type::$variant $({ $($field),* })? $(($inner))? => {
                        ::bytes::BufMut::put_u8(out, $tag);
                        $($($crate::wire::Wire::put($field, out);)*)?
                        $($crate::wire::Wire::put($inner, out);)?
                    })*
                }
            }
            fn get(from: &mut $crate::wire::Reader) -> Result<Self, $crate::wire::DecodeError> {
                match from.byte()? {
                    $($tag => {
                        $($(let $field = $crate::wire::Wire::get(from)?;)*)?
                        $(let $inner = $crate::wire::Wire::get(from)?;)?
                        Ok($type::$variant $({ $($field),* })? $(($inner))?)
                    })*
                    tag => Err($crate::wire::DecodeError::Tag { what: stringify!($type), tag: u64::from(tag) }),
                }
            }
        }
    };
}
pub(crate) use wire_enum;

wire_struct!(StreamId { seat, epoch });
wire_struct!(Position { epoch, seq });
wire_struct!(TxnId { seat, epoch, seq });
wire_struct!(Ver { height, txn });
wire_struct!(Ballot { round, proposer });
wire_enum!(Outcome { 1 => Commit, 2 => Abort });
wire_struct!(Write { key, base, value });
wire_struct!(Check { key, base });
wire_struct!(Txn { id, deps, writes, checks });

impl Wire for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }
    fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::Tag { what: "bool", tag: u64::from(tag) }),
        }
    }
}

impl Wire for Bytes {
    fn put(&self, out: &mut BytesMut) {
        put_uint(out, self.len() as u64);
        out.put_slice(self);
    }
    fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        let len = usize::try_from(from.uint()?).map_err(|_| DecodeError::Incomplete)?;
        from.take(len)
    }
}

impl Wire for String {
    fn put(&self, out: &mut BytesMut) {
        put_uint(out, self.len() as u64);
        out.put_slice(self.as_bytes());
    }
    fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        let bytes: Bytes = Wire::get(from)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Range { what: "text" })
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        match self {
            None => out.put_u8(0),
            Some(value) => {
                out.put_u8(1);
                value.put(out);
            }
        }
    }
    fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ok(None),
            1 => Ok(Some(T::get(from)?)),
            tag => Err(DecodeError::Tag { what: "option", tag: u64::from(tag) }),
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut BytesMut) {
        put_uint(out, self.len() as u64);
        for item in self {
            item.put(out);
        }
    }
    fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        let len = usize::try_from(from.uint()?).map_err(|_| DecodeError::Incomplete)?;
        // Every item takes at least one byte: a hostile length cannot reserve more than the message.
        if len > from.bytes.len() {
            return Err(DecodeError::Incomplete);
        }
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(T::get(from)?);
        }
        Ok(items)
    }
}

impl<T: Wire> Wire for Arc<T> {
    fn put(&self, out: &mut BytesMut) {
        self.as_ref().put(out);
    }
    fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Arc::new(T::get(from)?))
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut BytesMut) {
        self.0.put(out);
        self.1.put(out);
    }
    fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok((A::get(from)?, B::get(from)?))
    }
}

impl Wire for Vector {
    fn put(&self, out: &mut BytesMut) {
        put_uint(out, self.len() as u64);
        for entry in self.iter() {
            entry.put(out);
        }
    }
    fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        let mut vector = Vector::new();
        for _ in 0..from.uint()? {
            let (seat, position) = Wire::get(from)?;
            vector.advance(seat, position);
        }
        Ok(vector)
    }
}
