//! Computed tables: `information_schema`, and the few of `performance_schema` and `mysql` that clients read.
//! They are queried like any other table; their rows are made when a query scans them.

use std::sync::{Arc, OnceLock};

use crate::catalog::{Catalog, ColumnDef, Default, TableDef, TableState};
use crate::collation::{COLLATIONS, Collation};
use crate::context::Context;
use crate::error::SqlResult;
use crate::temporal::DateTime;
use crate::types::{ColumnType, Value};

/// `(database, table, columns)`: a column is a name and a type: `i` BIGINT, `u` BIGINT UNSIGNED, `s` text,
/// `d` DATETIME, `D` DATETIME(6), `f` DOUBLE, `t` LONGTEXT.
const TABLES: &[(&str, &str, &str)] = &[
    (IS, "CHARACTER_SETS", "CHARACTER_SET_NAME:s DEFAULT_COLLATE_NAME:s DESCRIPTION:s MAXLEN:u"),
    (
        IS,
        "COLLATIONS",
        "COLLATION_NAME:s CHARACTER_SET_NAME:s ID:u IS_DEFAULT:s IS_COMPILED:s SORTLEN:u PAD_ATTRIBUTE:s",
    ),
    (IS, "COLLATION_CHARACTER_SET_APPLICABILITY", "COLLATION_NAME:s CHARACTER_SET_NAME:s"),
    (
        IS,
        "COLUMNS",
        "TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s COLUMN_NAME:s ORDINAL_POSITION:u COLUMN_DEFAULT:t IS_NULLABLE:s DATA_TYPE:t CHARACTER_MAXIMUM_LENGTH:i CHARACTER_OCTET_LENGTH:i NUMERIC_PRECISION:u NUMERIC_SCALE:u DATETIME_PRECISION:u CHARACTER_SET_NAME:s COLLATION_NAME:s COLUMN_TYPE:t COLUMN_KEY:s EXTRA:s PRIVILEGES:s COLUMN_COMMENT:t GENERATION_EXPRESSION:t SRS_ID:u",
    ),
    (IS, "ENGINES", "ENGINE:s SUPPORT:s COMMENT:s TRANSACTIONS:s XA:s SAVEPOINTS:s"),
    (
        IS,
        "EVENTS",
        "EVENT_CATALOG:s EVENT_SCHEMA:s EVENT_NAME:s DEFINER:s TIME_ZONE:s EVENT_BODY:s EVENT_DEFINITION:t EVENT_TYPE:s EXECUTE_AT:d STATUS:s",
    ),
    (
        IS,
        "FILES",
        "FILE_ID:i FILE_NAME:t FILE_TYPE:s TABLESPACE_NAME:s TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s LOGFILE_GROUP_NAME:s LOGFILE_GROUP_NUMBER:i ENGINE:s FREE_EXTENTS:i TOTAL_EXTENTS:i EXTENT_SIZE:i INITIAL_SIZE:i MAXIMUM_SIZE:i AUTOEXTEND_SIZE:i CREATION_TIME:d STATUS:s EXTRA:s",
    ),
    (IS, "KEYWORDS", "WORD:s RESERVED:i"),
    (
        IS,
        "KEY_COLUMN_USAGE",
        "CONSTRAINT_CATALOG:s CONSTRAINT_SCHEMA:s CONSTRAINT_NAME:s TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s COLUMN_NAME:s ORDINAL_POSITION:u POSITION_IN_UNIQUE_CONSTRAINT:u REFERENCED_TABLE_SCHEMA:s REFERENCED_TABLE_NAME:s REFERENCED_COLUMN_NAME:s",
    ),
    (
        IS,
        "PARAMETERS",
        "SPECIFIC_CATALOG:s SPECIFIC_SCHEMA:s SPECIFIC_NAME:s ORDINAL_POSITION:u PARAMETER_MODE:s PARAMETER_NAME:s DATA_TYPE:t CHARACTER_MAXIMUM_LENGTH:i CHARACTER_OCTET_LENGTH:i NUMERIC_PRECISION:u NUMERIC_SCALE:i DATETIME_PRECISION:u CHARACTER_SET_NAME:s COLLATION_NAME:s DTD_IDENTIFIER:t ROUTINE_TYPE:s",
    ),
    (
        IS,
        "PARTITIONS",
        "TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s PARTITION_NAME:s SUBPARTITION_NAME:s PARTITION_ORDINAL_POSITION:u SUBPARTITION_ORDINAL_POSITION:u PARTITION_METHOD:s SUBPARTITION_METHOD:s PARTITION_EXPRESSION:s SUBPARTITION_EXPRESSION:s PARTITION_DESCRIPTION:t TABLE_ROWS:u AVG_ROW_LENGTH:u DATA_LENGTH:u TABLESPACE_NAME:s",
    ),
    (
        IS,
        "PLUGINS",
        "PLUGIN_NAME:s PLUGIN_VERSION:s PLUGIN_STATUS:s PLUGIN_TYPE:s PLUGIN_TYPE_VERSION:s PLUGIN_LIBRARY:s PLUGIN_LIBRARY_VERSION:s PLUGIN_AUTHOR:s PLUGIN_DESCRIPTION:t PLUGIN_LICENSE:s LOAD_OPTION:s",
    ),
    (IS, "PROCESSLIST", "ID:u USER:s HOST:s DB:s COMMAND:s TIME:i STATE:s INFO:t"),
    (
        IS,
        "REFERENTIAL_CONSTRAINTS",
        "CONSTRAINT_CATALOG:s CONSTRAINT_SCHEMA:s CONSTRAINT_NAME:s UNIQUE_CONSTRAINT_CATALOG:s UNIQUE_CONSTRAINT_SCHEMA:s UNIQUE_CONSTRAINT_NAME:s MATCH_OPTION:s UPDATE_RULE:s DELETE_RULE:s TABLE_NAME:s REFERENCED_TABLE_NAME:s",
    ),
    (
        IS,
        "REPLICA_HOST_STATUS",
        "SERVER_ID:s SESSION_ID:s IOPS:u READ_IOPS:u PENDING_READ_IOS:u CPU:f DURABLE_LSN:u ACTIVE_LSN:u LAST_TRANSPORT_ERROR:i LAST_ERROR_TIMESTAMP:D LAST_UPDATE_TIMESTAMP:D MASTER_SLAVE_LATENCY_IN_MICROSECONDS:u REPLICA_LAG_IN_MILLISECONDS:f LOG_STREAM_SPEED_IN_KiB_PER_SECOND:f LOG_BUFFER_SEQUENCE_NUMBER:u IS_CURRENT:i OLDEST_READ_VIEW_TRX_ID:u OLDEST_READ_VIEW_LSN:u HIGHEST_LSN_RECEIVED:u CURRENT_READ_POINT:u CURRENT_REPLAY_LATENCY_IN_MICROSECONDS:u AVERAGE_REPLAY_LATENCY_IN_MICROSECONDS:u MAX_REPLAY_LATENCY_IN_MICROSECONDS:u HAS_PRIMARY:i LAST_REPORTED_STATUS:s",
    ),
    (
        IS,
        "ROUTINES",
        "SPECIFIC_NAME:s ROUTINE_CATALOG:s ROUTINE_SCHEMA:s ROUTINE_NAME:s ROUTINE_TYPE:s DATA_TYPE:t CHARACTER_MAXIMUM_LENGTH:i NUMERIC_PRECISION:u NUMERIC_SCALE:u DTD_IDENTIFIER:t ROUTINE_BODY:s ROUTINE_DEFINITION:t IS_DETERMINISTIC:s SQL_DATA_ACCESS:s SECURITY_TYPE:s CREATED:d LAST_ALTERED:d SQL_MODE:s ROUTINE_COMMENT:t DEFINER:s",
    ),
    (
        IS,
        "SCHEMATA",
        "CATALOG_NAME:s SCHEMA_NAME:s DEFAULT_CHARACTER_SET_NAME:s DEFAULT_COLLATION_NAME:s SQL_PATH:s DEFAULT_ENCRYPTION:s",
    ),
    (IS, "SCHEMA_PRIVILEGES", "GRANTEE:s TABLE_CATALOG:s TABLE_SCHEMA:s PRIVILEGE_TYPE:s IS_GRANTABLE:s"),
    (
        IS,
        "STATISTICS",
        "TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s NON_UNIQUE:i INDEX_SCHEMA:s INDEX_NAME:s SEQ_IN_INDEX:u COLUMN_NAME:s COLLATION:s CARDINALITY:i SUB_PART:i PACKED:s NULLABLE:s INDEX_TYPE:s COMMENT:s INDEX_COMMENT:s IS_VISIBLE:s EXPRESSION:t",
    ),
    (
        IS,
        "TABLES",
        "TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s TABLE_TYPE:s ENGINE:s VERSION:i ROW_FORMAT:s TABLE_ROWS:u AVG_ROW_LENGTH:u DATA_LENGTH:u MAX_DATA_LENGTH:u INDEX_LENGTH:u DATA_FREE:u AUTO_INCREMENT:u CREATE_TIME:d UPDATE_TIME:d CHECK_TIME:d TABLE_COLLATION:s CHECKSUM:i CREATE_OPTIONS:s TABLE_COMMENT:t",
    ),
    (IS, "TABLESPACES", "TABLESPACE_NAME:s ENGINE:s TABLESPACE_TYPE:s LOGFILE_GROUP_NAME:s EXTENT_SIZE:u"),
    (
        IS,
        "TABLE_CONSTRAINTS",
        "CONSTRAINT_CATALOG:s CONSTRAINT_SCHEMA:s CONSTRAINT_NAME:s TABLE_SCHEMA:s TABLE_NAME:s CONSTRAINT_TYPE:s ENFORCED:s",
    ),
    (
        IS,
        "TABLE_PRIVILEGES",
        "GRANTEE:s TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s PRIVILEGE_TYPE:s IS_GRANTABLE:s",
    ),
    (
        IS,
        "TRIGGERS",
        "TRIGGER_CATALOG:s TRIGGER_SCHEMA:s TRIGGER_NAME:s EVENT_MANIPULATION:s EVENT_OBJECT_CATALOG:s EVENT_OBJECT_SCHEMA:s EVENT_OBJECT_TABLE:s ACTION_ORDER:u ACTION_CONDITION:t ACTION_STATEMENT:t ACTION_ORIENTATION:s ACTION_TIMING:s CREATED:d SQL_MODE:s DEFINER:s",
    ),
    (IS, "USER_PRIVILEGES", "GRANTEE:s TABLE_CATALOG:s PRIVILEGE_TYPE:s IS_GRANTABLE:s"),
    (
        IS,
        "VIEWS",
        "TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s VIEW_DEFINITION:t CHECK_OPTION:s IS_UPDATABLE:s DEFINER:s SECURITY_TYPE:s CHARACTER_SET_CLIENT:s COLLATION_CONNECTION:s",
    ),
    (IS, "CHECK_CONSTRAINTS", "CONSTRAINT_CATALOG:s CONSTRAINT_SCHEMA:s CONSTRAINT_NAME:s CHECK_CLAUSE:t"),
    (PS, "global_variables", "VARIABLE_NAME:s VARIABLE_VALUE:t"),
    (PS, "session_variables", "VARIABLE_NAME:s VARIABLE_VALUE:t"),
    (PS, "global_status", "VARIABLE_NAME:s VARIABLE_VALUE:t"),
    (PS, "session_status", "VARIABLE_NAME:s VARIABLE_VALUE:t"),
    ("mysql", "user", "Host:s User:s plugin:s account_locked:s"),
    ("mysql", "time_zone_name", "Name:s Time_zone_id:u"),
];

const IS: &str = "information_schema";
const PS: &str = "performance_schema";

/// Databases that exist without rows in the catalog.
pub fn databases() -> &'static [&'static str] {
    &["information_schema", "mysql", "performance_schema", "sys"]
}

fn definitions() -> &'static [Arc<TableDef>] {
    static ALL: OnceLock<Vec<Arc<TableDef>>> = OnceLock::new();
    ALL.get_or_init(|| {
        TABLES.iter().map(|(database, name, columns)| Arc::new(define(database, name, columns))).collect()
    })
}

fn define(database: &str, name: &str, columns: &str) -> TableDef {
    let collation = Collation::by_name("utf8mb3_general_ci").unwrap_or_default();
    let columns = columns.split_whitespace().filter_map(|c| c.split_once(':')).map(|(name, ty)| {
        let ty = match ty {
            "i" => ColumnType::BIGINT,
            "u" => ColumnType::BIGINT_UNSIGNED,
            "f" => ColumnType::DOUBLE,
            "d" => ColumnType::DateTime(0),
            "D" => ColumnType::DateTime(6),
            "t" => ColumnType::Text { kind: crate::types::LobKind::Long, collation },
            _ => ColumnType::VarChar { length: 512, collation },
        };
        ColumnDef::new(name, ty)
    });
    TableDef {
        id: 0,
        database: database.to_owned(),
        name: name.to_owned(),
        columns: columns.collect(),
        indexes: Vec::new(),
        auto_increment: None,
        collation,
        comment: String::new(),
        engine: "InnoDB".to_owned(),
        version: 0,
        state: TableState::Public,
        next_column_id: 0,
        next_index_id: 0,
        foreign_keys: Vec::new(),
        created: 0,
    }
}

/// A computed table by its name; case does not matter.
pub fn table(database: &str, name: &str) -> Option<Arc<TableDef>> {
    let found =
        |t: &&Arc<TableDef>| t.database.eq_ignore_ascii_case(database) && t.name.eq_ignore_ascii_case(name);
    definitions().iter().find(found).cloned()
}

/// The computed tables of a database.
pub fn tables(database: &str) -> Vec<Arc<TableDef>> {
    definitions().iter().filter(|t| t.database.eq_ignore_ascii_case(database)).cloned().collect()
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

fn count(value: usize) -> Value {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn yes_no(value: bool) -> Value {
    text(if value { "YES" } else { "NO" })
}

/// The rows of a computed table.
///
/// # Errors
///
/// Those of reading the catalog.
pub fn rows(table: &TableDef, catalog: &dyn Catalog, ctx: &Context) -> SqlResult<Vec<Vec<Value>>> {
    Ok(match table.name.as_str() {
        "CHARACTER_SETS" => character_sets(),
        "COLLATIONS" => collations(),
        "COLLATION_CHARACTER_SET_APPLICABILITY" => {
            COLLATIONS.iter().map(|c| vec![text(c.name), text(c.charset)]).collect()
        }
        "COLUMNS" => per_table(catalog, columns)?,
        "ENGINES" => vec![vec![
            "InnoDB".into(),
            "DEFAULT".into(),
            "Rows in the cluster's shared volume, with transactions and row-level locking".into(),
            "YES".into(),
            "NO".into(),
            "YES".into(),
        ]],
        "KEY_COLUMN_USAGE" => per_table(catalog, key_column_usage)?,
        "PROCESSLIST" => processes(ctx),
        "REFERENTIAL_CONSTRAINTS" => per_table(catalog, referential_constraints)?,
        "REPLICA_HOST_STATUS" => replica_host_status(ctx),
        "SCHEMATA" => schemata(catalog)?,
        "STATISTICS" => per_table(catalog, statistics)?,
        "TABLES" => per_table(catalog, table_row)?,
        "TABLE_CONSTRAINTS" => per_table(catalog, table_constraints)?,
        "USER_PRIVILEGES" => {
            let grantee = format!("'{}'@'%'", ctx.session.lock().user);
            vec![vec![text(grantee), "def".into(), "SUPER".into(), "YES".into()]]
        }
        "global_variables" => named(ctx.instance.variables.list()),
        "session_variables" => named(ctx.session.lock().variables.list()),
        "global_status" | "session_status" => {
            ctx.instance.host.status().into_iter().map(|(n, v)| vec![text(n), text(v)]).collect()
        }
        "user" => {
            let user = ctx.session.lock().user.clone();
            vec![vec!["%".into(), text(user), "caching_sha2_password".into(), "N".into()]]
        }
        // What this server has none of: views, routines, triggers, partitions, files …
        _ => Vec::new(),
    })
}

fn named(values: Vec<(&'static str, String)>) -> Vec<Vec<Value>> {
    values.into_iter().map(|(n, v)| vec![text(n), text(v)]).collect()
}

/// Every table of every database, computed ones included.
fn per_table(catalog: &dyn Catalog, make: fn(&TableDef) -> Vec<Vec<Value>>) -> SqlResult<Vec<Vec<Value>>> {
    let mut all = Vec::new();
    for database in catalog.databases()? {
        for table in catalog.tables(&database.name)? {
            all.extend(make(&table));
        }
    }
    Ok(all)
}

fn character_sets() -> Vec<Vec<Value>> {
    let described = |charset: &str| match charset {
        "utf8mb4" => ("UTF-8 Unicode", 4),
        "utf8mb3" => ("UTF-8 Unicode", 3),
        "latin1" => ("cp1252 West European", 1),
        "ascii" => ("US ASCII", 1),
        _ => ("Binary pseudo charset", 1),
    };
    let defaults = COLLATIONS.iter().filter(|c| c.default);
    defaults
        .map(|c| {
            let (description, length) = described(c.charset);
            vec![text(c.charset), text(c.name), text(description), Value::Int(length)]
        })
        .collect()
}

fn collations() -> Vec<Vec<Value>> {
    use crate::collation::Comparison;
    COLLATIONS
        .iter()
        .map(|c| {
            let pad = matches!(c.comparison, Comparison::InsensitivePad | Comparison::BinaryPad);
            vec![
                text(c.name),
                text(c.charset),
                Value::Int(i64::from(c.id)),
                text(if c.default { "Yes" } else { "" }),
                "Yes".into(),
                Value::Int(1),
                text(if pad { "PAD SPACE" } else { "NO PAD" }),
            ]
        })
        .collect()
}

fn processes(ctx: &Context) -> Vec<Vec<Value>> {
    let rows = ctx.instance.host.processes().into_iter().map(|p| {
        let state = if p.command == "Query" { "executing" } else { "" };
        vec![
            Value::Int(i64::try_from(p.id).unwrap_or(i64::MAX)),
            text(p.user),
            text(p.host),
            p.database.into(),
            text(p.command),
            Value::Int(i64::try_from(p.seconds).unwrap_or(i64::MAX)),
            text(state),
            p.info.into(),
        ]
    });
    rows.collect()
}

fn replica_host_status(ctx: &Context) -> Vec<Vec<Value>> {
    let offset = i64::from(ctx.session.lock().variables.time_zone_offset()) * 1_000_000;
    let rows = ctx.instance.host.replicas().into_iter().map(|r| {
        let lsn = Value::Int(i64::try_from(r.highest_lsn_received).unwrap_or(i64::MAX));
        let lag_micros = (r.replica_lag_ms.max(0.0) * 1000.0) as i64;
        let writer = r.session_id == "MASTER_SESSION_ID";
        vec![
            text(r.server_id),
            text(r.session_id),
            Value::Int(0),
            Value::Int(0),
            Value::Int(0),
            Value::Double(r.cpu),
            lsn.clone(),
            lsn.clone(),
            Value::Int(0),
            Value::Null,
            text(DateTime::from_micros(r.last_update_micros + offset).text(6)),
            Value::Int(if writer { 0 } else { lag_micros }),
            Value::Double(r.replica_lag_ms),
            Value::Double(0.0),
            lsn.clone(),
            Value::Int(1),
            Value::Int(0),
            Value::Int(0),
            lsn.clone(),
            lsn,
            Value::Int(0),
            Value::Int(0),
            Value::Int(0),
            Value::Int(1),
            Value::Null,
        ]
    });
    rows.collect()
}

fn schemata(catalog: &dyn Catalog) -> SqlResult<Vec<Vec<Value>>> {
    let rows = catalog.databases()?.into_iter().map(|d| {
        let info = d.collation.info();
        vec!["def".into(), text(d.name), text(info.charset), text(info.name), Value::Null, "NO".into()]
    });
    Ok(rows.collect())
}

fn table_row(table: &TableDef) -> Vec<Vec<Value>> {
    let stored = table.id != 0;
    let computed = table.database == IS;
    let kind = if computed { "SYSTEM VIEW" } else { "BASE TABLE" };
    let next = table.auto_increment_column().map(|_| table.auto_increment.unwrap_or(1));
    let created = i64::try_from(table.created).unwrap_or(0).saturating_mul(1_000_000);
    let number = |value: i64| if stored { Value::Int(value) } else { Value::Null };
    vec![vec![
        "def".into(),
        text(table.database.clone()),
        text(table.name.clone()),
        text(kind),
        if computed { Value::Null } else { text(table.engine.clone()) },
        Value::Int(10),
        if stored { "Dynamic".into() } else { Value::Null },
        number(0),
        number(0),
        number(16_384),
        number(0),
        number(0),
        number(0),
        next.map(|n| i64::try_from(n).unwrap_or(i64::MAX)).into(),
        if stored { text(DateTime::from_micros(created).text(0)) } else { Value::Null },
        Value::Null,
        Value::Null,
        if computed { Value::Null } else { text(table.collation.name()) },
        Value::Null,
        "".into(),
        text(table.comment.clone()),
    ]]
}

fn data_type(ty: &ColumnType) -> String {
    let full = ty.to_string();
    let end = full.find(['(', ' ']).unwrap_or(full.len());
    full[..end].to_owned()
}

fn column_key(table: &TableDef, ordinal: usize) -> &'static str {
    let first = |i: &&crate::catalog::IndexDef| i.columns.first() == Some(&ordinal);
    if table.primary().is_some_and(|p| p.columns.contains(&ordinal)) {
        "PRI"
    } else if table.indexes.iter().filter(first).any(|i| i.unique && i.columns.len() == 1) {
        "UNI"
    } else if table.indexes.iter().any(|i| first(&i)) {
        "MUL"
    } else {
        ""
    }
}

fn default_text(column: &ColumnDef) -> (Value, &'static str) {
    match &column.default {
        None | Some(Default::Null) => (Value::Null, ""),
        Some(Default::Literal(value)) => match column.ty {
            ColumnType::Bit(_) => (text(format!("b'{:b}'", value.parse::<u64>().unwrap_or(0))), ""),
            _ => (text(value.clone()), ""),
        },
        Some(Default::CurrentTimestamp) => {
            let digits = column.ty.decimals();
            let fsp = if digits == 0 { String::new() } else { format!("({digits})") };
            (text(format!("CURRENT_TIMESTAMP{fsp}")), "DEFAULT_GENERATED")
        }
        Some(Default::Expression(expression)) => (text(expression.clone()), "DEFAULT_GENERATED"),
    }
}

fn columns(table: &TableDef) -> Vec<Vec<Value>> {
    let make = |(ordinal, column): (usize, &ColumnDef)| {
        let (default, generated) = default_text(column);
        let mut extra: Vec<String> = Vec::new();
        extra.extend(column.auto_increment.then(|| "auto_increment".to_owned()));
        extra.extend((!generated.is_empty()).then(|| generated.to_owned()));
        if column.on_update_now {
            let digits = column.ty.decimals();
            let fsp = if digits == 0 { String::new() } else { format!("({digits})") };
            extra.push(format!("on update CURRENT_TIMESTAMP{fsp}"));
        }
        let collation = column.ty.collation();
        let (length, octets) = match &column.ty {
            ColumnType::Binary(n) | ColumnType::VarBinary(n) => (Some(i64::from(*n)), Some(i64::from(*n))),
            ColumnType::Blob(kind) => {
                let bytes = i64::try_from(kind.max_bytes()).unwrap_or(i64::MAX);
                (Some(bytes), Some(bytes))
            }
            ColumnType::Text { kind, .. } => {
                let bytes = i64::try_from(kind.max_bytes()).unwrap_or(i64::MAX);
                (Some(bytes), Some(bytes))
            }
            ty if collation.is_some() => {
                let bytes = i64::from(ty.protocol_length());
                (Some(bytes / 4), Some(bytes))
            }
            _ => (None, None),
        };
        let (precision, scale) = numeric(&column.ty);
        let temporal =
            matches!(column.ty, ColumnType::Time(_) | ColumnType::DateTime(_) | ColumnType::Timestamp(_));
        vec![
            "def".into(),
            text(table.database.clone()),
            text(table.name.clone()),
            text(column.name.clone()),
            count(ordinal + 1),
            default,
            yes_no(column.nullable),
            text(data_type(&column.ty)),
            length.into(),
            octets.into(),
            precision.into(),
            scale.into(),
            temporal.then(|| i64::from(column.ty.decimals())).into(),
            collation.map(|c| c.info().charset.to_owned()).into(),
            collation.map(|c| c.name().to_owned()).into(),
            text(column.ty.to_string()),
            text(column_key(table, ordinal)),
            text(extra.join(" ")),
            text(if table.id == 0 { "select" } else { "select,insert,update,references" }),
            text(column.comment.clone()),
            "".into(),
            Value::Null,
        ]
    };
    table.columns.iter().enumerate().map(make).collect()
}

fn numeric(ty: &ColumnType) -> (Option<i64>, Option<i64>) {
    use crate::types::IntKind;
    match ty {
        ColumnType::Int { kind, unsigned, .. } => {
            let digits = match kind {
                IntKind::Tiny => 3,
                IntKind::Small => 5,
                IntKind::Medium => 7,
                IntKind::Int => 10,
                IntKind::Big => 19 + i64::from(*unsigned),
            };
            (Some(digits), Some(0))
        }
        ColumnType::Decimal { precision, scale, .. } => {
            (Some(i64::from(*precision)), Some(i64::from(*scale)))
        }
        ColumnType::Float { .. } => (Some(12), None),
        ColumnType::Double { .. } => (Some(22), None),
        ColumnType::Bit(n) => (Some(i64::from(*n)), None),
        _ => (None, None),
    }
}

fn statistics(table: &TableDef) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    for index in &table.indexes {
        for (place, &ordinal) in index.columns.iter().enumerate() {
            let column = &table.columns[ordinal];
            all.push(vec![
                "def".into(),
                text(table.database.clone()),
                text(table.name.clone()),
                Value::Int(i64::from(!index.unique)),
                text(table.database.clone()),
                text(index.name.clone()),
                count(place + 1),
                text(column.name.clone()),
                "A".into(),
                Value::Int(0),
                index.prefixes.get(place).copied().flatten().map(i64::from).into(),
                Value::Null,
                text(if column.nullable { "YES" } else { "" }),
                "BTREE".into(),
                "".into(),
                text(index.comment.clone()),
                "YES".into(),
                Value::Null,
            ]);
        }
    }
    all
}

fn key_column_usage(table: &TableDef) -> Vec<Vec<Value>> {
    let row = |constraint: &str, column: &str, place: usize, parent: Option<(&str, &str, &str)>| {
        vec![
            "def".into(),
            text(table.database.clone()),
            text(constraint),
            "def".into(),
            text(table.database.clone()),
            text(table.name.clone()),
            text(column),
            count(place + 1),
            parent.map(|_| i64::try_from(place + 1).unwrap_or(0)).into(),
            parent.map(|p| p.0.to_owned()).into(),
            parent.map(|p| p.1.to_owned()).into(),
            parent.map(|p| p.2.to_owned()).into(),
        ]
    };
    let mut all = Vec::new();
    for index in table.indexes.iter().filter(|i| i.unique) {
        for (place, &ordinal) in index.columns.iter().enumerate() {
            all.push(row(&index.name, &table.columns[ordinal].name, place, None));
        }
    }
    for key in &table.foreign_keys {
        for (place, column) in key.columns.iter().enumerate() {
            let parent = key.parent_columns.get(place).map_or("", String::as_str);
            all.push(row(&key.name, column, place, Some((&key.parent_database, &key.parent_table, parent))));
        }
    }
    all
}

fn table_constraints(table: &TableDef) -> Vec<Vec<Value>> {
    let row = |name: &str, kind: &str| {
        vec![
            "def".into(),
            text(table.database.clone()),
            text(name),
            text(table.database.clone()),
            text(table.name.clone()),
            text(kind),
            "YES".into(),
        ]
    };
    let unique = table.indexes.iter().filter(|i| i.unique);
    let mut all: Vec<Vec<Value>> =
        unique.map(|i| row(&i.name, if i.primary { "PRIMARY KEY" } else { "UNIQUE" })).collect();
    all.extend(table.foreign_keys.iter().map(|k| row(&k.name, "FOREIGN KEY")));
    all
}

fn referential_constraints(table: &TableDef) -> Vec<Vec<Value>> {
    let keys = table.foreign_keys.iter().map(|k| {
        vec![
            "def".into(),
            text(table.database.clone()),
            text(k.name.clone()),
            "def".into(),
            text(k.parent_database.clone()),
            "PRIMARY".into(),
            "NONE".into(),
            text(k.on_update.clone()),
            text(k.on_delete.clone()),
            text(table.name.clone()),
            text(k.parent_table.clone()),
        ]
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_in_any_case_and_have_their_columns() {
        let found = table("INFORMATION_SCHEMA", "replica_host_status").expect("there");
        assert!(found.column("session_id").is_some() && found.column("last_update_timestamp").is_some());
        assert!(table("mysql", "rds_topology").is_none());
        assert_eq!(tables("performance_schema").len(), 4);
    }
}
