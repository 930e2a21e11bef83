//! Numbers of the protocol.

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident: $bits:ty { $($(#[$flag_doc:meta])* $flag:ident = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name($bits);

        impl $name {
            $($(#[$flag_doc])* pub const $flag: Self = Self($value);)*

            /// No flag.
            pub const fn empty() -> Self {
                Self(0)
            }
            /// Flags by their bits; unknown ones are kept.
            pub const fn from_bits(bits: $bits) -> Self {
                Self(bits)
            }
            /// Their bits.
            pub const fn bits(self) -> $bits {
                self.0
            }
            /// Whether all of these are set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
            /// Sets or clears.
            pub const fn set(&mut self, other: Self, value: bool) {
                if value { self.0 |= other.0 } else { self.0 &= !other.0 }
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl std::ops::BitAnd for $name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }
    };
}

flags! {
    /// What a side of a connection can do, or what both agreed on.
    CapabilityFlags: u32 {
        /// New passwords.
        LONG_PASSWORD = 1,
        /// UPDATE counts rows matched instead of rows changed.
        FOUND_ROWS = 1 << 1,
        /// All column flags.
        LONG_FLAG = 1 << 2,
        /// The login names a database.
        CONNECT_WITH_DB = 1 << 3,
        /// Compression; not offered.
        COMPRESS = 1 << 5,
        /// Spaces before parentheses.
        IGNORE_SPACE = 1 << 8,
        /// The protocol since MySQL 4.1.
        PROTOCOL_41 = 1 << 9,
        /// `interactive_timeout` instead of `wait_timeout`.
        INTERACTIVE = 1 << 10,
        /// TLS.
        SSL = 1 << 11,
        /// Status flags of transactions.
        TRANSACTIONS = 1 << 13,
        /// Passwords of the 4.1 kind.
        SECURE_CONNECTION = 1 << 15,
        /// Several statements in a query.
        MULTI_STATEMENTS = 1 << 16,
        /// Several results of a query.
        MULTI_RESULTS = 1 << 17,
        /// Several results of an execution.
        PS_MULTI_RESULTS = 1 << 18,
        /// Authentication plugins by name.
        PLUGIN_AUTH = 1 << 19,
        /// Attributes of the client at login.
        CONNECT_ATTRS = 1 << 20,
        /// A response longer than 255 bytes.
        PLUGIN_AUTH_LENENC_DATA = 1 << 21,
        /// OK in the place of EOF.
        DEPRECATE_EOF = 1 << 24,
    }
}

flags! {
    /// A session's status.
    StatusFlags: u16 {
        /// A transaction is open.
        IN_TRANS = 1,
        /// Autocommit is on.
        AUTOCOMMIT = 1 << 1,
        /// Another result follows.
        MORE_RESULTS_EXISTS = 1 << 3,
        /// Rows are to be fetched.
        CURSOR_EXISTS = 1 << 6,
        /// The last row has been fetched.
        LAST_ROW_SENT = 1 << 7,
        /// Backslashes are plain characters.
        NO_BACKSLASH_ESCAPES = 1 << 9,
        /// The open transaction is read-only.
        IN_TRANS_READONLY = 1 << 13,
    }
}

flags! {
    /// A column's properties.
    ColumnFlags: u16 {
        /// NOT NULL.
        NOT_NULL = 1,
        /// In the primary key.
        PRI_KEY = 1 << 1,
        /// In a unique key.
        UNIQUE_KEY = 1 << 2,
        /// In a key that is not unique.
        MULTIPLE_KEY = 1 << 3,
        /// TEXT or BLOB.
        BLOB = 1 << 4,
        /// UNSIGNED.
        UNSIGNED = 1 << 5,
        /// ZEROFILL.
        ZEROFILL = 1 << 6,
        /// A binary collation.
        BINARY = 1 << 7,
        /// ENUM.
        ENUM = 1 << 8,
        /// AUTO_INCREMENT.
        AUTO_INCREMENT = 1 << 9,
        /// TIMESTAMP.
        TIMESTAMP = 1 << 10,
        /// SET.
        SET = 1 << 11,
        /// No default.
        NO_DEFAULT_VALUE = 1 << 12,
        /// ON UPDATE CURRENT_TIMESTAMP.
        ON_UPDATE_NOW = 1 << 13,
        /// A number.
        NUM = 1 << 15,
    }
}

macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$item_doc])* $item = $value,)*
        }

        impl $name {
            /// The variant of that number, if there is one.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $(_ if number == Self::$item as u8 => Some(Self::$item),)*
                    _ => None,
                }
            }
        }
    };
}

numbers! {
    /// The type of a column or parameter (`MYSQL_TYPE_...`).
    ColumnType {
        /// DECIMAL of before MySQL 5.
        OldDecimal = 0,
        /// TINYINT.
        Tiny = 1,
        /// SMALLINT.
        Short = 2,
        /// INT.
        Long = 3,
        /// FLOAT.
        Float = 4,
        /// DOUBLE.
        Double = 5,
        /// NULL.
        Null = 6,
        /// TIMESTAMP.
        Timestamp = 7,
        /// BIGINT.
        LongLong = 8,
        /// MEDIUMINT.
        Int24 = 9,
        /// DATE.
        Date = 10,
        /// TIME.
        Time = 11,
        /// DATETIME.
        DateTime = 12,
        /// YEAR.
        Year = 13,
        /// VARCHAR.
        VarChar = 15,
        /// BIT.
        Bit = 16,
        /// JSON.
        Json = 245,
        /// DECIMAL.
        Decimal = 246,
        /// ENUM.
        Enum = 247,
        /// SET.
        Set = 248,
        /// TINYBLOB.
        TinyBlob = 249,
        /// MEDIUMBLOB.
        MediumBlob = 250,
        /// LONGBLOB.
        LongBlob = 251,
        /// BLOB and TEXT.
        Blob = 252,
        /// VARCHAR and VARBINARY in results.
        VarString = 253,
        /// CHAR and BINARY.
        String = 254,
        /// GEOMETRY.
        Geometry = 255,
    }
}

numbers! {
    /// A command's first byte (`COM_...`), of those that are answered.
    Command {
        /// Goodbye.
        Quit = 1,
        /// USE.
        InitDb = 2,
        /// A query.
        Query = 3,
        /// A table's columns.
        FieldList = 4,
        /// A line of figures.
        Statistics = 9,
        /// KILL.
        ProcessKill = 12,
        /// Are you there?
        Ping = 14,
        /// Another user.
        ChangeUser = 17,
        /// Prepares a statement.
        StmtPrepare = 22,
        /// Executes it.
        StmtExecute = 23,
        /// A piece of a parameter.
        StmtSendLongData = 24,
        /// Forgets a statement.
        StmtClose = 25,
        /// Forgets its pieces of parameters and its cursor.
        StmtReset = 26,
        /// Several statements in a query: on or off.
        SetOption = 27,
        /// Rows of a cursor.
        StmtFetch = 28,
        /// Begin anew.
        ResetConnection = 31,
    }
}

impl Command {
    /// As SHOW PROCESSLIST has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quit => "Quit",
            Self::InitDb => "Init DB",
            Self::Query => "Query",
            Self::FieldList => "Field List",
            Self::Statistics => "Statistics",
            Self::ProcessKill => "Kill",
            Self::Ping => "Ping",
            Self::ChangeUser => "Change user",
            Self::StmtPrepare => "Prepare",
            Self::StmtExecute => "Execute",
            Self::StmtSendLongData => "Long Data",
            Self::StmtClose => "Close stmt",
            Self::StmtReset => "Reset stmt",
            Self::SetOption => "Set option",
            Self::StmtFetch => "Fetch",
            Self::ResetConnection => "Reset Connection",
        }
    }
}

impl ColumnType {
    /// Whether its values are sent with a character set.
    pub fn is_text(self) -> bool {
        matches!(self, Self::String | Self::VarString | Self::VarChar | Self::Blob)
    }
}
