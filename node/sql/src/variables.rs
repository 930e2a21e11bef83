//! System variables: one table of them, the values of the instance and of each session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::collation::Collation;
use crate::error::{SqlError, SqlResult};
use crate::plan::{IsolationLevel, Scope};
use crate::store::Freshness;
use crate::types::Value;

/// What may be assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// ON or OFF, as 1 or 0.
    Bool,
    /// An integer within bounds (values outside are brought to the nearest bound, as MySQL does).
    Int(i64, i64),
    /// A number with a point.
    Double,
    /// Any string.
    Text,
    /// One of these, or its number.
    Enum(&'static [&'static str]),
    /// A character set.
    Charset,
    /// A collation.
    Collation,
    /// A set of SQL modes.
    SqlMode,
    /// A time zone.
    TimeZone,
}

/// Where a variable exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Both,
    Global,
    Session,
}

struct Definition {
    name: &'static str,
    reach: Reach,
    kind: Kind,
    default: &'static str,
    read_only: bool,
}

const fn both(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition { name, reach: Reach::Both, kind, default, read_only: false }
}
const fn global(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition { name, reach: Reach::Global, kind, default, read_only: false }
}
const fn fixed(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition { name, reach: Reach::Global, kind, default, read_only: true }
}
const fn session(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition { name, reach: Reach::Session, kind, default, read_only: false }
}

const ISOLATION: &[&str] = &["READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE"];
const MAX: i64 = i64::MAX;
const SQL_MODE: &str = "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION";
const SQL_MODES: &[&str] = &[
    "REAL_AS_FLOAT",
    "PIPES_AS_CONCAT",
    "ANSI_QUOTES",
    "IGNORE_SPACE",
    "ONLY_FULL_GROUP_BY",
    "NO_UNSIGNED_SUBTRACTION",
    "NO_DIR_IN_CREATE",
    "ANSI",
    "NO_AUTO_VALUE_ON_ZERO",
    "NO_BACKSLASH_ESCAPES",
    "STRICT_TRANS_TABLES",
    "STRICT_ALL_TABLES",
    "NO_ZERO_IN_DATE",
    "NO_ZERO_DATE",
    "ALLOW_INVALID_DATES",
    "ERROR_FOR_DIVISION_BY_ZERO",
    "TRADITIONAL",
    "HIGH_NOT_PRECEDENCE",
    "NO_ENGINE_SUBSTITUTION",
    "PAD_CHAR_TO_FULL_LENGTH",
    "TIME_TRUNCATE_FRACTIONAL",
    "NO_AUTO_CREATE_USER",
];

/// Every variable, sorted by name.
static DEFINITIONS: &[Definition] = &[
    both(
        "aurora_mm_session_consistency_level",
        Kind::Enum(&["INSTANCE_RAW", "REGIONAL_RAW"]),
        "REGIONAL_RAW",
    ),
    both("aurora_replica_read_consistency", Kind::Enum(&["", "EVENTUAL", "SESSION", "GLOBAL"]), ""),
    fixed("aurora_server_id", Kind::Text, ""),
    fixed("aurora_version", Kind::Text, "3.08.0"),
    both("auto_increment_increment", Kind::Int(1, 65_535), "1"),
    both("auto_increment_offset", Kind::Int(1, 65_535), "1"),
    both("autocommit", Kind::Bool, "1"),
    fixed("basedir", Kind::Text, "/"),
    fixed("bind_address", Kind::Text, "*"),
    both("big_tables", Kind::Bool, "0"),
    both("binlog_format", Kind::Enum(&["MIXED", "STATEMENT", "ROW"]), "ROW"),
    both("borealis_autocommit_retries", Kind::Int(0, 1000), "10"),
    both("borealis_max_transaction_bytes", Kind::Int(0, MAX), "0"),
    both("character_set_client", Kind::Charset, "utf8mb4"),
    both("character_set_connection", Kind::Charset, "utf8mb4"),
    both("character_set_database", Kind::Charset, "utf8mb4"),
    both("character_set_filesystem", Kind::Charset, "binary"),
    both("character_set_results", Kind::Charset, "utf8mb4"),
    both("character_set_server", Kind::Charset, "utf8mb4"),
    fixed("character_set_system", Kind::Charset, "utf8mb3"),
    both("collation_connection", Kind::Collation, "utf8mb4_0900_ai_ci"),
    both("collation_database", Kind::Collation, "utf8mb4_0900_ai_ci"),
    both("collation_server", Kind::Collation, "utf8mb4_0900_ai_ci"),
    both("completion_type", Kind::Enum(&["NO_CHAIN", "CHAIN", "RELEASE"]), "NO_CHAIN"),
    global("connect_timeout", Kind::Int(2, 31_536_000), "10"),
    fixed("datadir", Kind::Text, "/"),
    both("default_collation_for_utf8mb4", Kind::Collation, "utf8mb4_0900_ai_ci"),
    both("default_storage_engine", Kind::Text, "InnoDB"),
    both("default_tmp_storage_engine", Kind::Text, "InnoDB"),
    both("default_week_format", Kind::Int(0, 7), "0"),
    both("div_precision_increment", Kind::Int(0, 30), "4"),
    session("error_count", Kind::Int(0, MAX), "0"),
    both("explicit_defaults_for_timestamp", Kind::Bool, "1"),
    session("external_user", Kind::Text, ""),
    both("foreign_key_checks", Kind::Bool, "1"),
    global("general_log", Kind::Bool, "0"),
    both("group_concat_max_len", Kind::Int(4, MAX), "1024"),
    global("gtid_executed", Kind::Text, ""),
    global("gtid_mode", Kind::Enum(&["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"]), "OFF"),
    global("gtid_purged", Kind::Text, ""),
    fixed("have_query_cache", Kind::Text, "NO"),
    fixed("have_ssl", Kind::Text, "YES"),
    fixed("hostname", Kind::Text, ""),
    both("information_schema_stats_expiry", Kind::Int(0, 31_536_000), "86400"),
    both("init_connect", Kind::Text, ""),
    fixed("innodb_autoinc_lock_mode", Kind::Int(0, 2), "2"),
    fixed("innodb_buffer_pool_size", Kind::Int(0, MAX), "134217728"),
    fixed("innodb_file_per_table", Kind::Bool, "1"),
    global("innodb_flush_log_at_trx_commit", Kind::Int(0, 2), "1"),
    both("innodb_lock_wait_timeout", Kind::Int(1, 1_073_741_824), "50"),
    fixed("innodb_page_size", Kind::Int(0, MAX), "16384"),
    fixed("innodb_read_only", Kind::Bool, "0"),
    both("innodb_snapshot_isolation", Kind::Bool, "0"),
    both("innodb_strict_mode", Kind::Bool, "1"),
    fixed("innodb_version", Kind::Text, "8.0.39"),
    session("insert_id", Kind::Int(0, MAX), "0"),
    both("interactive_timeout", Kind::Int(1, 31_536_000), "28800"),
    session("last_insert_id", Kind::Int(0, MAX), "0"),
    both("lc_messages", Kind::Text, "en_US"),
    both("lc_time_names", Kind::Text, "en_US"),
    fixed("license", Kind::Text, "Apache-2.0"),
    global("local_infile", Kind::Bool, "0"),
    both("lock_wait_timeout", Kind::Int(1, 31_536_000), "31536000"),
    fixed("log_bin", Kind::Bool, "0"),
    both("long_query_time", Kind::Double, "10.000000"),
    fixed("lower_case_file_system", Kind::Bool, "0"),
    fixed("lower_case_table_names", Kind::Int(0, 2), "0"),
    both("max_allowed_packet", Kind::Int(1024, 1_073_741_824), "67108864"),
    global("max_connections", Kind::Int(1, 100_000), "200"),
    both("max_error_count", Kind::Int(0, 65_535), "1024"),
    both("max_execution_time", Kind::Int(0, MAX), "0"),
    both("max_heap_table_size", Kind::Int(16_384, MAX), "16777216"),
    both("max_join_size", Kind::Int(1, MAX), "9223372036854775807"),
    both("max_sp_recursion_depth", Kind::Int(0, 255), "0"),
    both("max_statement_time", Kind::Double, "0.000000"),
    both("max_user_connections", Kind::Int(0, MAX), "0"),
    both("net_buffer_length", Kind::Int(1024, 1_048_576), "16384"),
    both("net_read_timeout", Kind::Int(1, 31_536_000), "30"),
    both("net_write_timeout", Kind::Int(1, 31_536_000), "60"),
    both("new", Kind::Bool, "0"),
    both("old_passwords", Kind::Int(0, 2), "0"),
    both("optimizer_prune_level", Kind::Int(0, 1), "1"),
    both("optimizer_search_depth", Kind::Int(0, 62), "62"),
    both("optimizer_switch", Kind::Text, ""),
    fixed("performance_schema", Kind::Bool, "0"),
    fixed("port", Kind::Int(0, 65_535), "3306"),
    both("profiling", Kind::Bool, "0"),
    fixed("protocol_version", Kind::Int(0, 100), "10"),
    session("pseudo_thread_id", Kind::Int(0, MAX), "0"),
    both("query_cache_size", Kind::Int(0, MAX), "0"),
    both("query_cache_type", Kind::Enum(&["OFF", "ON", "DEMAND"]), "OFF"),
    session("rand_seed1", Kind::Int(0, MAX), "0"),
    session("rand_seed2", Kind::Int(0, MAX), "0"),
    global("read_only", Kind::Bool, "0"),
    fixed("report_host", Kind::Text, ""),
    global("require_secure_transport", Kind::Bool, "0"),
    global("secure_file_priv", Kind::Text, ""),
    global("server_id", Kind::Int(0, 4_294_967_295), "1"),
    fixed("server_uuid", Kind::Text, "00000000-0000-0000-0000-000000000001"),
    both("session_track_gtids", Kind::Enum(&["OFF", "OWN_GTID", "ALL_GTIDS"]), "OFF"),
    both("session_track_schema", Kind::Bool, "1"),
    both("session_track_state_change", Kind::Bool, "0"),
    both(
        "session_track_system_variables",
        Kind::Text,
        "time_zone,autocommit,character_set_client,character_set_results,character_set_connection",
    ),
    both("session_track_transaction_info", Kind::Enum(&["OFF", "STATE", "CHARACTERISTICS"]), "OFF"),
    fixed("skip_name_resolve", Kind::Bool, "1"),
    global("slow_query_log", Kind::Bool, "0"),
    fixed("socket", Kind::Text, ""),
    both("sort_buffer_size", Kind::Int(32_768, MAX), "262144"),
    both("sql_auto_is_null", Kind::Bool, "0"),
    both("sql_big_selects", Kind::Bool, "1"),
    session("sql_log_bin", Kind::Bool, "1"),
    both("sql_mode", Kind::SqlMode, SQL_MODE),
    both("sql_notes", Kind::Bool, "1"),
    both("sql_quote_show_create", Kind::Bool, "1"),
    both("sql_require_primary_key", Kind::Bool, "0"),
    both("sql_safe_updates", Kind::Bool, "0"),
    both("sql_select_limit", Kind::Int(0, MAX), "9223372036854775807"),
    both("sql_warnings", Kind::Bool, "0"),
    global("super_read_only", Kind::Bool, "0"),
    global("sync_binlog", Kind::Int(0, MAX), "1"),
    fixed("system_time_zone", Kind::Text, "UTC"),
    global("table_open_cache", Kind::Int(1, 524_288), "4000"),
    global("thread_cache_size", Kind::Int(0, 16_384), "9"),
    both("time_zone", Kind::TimeZone, "SYSTEM"),
    session("timestamp", Kind::Double, "0"),
    both("tmp_table_size", Kind::Int(1024, MAX), "16777216"),
    fixed("tmpdir", Kind::Text, "/tmp"),
    both("transaction_isolation", Kind::Enum(ISOLATION), "REPEATABLE-READ"),
    both("transaction_read_only", Kind::Bool, "0"),
    both("unique_checks", Kind::Bool, "1"),
    fixed("version", Kind::Text, "8.0.39"),
    fixed("version_comment", Kind::Text, "Borealis"),
    fixed("version_compile_machine", Kind::Text, "x86_64"),
    fixed("version_compile_os", Kind::Text, "Linux"),
    both("wait_timeout", Kind::Int(1, 31_536_000), "28800"),
    session("warning_count", Kind::Int(0, MAX), "0"),
    both("windowing_use_high_precision", Kind::Bool, "1"),
];

/// Names that mean another variable.
fn canonical(name: &str) -> &str {
    match name {
        "tx_isolation" => "transaction_isolation",
        "tx_read_only" => "transaction_read_only",
        "identity" => "last_insert_id",
        other => other,
    }
}

fn definition(name: &str) -> SqlResult<&'static Definition> {
    let name = name.to_ascii_lowercase();
    let name = canonical(&name);
    DEFINITIONS.iter().find(|d| d.name == name).ok_or_else(|| SqlError::unknown_variable(name))
}

fn parse_default(definition: &Definition) -> Value {
    match definition.kind {
        Kind::Bool | Kind::Int(..) => Value::Int(definition.default.parse().unwrap_or(0)),
        Kind::Double => Value::Double(definition.default.parse().unwrap_or(0.0)),
        _ => Value::Text(definition.default.to_owned()),
    }
}

/// What an assignment gives.
#[derive(Clone, Debug, PartialEq)]
pub enum SetTo {
    /// A value.
    Value(Value),
    /// DEFAULT: the global value for a session's, MySQL's own for a global one.
    Default,
}

/// What an instance is called and how it starts.
#[derive(Clone, Debug, Default)]
pub struct InstanceInfo {
    /// `@@aurora_server_id`.
    pub server_id: String,
    /// `@@hostname`.
    pub hostname: String,
    /// `@@port`.
    pub port: u16,
    /// A number for `@@server_id`.
    pub number: u32,
    /// Multi-master mode: sessions read the present by default.
    pub multi_master: bool,
    /// `(auto_increment_increment, auto_increment_offset)`.
    pub auto_increment: (u64, u64),
    /// Values given by the cluster's `parameters`.
    pub parameters: Vec<(String, String)>,
}

/// Variables of the instance: what new sessions begin with.
pub struct GlobalVariables {
    values: RwLock<HashMap<&'static str, Value>>,
    read_only: AtomicBool,
    multi_master: bool,
}

impl GlobalVariables {
    /// The variables of an instance.
    ///
    /// # Errors
    ///
    /// 1193 and 1231 for parameters that are not known or wrong.
    pub fn new(info: &InstanceInfo) -> SqlResult<Self> {
        let mut values: HashMap<&'static str, Value> =
            DEFINITIONS.iter().map(|d| (d.name, parse_default(d))).collect();
        values.insert("aurora_server_id", Value::Text(info.server_id.clone()));
        let hostname = if info.hostname.is_empty() { &info.server_id } else { &info.hostname };
        values.insert("hostname", Value::Text(hostname.clone()));
        if info.port != 0 {
            values.insert("port", Value::Int(i64::from(info.port)));
        }
        values.insert("server_id", Value::Int(i64::from(info.number)));
        let (increment, offset) = info.auto_increment;
        for (name, value) in [("auto_increment_increment", increment), ("auto_increment_offset", offset)] {
            values.insert(name, Value::Int(i64::try_from(value.max(1)).unwrap_or(1)));
        }
        let all = Self {
            values: RwLock::new(values),
            read_only: AtomicBool::new(false),
            multi_master: info.multi_master,
        };
        for (name, value) in &info.parameters {
            let found = definition(name)?;
            let value = check(found, &Value::Text(value.clone()), &|n| all.value(n))?;
            all.values.write().insert(found.name, value);
        }
        Ok(all)
    }
    /// Whether the instance refuses writes: `@@innodb_read_only`.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Release);
    }
    /// See [`GlobalVariables::set_read_only`].
    pub fn read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }
    /// A value by its name.
    ///
    /// # Errors
    ///
    /// 1193.
    pub fn get(&self, name: &str) -> SqlResult<Value> {
        let found = definition(name)?;
        if found.reach == Reach::Session {
            return Err(SqlError::new(1238, format!("Variable '{}' is a SESSION variable", found.name)));
        }
        Ok(self.value(found.name))
    }
    fn value(&self, name: &str) -> Value {
        if name == "innodb_read_only" {
            return Value::Int(i64::from(self.read_only()));
        }
        self.values.read().get(name).cloned().unwrap_or(Value::Null)
    }
    /// Every global variable with its value as SHOW VARIABLES prints it.
    pub fn list(&self) -> Vec<(&'static str, String)> {
        let shown = DEFINITIONS.iter().filter(|d| d.reach != Reach::Session);
        shown.map(|d| (d.name, display(d, &self.value(d.name)))).collect()
    }
}

/// Variables of a session.
pub struct Variables {
    globals: Arc<GlobalVariables>,
    own: HashMap<&'static str, Value>,
}

impl Variables {
    /// A new session's.
    pub fn new(globals: &Arc<GlobalVariables>) -> Self {
        Self { globals: globals.clone(), own: HashMap::new() }
    }
    fn value(&self, name: &'static str) -> Value {
        match self.own.get(name) {
            Some(value) => value.clone(),
            None => self.globals.value(name),
        }
    }
    /// The session's value, or the global one of a variable that has no other.
    ///
    /// # Errors
    ///
    /// 1193.
    pub fn get(&self, name: &str) -> SqlResult<Value> {
        Ok(self.value(definition(name)?.name))
    }
    /// The instance's value.
    ///
    /// # Errors
    ///
    /// 1193, and 1238 for a variable of sessions only.
    pub fn get_global(&self, name: &str) -> SqlResult<Value> {
        self.globals.get(name)
    }
    /// The value in the form that expressions see: `@@sql_mode`, `@@autocommit` …
    ///
    /// # Errors
    ///
    /// 1193, 1231, 1238.
    pub fn set(&mut self, scope: Scope, name: &str, to: SetTo) -> SqlResult<()> {
        let found = definition(name)?;
        if found.read_only {
            return Err(SqlError::read_only_variable(found.name));
        }
        match (scope, found.reach) {
            (Scope::Session, Reach::Global) => {
                return Err(SqlError::new(
                    1229,
                    format!(
                        "Variable '{}' is a GLOBAL variable and should be set with SET GLOBAL",
                        found.name
                    ),
                ));
            }
            (Scope::Global, Reach::Session) => {
                return Err(SqlError::new(
                    1228,
                    format!(
                        "Variable '{}' is a SESSION variable and can't be used with SET GLOBAL",
                        found.name
                    ),
                ));
            }
            _ => {}
        }
        let value = match (to, scope) {
            (SetTo::Value(value), _) => check(found, &value, &|n| self.globals.value(n))?,
            (SetTo::Default, Scope::Global) => parse_default(found),
            (SetTo::Default, Scope::Session) => {
                self.own.remove(found.name);
                return Ok(());
            }
        };
        if found.name == "transaction_isolation" && value == Value::Text("SERIALIZABLE".to_owned()) {
            return Err(SqlError::unsupported("SERIALIZABLE"));
        }
        if scope == Scope::Global {
            self.globals.values.write().insert(found.name, value);
        } else {
            self.own.insert(found.name, value);
        }
        Ok(())
    }
    /// SET NAMES; `None`: the server's own character set.
    ///
    /// # Errors
    ///
    /// 1115, 1273, 1253.
    pub fn set_names(&mut self, charset: Option<&str>, collation: Option<&str>) -> SqlResult<()> {
        let charset = charset.unwrap_or("utf8mb4").to_ascii_lowercase();
        let Some(default) = Collation::of_charset(&charset) else {
            return Err(SqlError::new(1115, format!("Unknown character set: '{charset}'")));
        };
        let chosen = match collation {
            None => default,
            Some(name) => match Collation::by_name(name) {
                Some(found) if found.info().charset == default.info().charset => found,
                Some(_) => {
                    let text = format!("COLLATION '{name}' is not valid for CHARACTER SET '{charset}'");
                    return Err(SqlError::new(1253, text));
                }
                None => return Err(SqlError::new(1273, format!("Unknown collation: '{name}'"))),
            },
        };
        let charset = Value::Text(chosen.info().charset.to_owned());
        for name in ["character_set_client", "character_set_connection", "character_set_results"] {
            self.own.insert(name, charset.clone());
        }
        self.own.insert("collation_connection", Value::Text(chosen.name().to_owned()));
        Ok(())
    }
    /// Every variable with the session's value as SHOW VARIABLES prints it.
    pub fn list(&self) -> Vec<(&'static str, String)> {
        DEFINITIONS.iter().map(|d| (d.name, display(d, &self.value(d.name)))).collect()
    }
    fn is_on(&self, name: &'static str) -> bool {
        self.value(name) == Value::Int(1)
    }
    fn text(&self, name: &'static str) -> String {
        self.value(name).display().unwrap_or_default()
    }
    fn number(&self, name: &'static str) -> i64 {
        match self.value(name) {
            Value::Int(value) => value,
            _ => 0,
        }
    }
    /// `@@autocommit`.
    pub fn autocommit(&self) -> bool {
        self.is_on("autocommit")
    }
    /// `@@transaction_isolation`.
    pub fn isolation(&self) -> IsolationLevel {
        match self.text("transaction_isolation").as_str() {
            "READ-UNCOMMITTED" => IsolationLevel::ReadUncommitted,
            "READ-COMMITTED" => IsolationLevel::ReadCommitted,
            _ => IsolationLevel::RepeatableRead,
        }
    }
    /// Changes `@@transaction_isolation`, as SET TRANSACTION does.
    pub fn set_isolation(&mut self, scope: Scope, level: IsolationLevel) -> SqlResult<()> {
        let name = match level {
            IsolationLevel::ReadUncommitted => ISOLATION[0],
            IsolationLevel::ReadCommitted => ISOLATION[1],
            IsolationLevel::RepeatableRead => ISOLATION[2],
            IsolationLevel::Serializable => ISOLATION[3],
        };
        self.set(scope, "transaction_isolation", SetTo::Value(Value::Text(name.to_owned())))
    }
    /// `@@transaction_read_only`.
    pub fn read_only(&self) -> bool {
        self.is_on("transaction_read_only")
    }
    /// `@@innodb_lock_wait_timeout`.
    pub fn lock_wait_timeout(&self) -> Duration {
        Duration::from_secs(self.number("innodb_lock_wait_timeout").max(1).unsigned_abs())
    }
    /// Which commits a read must see.
    pub fn consistency(&self) -> Freshness {
        let global = if self.globals.multi_master {
            self.text("aurora_mm_session_consistency_level") != "INSTANCE_RAW"
        } else {
            self.text("aurora_replica_read_consistency") == "GLOBAL"
        };
        if global { Freshness::Global } else { Freshness::Local }
    }
    /// `@@innodb_snapshot_isolation`.
    pub fn snapshot_isolation(&self) -> bool {
        self.is_on("innodb_snapshot_isolation")
    }
    /// `@@borealis_autocommit_retries`.
    pub fn autocommit_retries(&self) -> u32 {
        u32::try_from(self.number("borealis_autocommit_retries")).unwrap_or(0)
    }
    /// `@@sql_mode`.
    pub fn sql_mode(&self) -> String {
        self.text("sql_mode")
    }
    /// True if the `sql_mode` refuses wrong values.
    pub fn strict(&self) -> bool {
        self.sql_mode().contains("STRICT_")
    }
    /// Seconds that `@@time_zone` is ahead of UTC.
    pub fn time_zone_offset(&self) -> i32 {
        time_zone_seconds(&self.text("time_zone")).unwrap_or(0)
    }
}

/// Seconds ahead of UTC; `None` for a name that is not known.
pub fn time_zone_seconds(zone: &str) -> Option<i32> {
    if zone.eq_ignore_ascii_case("SYSTEM")
        || zone.eq_ignore_ascii_case("UTC")
        || zone.eq_ignore_ascii_case("Etc/UTC")
    {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = sign * (hours * 3600 + minutes * 60);
    let valid = (0..=59).contains(&minutes) && (-50_340..=50_400).contains(&seconds) && hours >= 0;
    valid.then_some(seconds)
}

fn display(definition: &Definition, value: &Value) -> String {
    match (definition.kind, value) {
        (Kind::Bool, Value::Int(value)) => if *value == 0 { "OFF" } else { "ON" }.to_owned(),
        (Kind::Double, Value::Double(value)) => format!("{value:.6}"),
        (_, value) => value.display().unwrap_or_default(),
    }
}

/// Brings a value into the form of the variable, or refuses it.
fn check(found: &Definition, value: &Value, global: &dyn Fn(&str) -> Value) -> SqlResult<Value> {
    let shown = value.display().unwrap_or_else(|| "NULL".to_owned());
    let refuse = || SqlError::wrong_variable_value(found.name, &shown);
    let wrong_type = || SqlError::new(1232, format!("Incorrect argument type to variable '{}'", found.name));
    match found.kind {
        Kind::Bool => match shown.to_ascii_uppercase().as_str() {
            "1" | "ON" | "TRUE" => Ok(Value::Int(1)),
            "0" | "OFF" | "FALSE" => Ok(Value::Int(0)),
            _ => Err(refuse()),
        },
        Kind::Int(low, high) => {
            let number = match value {
                Value::Int(number) => *number,
                Value::UInt(number) => i64::try_from(*number).unwrap_or(i64::MAX),
                // Huge numbers arrive as decimals.
                Value::Text(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                    text.parse().unwrap_or(i64::MAX)
                }
                Value::Text(text) => text.parse().map_err(|_| wrong_type())?,
                _ => return Err(wrong_type()),
            };
            Ok(Value::Int(number.clamp(low, high)))
        }
        Kind::Double => match value {
            Value::Double(number) => Ok(Value::Double(*number)),
            _ => shown.parse().map(Value::Double).map_err(|_| wrong_type()),
        },
        Kind::Text => Ok(match value {
            Value::Null => Value::Text(String::new()),
            _ => Value::Text(shown),
        }),
        Kind::Enum(choices) => {
            if let Value::Int(number) = value {
                let choice = usize::try_from(*number).ok().and_then(|n| choices.get(n));
                return choice.map(|c| Value::Text((*c).to_owned())).ok_or_else(refuse);
            }
            let choice = choices.iter().find(|c| c.eq_ignore_ascii_case(&shown));
            choice.map(|c| Value::Text((*c).to_owned())).ok_or_else(refuse)
        }
        Kind::Charset => {
            if value.is_null() {
                // `SET character_set_results = NULL`: results as they are.
                return if found.name == "character_set_results" { Ok(Value::Null) } else { Err(refuse()) };
            }
            match Collation::of_charset(&shown) {
                Some(found) => Ok(Value::Text(found.info().charset.to_owned())),
                None => Err(SqlError::new(1115, format!("Unknown character set: '{shown}'"))),
            }
        }
        Kind::Collation => match Collation::by_name(&shown) {
            Some(found) => Ok(Value::Text(found.name().to_owned())),
            None => Err(SqlError::new(1273, format!("Unknown collation: '{shown}'"))),
        },
        Kind::SqlMode => sql_mode(value, &shown).ok_or_else(refuse),
        Kind::TimeZone => match time_zone_seconds(&shown) {
            Some(_) => Ok(Value::Text(shown)),
            None => {
                let _ = global;
                Err(SqlError::new(1298, format!("Unknown or incorrect time zone: '{shown}'")))
            }
        },
    }
}

fn sql_mode(value: &Value, shown: &str) -> Option<Value> {
    if let Value::Int(0) = value {
        return Some(Value::Text(String::new()));
    }
    let mut modes: Vec<&str> = Vec::new();
    for mode in shown.split(',').map(str::trim).filter(|m| !m.is_empty()) {
        let known = SQL_MODES.iter().find(|m| m.eq_ignore_ascii_case(mode))?;
        let expanded: &[&str] = match *known {
            "TRADITIONAL" => &[
                "STRICT_TRANS_TABLES",
                "STRICT_ALL_TABLES",
                "NO_ZERO_IN_DATE",
                "NO_ZERO_DATE",
                "ERROR_FOR_DIVISION_BY_ZERO",
                "TRADITIONAL",
                "NO_ENGINE_SUBSTITUTION",
            ],
            "ANSI" => &[
                "REAL_AS_FLOAT",
                "PIPES_AS_CONCAT",
                "ANSI_QUOTES",
                "IGNORE_SPACE",
                "ONLY_FULL_GROUP_BY",
                "ANSI",
            ],
            "NO_AUTO_CREATE_USER" => &[],
            _ => std::slice::from_ref(known),
        };
        for mode in expanded {
            if !modes.contains(mode) {
                modes.push(mode);
            }
        }
    }
    // MySQL shows them in the order of its own list.
    modes.sort_by_key(|m| SQL_MODES.iter().position(|k| k == m));
    Some(Value::Text(modes.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let info =
            InstanceInfo { server_id: "shop-0".into(), auto_increment: (1, 1), ..InstanceInfo::default() };
        Variables::new(&Arc::new(GlobalVariables::new(&info).expect("defaults")))
    }

    #[test]
    fn unknown_read_only_and_wrong_values_are_refused_with_mysqls_codes() {
        let mut all = variables();
        let set = |all: &mut Variables, name: &str, value: &str| {
            all.set(Scope::Session, name, SetTo::Value(value.into())).map_err(|e| e.code)
        };
        assert_eq!(set(&mut all, "nonesuch", "1"), Err(1193));
        assert_eq!(set(&mut all, "version", "1"), Err(1238));
        assert_eq!(set(&mut all, "autocommit", "maybe"), Err(1231));
        assert_eq!(set(&mut all, "max_connections", "10"), Err(1229));
        assert_eq!(set(&mut all, "time_zone", "Mars/Olympus"), Err(1298));
    }

    #[test]
    fn sessions_have_their_own_values_and_default_goes_back() {
        let mut all = variables();
        all.set(Scope::Session, "tx_isolation", SetTo::Value("read-committed".into())).expect("set");
        assert_eq!(all.isolation(), IsolationLevel::ReadCommitted);
        assert_eq!(all.get_global("transaction_isolation").expect("global"), "REPEATABLE-READ".into());
        all.set(Scope::Session, "transaction_isolation", SetTo::Default).expect("default");
        assert_eq!(all.isolation(), IsolationLevel::RepeatableRead);
    }

    #[test]
    fn sql_modes_are_checked_and_put_in_order() {
        let mut all = variables();
        all.set(Scope::Session, "sql_mode", SetTo::Value("STRICT_ALL_TABLES,ansi_quotes".into()))
            .expect("set");
        assert_eq!(all.sql_mode(), "ANSI_QUOTES,STRICT_ALL_TABLES");
        assert!(all.strict());
        assert!(all.set(Scope::Session, "sql_mode", SetTo::Value("WRONG".into())).is_err());
    }

    #[test]
    fn set_names_moves_the_whole_connection() {
        let mut all = variables();
        all.set_names(Some("utf8"), None).expect("names");
        assert_eq!(all.get("collation_connection").expect("known"), "utf8mb3_general_ci".into());
        assert_eq!(all.set_names(Some("klingon"), None).map_err(|e| e.code), Err(1115));
    }
}
