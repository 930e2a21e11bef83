//! Errors as a MySQL client sees them: a code, an SQLSTATE and MySQL's own words.

use crate::store::StoreError;

/// An error a client is told about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} ({sqlstate}): {message}")]
pub struct SqlError {
    /// MySQL's error number.
    pub code: u16,
    /// The five characters of SQLSTATE.
    pub sqlstate: &'static str,
    /// MySQL's text.
    pub message: String,
}

/// What statements return.
pub type SqlResult<T> = Result<T, SqlError>;

/// The SQLSTATE that MySQL gives with an error number (`HY000` for those without one of their own).
pub fn sqlstate_of(code: u16) -> &'static str {
    match code {
        1040 => "08004",
        1044 | 1049 => "42000",
        1045 => "28000",
        1046 => "3D000",
        1047 | 1053 => "08S01",
        1048 | 1052 | 1062 | 1169 | 1216 | 1217 | 1451 | 1452 | 1557 => "23000",
        1050 => "42S01",
        1051 | 1109 | 1146 => "42S02",
        1054 => "42S22",
        1060 => "42S21",
        1055 | 1056 | 1057 | 1059 | 1061 | 1063 | 1064 | 1065 | 1066 | 1067 | 1068 | 1069 | 1070 | 1071
        | 1072 | 1073 | 1074 | 1075 | 1090 | 1091 | 1101 | 1102 | 1103 | 1104 | 1106 | 1107 | 1110 | 1112
        | 1113 | 1115 | 1118 | 1120 | 1121 | 1131 | 1132 | 1133 | 1138 | 1139 | 1140 | 1141 | 1142 | 1143
        | 1144 | 1145 | 1147 | 1149 | 1162 | 1163 | 1164 | 1166 | 1167 | 1170 | 1171 | 1172 | 1173 | 1176
        | 1177 | 1178 | 1203 | 1211 | 1226 | 1227 | 1230 | 1231 | 1232 | 1234 | 1235 | 1239 | 1248 | 1249
        | 1250 | 1252 | 1253 | 1280 | 1281 | 1286 | 1304 | 1305 | 1318 | 1327 | 1370 => "42000",
        1136 => "21S01",
        1222 => "21000",
        1241 | 1242 => "21000",
        1179 => "25000",
        1568 => "25001",
        1792 => "25006",
        1205 => "HY000",
        1213 => "40001",
        1264 | 1690 => "22003",
        1265 | 1261 | 1262 | 1263 => "01000",
        1292 | 1411 => "22007",
        1365 => "22012",
        1406 => "22001",
        1317 => "70100",
        1243 => "HY000",
        3140 => "22032",
        3141 => "22032",
        3572 => "HY000",
        _ => "HY000",
    }
}

impl SqlError {
    /// Any error by its number.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, sqlstate: sqlstate_of(code), message: message.into() }
    }
    /// 1064: `near` is the text from where the parser stopped.
    pub fn syntax(near: &str, line: u64) -> Self {
        let near: String = near.chars().take(80).collect();
        Self::new(
            1064,
            format!(
                "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the right syntax to use near '{near}' at line {line}"
            ),
        )
    }
    /// 1065.
    pub fn empty_query() -> Self {
        Self::new(1065, "Query was empty")
    }
    /// 1235: something MySQL has and this server does not (yet).
    pub fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(1235, format!("This version of MySQL doesn't yet support '{what}'"))
    }
    /// 1062.
    pub fn duplicate_entry(entry: &str, key: &str) -> Self {
        Self::new(1062, format!("Duplicate entry '{entry}' for key '{key}'"))
    }
    /// 1048.
    pub fn not_null(column: &str) -> Self {
        Self::new(1048, format!("Column '{column}' cannot be null"))
    }
    /// 1364.
    pub fn no_default(column: &str) -> Self {
        Self::new(1364, format!("Field '{column}' doesn't have a default value"))
    }
    /// 1146.
    pub fn no_such_table(database: &str, table: &str) -> Self {
        Self::new(1146, format!("Table '{database}.{table}' doesn't exist"))
    }
    /// 1051.
    pub fn unknown_table(name: &str) -> Self {
        Self::new(1051, format!("Unknown table '{name}'"))
    }
    /// 1050.
    pub fn table_exists(table: &str) -> Self {
        Self::new(1050, format!("Table '{table}' already exists"))
    }
    /// 1049.
    pub fn unknown_database(name: &str) -> Self {
        Self::new(1049, format!("Unknown database '{name}'"))
    }
    /// 1007.
    pub fn database_exists(name: &str) -> Self {
        Self::new(1007, format!("Can't create database '{name}'; database exists"))
    }
    /// 1008.
    pub fn no_database_to_drop(name: &str) -> Self {
        Self::new(1008, format!("Can't drop database '{name}'; database doesn't exist"))
    }
    /// 1046.
    pub fn no_database_selected() -> Self {
        Self::new(1046, "No database selected")
    }
    /// 1054; `place` is MySQL's name of the clause: `field list`, `where clause`, `on clause`, `order clause`.
    pub fn unknown_column(column: &str, place: &str) -> Self {
        Self::new(1054, format!("Unknown column '{column}' in '{place}'"))
    }
    /// 1052.
    pub fn ambiguous_column(column: &str, place: &str) -> Self {
        Self::new(1052, format!("Column '{column}' in {place} is ambiguous"))
    }
    /// 1136; rows are counted from 1.
    pub fn column_count(row: usize) -> Self {
        Self::new(1136, format!("Column count doesn't match value count at row {row}"))
    }
    /// 1264; rows are counted from 1.
    pub fn out_of_range(column: &str, row: usize) -> Self {
        Self::new(1264, format!("Out of range value for column '{column}' at row {row}"))
    }
    /// 1366; `kind` is MySQL's word: `integer`, `decimal`, `double`, `string`.
    pub fn incorrect_value(kind: &str, value: &str, column: &str, row: usize) -> Self {
        Self::new(1366, format!("Incorrect {kind} value: '{value}' for column '{column}' at row {row}"))
    }
    /// 1292: as 1366 for dates and times (`date`, `time`, `datetime`).
    pub fn incorrect_temporal(kind: &str, value: &str, column: &str, row: usize) -> Self {
        Self::new(1292, format!("Incorrect {kind} value: '{value}' for column '{column}' at row {row}"))
    }
    /// 1265.
    pub fn truncated(column: &str, row: usize) -> Self {
        Self::new(1265, format!("Data truncated for column '{column}' at row {row}"))
    }
    /// 1406.
    pub fn too_long(column: &str, row: usize) -> Self {
        Self::new(1406, format!("Data too long for column '{column}' at row {row}"))
    }
    /// 1690; `kind` is `BIGINT`, `BIGINT UNSIGNED`, `DOUBLE` or `DECIMAL`.
    pub fn value_out_of_range(kind: &str, expression: &str) -> Self {
        Self::new(1690, format!("{kind} value is out of range in '{expression}'"))
    }
    /// 1365.
    pub fn division_by_zero() -> Self {
        Self::new(1365, "Division by 0")
    }
    /// 1193.
    pub fn unknown_variable(name: &str) -> Self {
        Self::new(1193, format!("Unknown system variable '{name}'"))
    }
    /// 1231.
    pub fn wrong_variable_value(name: &str, value: &str) -> Self {
        Self::new(1231, format!("Variable '{name}' can't be set to the value of '{value}'"))
    }
    /// 1238: e.g. `a read only` / `a GLOBAL`.
    pub fn read_only_variable(name: &str) -> Self {
        Self::new(1238, format!("Variable '{name}' is a read only variable"))
    }
    /// 1305: a FUNCTION, PROCEDURE or SAVEPOINT.
    pub fn does_not_exist(kind: &str, name: &str) -> Self {
        Self::new(1305, format!("{kind} {name} does not exist"))
    }
    /// 1243.
    pub fn unknown_statement(name: &str, what: &str) -> Self {
        Self::new(1243, format!("Unknown prepared statement handler ({name}) given to {what}"))
    }
    /// 1290: the instance may not write.
    pub fn read_only_server() -> Self {
        Self::new(
            1290,
            "The MySQL server is running with the --read-only option so it cannot execute this statement",
        )
    }
    /// 1792.
    pub fn read_only_transaction() -> Self {
        Self::new(1792, "Cannot execute statement in a READ ONLY transaction.")
    }
    /// 1213.
    pub fn deadlock() -> Self {
        Self::new(1213, "Deadlock found when trying to get lock; try restarting transaction")
    }
    /// 1205.
    pub fn lock_timeout() -> Self {
        Self::new(1205, "Lock wait timeout exceeded; try restarting transaction")
    }
    /// 1317.
    pub fn interrupted() -> Self {
        Self::new(1317, "Query execution was interrupted")
    }
    /// 1105: a bug or a damaged row; never a client's mistake.
    pub fn internal(what: impl std::fmt::Display) -> Self {
        Self::new(1105, format!("Unknown error: {what}"))
    }
    /// True if the whole transaction was rolled back with this error.
    pub fn rolls_back_transaction(&self) -> bool {
        matches!(self.code, 1213 | 3024)
    }
}

impl From<StoreError> for SqlError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } | StoreError::Deadlock => Self::deadlock(),
            StoreError::LockTimeout => Self::lock_timeout(),
            StoreError::ReadOnly => Self::read_only_server(),
            StoreError::Killed => Self::interrupted(),
            StoreError::TooLarge { limit } => Self::new(
                1197,
                format!(
                    "Multi-statement transaction required more than 'borealis_max_transaction_bytes' ({limit}) bytes of storage; increase this variable and try again"
                ),
            ),
            StoreError::Unavailable { reason } => Self::new(
                1030,
                format!("Got error 168 - 'the volume is not available: {reason}' from storage engine"),
            ),
            StoreError::OutcomeUnknown { reason } => Self::new(
                3024,
                format!("Query execution was interrupted: the outcome of the commit is unknown: {reason}"),
            ),
        }
    }
}
