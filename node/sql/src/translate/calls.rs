//! Calls of functions: their types, and which of SQLite's or ours carries them out.

use super::ast::{BinaryOp, Call, Expr, Interval};
use super::binder::Binder;
use super::scope::{Bound, quote_text, strength};
use super::typing::{Class, class, decimal_digits, fsp, text_length, varchar};
use crate::error::{SqlError, SqlResult};
use crate::types::{ColumnType, LobKind, Value};

/// The type of a result.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gives {
    Int,
    Unsigned,
    Double,
    /// Text of at most so many characters.
    Text(u32),
    /// Text as long as the first argument.
    Like,
    /// Text as long as all arguments together.
    Joined,
    LongText,
    Blob,
    Date,
    Json,
    /// A system string, such as DATABASE().
    System,
}

/// Functions that need nothing but their arguments: `(MySQL's name, least and most arguments, ours, result)`.
pub(super) type Entry = (&'static str, usize, usize, &'static str, Gives);

const MANY: usize = 255;

pub(super) const SIMPLE: &[Entry] = &[
    ("acos", 1, 1, "my_acos", Gives::Double),
    ("aes_decrypt", 2, 3, "", Gives::Blob),
    ("ascii", 1, 1, "my_ascii", Gives::Int),
    ("asin", 1, 1, "my_asin", Gives::Double),
    ("atan", 1, 2, "my_atan", Gives::Double),
    ("atan2", 2, 2, "my_atan", Gives::Double),
    ("aurora_version", 0, 0, "aurora_version", Gives::System),
    ("benchmark", 2, 2, "benchmark", Gives::Int),
    ("bin", 1, 1, "my_bin", Gives::Text(64)),
    ("bit_count", 1, 1, "bit_count", Gives::Int),
    ("bit_length", 1, 1, "bit_length", Gives::Int),
    ("char_length", 1, 1, "char_length", Gives::Int),
    ("character_length", 1, 1, "char_length", Gives::Int),
    ("charset", 1, 1, "", Gives::System),
    ("concat", 1, MANY, "my_concat", Gives::Joined),
    ("concat_ws", 2, MANY, "my_concat_ws", Gives::Joined),
    ("connection_id", 0, 0, "connection_id", Gives::Unsigned),
    ("conv", 3, 3, "conv", Gives::Text(64)),
    ("cos", 1, 1, "my_cos", Gives::Double),
    ("cot", 1, 1, "my_cot", Gives::Double),
    ("crc32", 1, 1, "crc32", Gives::Unsigned),
    ("current_role", 0, 0, "my_current_role", Gives::System),
    ("current_user", 0, 0, "my_current_user", Gives::System),
    ("database", 0, 0, "my_database", Gives::System),
    ("date", 1, 1, "to_date", Gives::Date),
    ("date_format", 2, 2, "date_format", Gives::Text(255)),
    ("datediff", 2, 2, "date_diff", Gives::Int),
    ("day", 1, 1, "my_day", Gives::Int),
    ("dayname", 1, 1, "dayname", Gives::Text(9)),
    ("dayofmonth", 1, 1, "my_day", Gives::Int),
    ("dayofweek", 1, 1, "dayofweek", Gives::Int),
    ("dayofyear", 1, 1, "dayofyear", Gives::Int),
    ("degrees", 1, 1, "my_degrees", Gives::Double),
    ("elt", 2, MANY, "elt", Gives::Joined),
    ("exp", 1, 1, "my_exp", Gives::Double),
    ("export_set", 3, 5, "export_set", Gives::LongText),
    ("find_in_set", 2, 2, "find_in_set", Gives::Int),
    ("format", 2, 3, "my_format", Gives::Text(80)),
    ("found_rows", 0, 0, "found_rows", Gives::Unsigned),
    ("from_base64", 1, 1, "from_base64", Gives::Blob),
    ("from_days", 1, 1, "from_days", Gives::Date),
    ("get_lock", 2, 2, "get_lock", Gives::Int),
    ("hex", 1, 1, "my_hex", Gives::LongText),
    ("hour", 1, 1, "my_hour", Gives::Int),
    ("inet_aton", 1, 1, "inet_aton", Gives::Unsigned),
    ("inet_ntoa", 1, 1, "inet_ntoa", Gives::Text(15)),
    ("insert", 4, 4, "my_insert", Gives::Joined),
    ("is_free_lock", 1, 1, "is_free_lock", Gives::Int),
    ("isnull", 1, 1, "my_isnull", Gives::Int),
    ("json_array", 0, MANY, "json_array", Gives::Json),
    ("json_contains", 2, 2, "my_json_contains", Gives::Int),
    ("json_extract", 2, MANY, "my_json_extract", Gives::Json),
    ("json_insert", 3, MANY, "json_insert", Gives::Json),
    ("json_keys", 1, 2, "my_json_keys", Gives::Json),
    ("json_length", 1, 2, "my_json_length", Gives::Int),
    ("json_object", 0, MANY, "json_object", Gives::Json),
    ("json_quote", 1, 1, "json_quote", Gives::LongText),
    ("json_remove", 2, MANY, "json_remove", Gives::Json),
    ("json_replace", 3, MANY, "json_replace", Gives::Json),
    ("json_set", 3, MANY, "json_set", Gives::Json),
    ("json_type", 1, 1, "my_json_type", Gives::Text(20)),
    ("json_unquote", 1, 1, "my_json_unquote", Gives::LongText),
    ("json_valid", 1, 1, "my_json_valid", Gives::Int),
    ("last_day", 1, 1, "last_day", Gives::Date),
    ("last_insert_id", 0, 1, "my_last_insert_id", Gives::Unsigned),
    ("lcase", 1, 1, "my_lower", Gives::Like),
    ("left", 2, 2, "my_left", Gives::Like),
    ("length", 1, 1, "my_length", Gives::Int),
    ("ln", 1, 1, "my_ln", Gives::Double),
    ("log", 1, 2, "my_log", Gives::Double),
    ("log10", 1, 1, "my_log10", Gives::Double),
    ("log2", 1, 1, "my_log2", Gives::Double),
    ("lower", 1, 1, "my_lower", Gives::Like),
    ("lpad", 3, 3, "lpad", Gives::LongText),
    ("ltrim", 1, 1, "my_ltrim", Gives::Like),
    ("make_set", 2, MANY, "make_set", Gives::Joined),
    ("makedate", 2, 2, "makedate", Gives::Date),
    ("md5", 1, 1, "md5", Gives::Text(32)),
    ("microsecond", 1, 1, "my_microsecond", Gives::Int),
    ("mid", 2, 3, "my_substring", Gives::Like),
    ("minute", 1, 1, "my_minute", Gives::Int),
    ("month", 1, 1, "my_month", Gives::Int),
    ("monthname", 1, 1, "monthname", Gives::Text(9)),
    ("name_const", 2, 2, "name_const", Gives::LongText),
    ("oct", 1, 1, "my_oct", Gives::Text(64)),
    ("octet_length", 1, 1, "my_length", Gives::Int),
    ("ord", 1, 1, "my_ord", Gives::Int),
    ("period_add", 2, 2, "period_add", Gives::Int),
    ("period_diff", 2, 2, "period_diff", Gives::Int),
    ("pi", 0, 0, "my_pi", Gives::Double),
    ("pow", 2, 2, "my_pow", Gives::Double),
    ("power", 2, 2, "my_pow", Gives::Double),
    ("quarter", 1, 1, "my_quarter", Gives::Int),
    ("quote", 1, 1, "my_quote", Gives::LongText),
    ("radians", 1, 1, "my_radians", Gives::Double),
    ("rand", 0, 1, "my_rand", Gives::Double),
    ("regexp_like", 2, 2, "my_regexp", Gives::Int),
    ("release_lock", 1, 1, "release_lock", Gives::Int),
    ("repeat", 2, 2, "my_repeat", Gives::LongText),
    ("replace", 3, 3, "my_replace", Gives::LongText),
    ("reverse", 1, 1, "my_reverse", Gives::Like),
    ("right", 2, 2, "my_right", Gives::Like),
    ("row_count", 0, 0, "row_count", Gives::Int),
    ("rpad", 3, 3, "rpad", Gives::LongText),
    ("rtrim", 1, 1, "my_rtrim", Gives::Like),
    ("schema", 0, 0, "my_database", Gives::System),
    ("second", 1, 1, "my_second", Gives::Int),
    ("session_user", 0, 0, "my_user", Gives::System),
    ("sha", 1, 1, "sha1_hex", Gives::Text(40)),
    ("sha1", 1, 1, "sha1_hex", Gives::Text(40)),
    ("sha2", 2, 2, "sha2_hex", Gives::Text(128)),
    ("sin", 1, 1, "my_sin", Gives::Double),
    ("sleep", 1, 1, "my_sleep", Gives::Int),
    ("soundex", 1, 1, "my_soundex", Gives::LongText),
    ("space", 1, 1, "my_space", Gives::LongText),
    ("sqrt", 1, 1, "my_sqrt", Gives::Double),
    ("strcmp", 2, 2, "my_strcmp", Gives::Int),
    ("substr", 2, 3, "my_substring", Gives::Like),
    ("substring", 2, 3, "my_substring", Gives::Like),
    ("substring_index", 3, 3, "substring_index", Gives::Like),
    ("system_user", 0, 0, "my_user", Gives::System),
    ("tan", 1, 1, "my_tan", Gives::Double),
    ("time_format", 2, 2, "time_format", Gives::Text(255)),
    ("to_base64", 1, 1, "to_base64", Gives::LongText),
    ("to_days", 1, 1, "to_days", Gives::Int),
    ("to_seconds", 1, 1, "to_seconds", Gives::Int),
    ("ucase", 1, 1, "my_upper", Gives::Like),
    ("unhex", 1, 1, "my_unhex", Gives::Blob),
    ("upper", 1, 1, "my_upper", Gives::Like),
    ("user", 0, 0, "my_user", Gives::System),
    ("uuid", 0, 0, "my_uuid", Gives::Text(36)),
    ("uuid_short", 0, 0, "uuid_short", Gives::Unsigned),
    ("version", 0, 0, "my_version", Gives::System),
    ("week", 1, 2, "my_week", Gives::Int),
    ("weekday", 1, 1, "weekday", Gives::Int),
    ("weekofyear", 1, 1, "weekofyear", Gives::Int),
    ("year", 1, 1, "my_year", Gives::Int),
    ("yearweek", 1, 2, "yearweek", Gives::Int),
];

fn wrong_count(name: &str) -> SqlError {
    SqlError::new(
        1582,
        format!("Incorrect parameter count in the call to native function '{}'", name.to_ascii_uppercase()),
    )
}

impl Binder<'_> {
    /// A call of a function.
    pub(crate) fn call(&mut self, call: &Call) -> SqlResult<Bound> {
        if super::aggregates::is_aggregate(&call.name) || super::aggregates::is_window(&call.name) {
            return self.aggregate(call);
        }
        if call.over.is_some() || call.distinct || call.star {
            return Err(SqlError::syntax(&call.name, 1));
        }
        match call.name.as_str() {
            "if" | "ifnull" | "coalesce" | "nullif" | "greatest" | "least" => self.conditional(call),
            "abs" | "ceil" | "ceiling" | "floor" | "round" | "truncate" | "mod" | "sign" => {
                self.rounding(call)
            }
            "now" | "current_timestamp" | "localtime" | "localtimestamp" | "sysdate" | "utc_timestamp"
            | "curdate" | "current_date" | "utc_date" | "curtime" | "current_time" | "utc_time" => {
                self.clock(call)
            }
            "extract" | "timestampdiff" | "timestampadd" | "timestamp" | "time" | "str_to_date"
            | "timediff" | "addtime" | "subtime" | "unix_timestamp" | "from_unixtime" | "sec_to_time"
            | "time_to_sec" | "maketime" | "convert_tz" | "get_format" => self.temporal_call(call),
            "locate" | "instr" | "field" | "trim" | "char" | "interval" | "regexp_replace"
            | "regexp_substr" | "regexp_instr" | "collation" | "charset" | "coercibility" | "strcmp"
            | "concat" | "weight_string" | "isnull" | "uuid_to_bin" | "bin_to_uuid" => self.string_call(call),
            _ => self.simple(call),
        }
    }

    /// The arguments, bound.
    pub(crate) fn args(&mut self, call: &Call, least: usize, most: usize) -> SqlResult<Vec<Bound>> {
        if call.args.len() < least || call.args.len() > most {
            return Err(wrong_count(&call.name));
        }
        call.args.iter().map(|a| self.expr(a)).collect()
    }

    /// `name(arg, …)`.
    pub(crate) fn render(&mut self, name: &str, args: &[Bound]) -> String {
        let rendered: Vec<String> = args.iter().map(|a| self.sql(a)).collect();
        format!("{name}({})", rendered.join(","))
    }

    /// Arguments that become parts of a document: SQLite's text does not tell JSON from strings, nor decimals.
    pub(crate) fn json_values(&mut self, args: &[Bound]) -> Vec<String> {
        let form = |binder: &mut Self, arg: &Bound| {
            let sql = binder.sql(arg);
            match class(&arg.ty) {
                _ if arg.ty == ColumnType::Json => format!("json({sql})"),
                Class::Decimal => format!("CAST({sql} AS REAL)"),
                _ => sql,
            }
        };
        args.iter().map(|arg| form(self, arg)).collect()
    }

    fn simple(&mut self, call: &Call) -> SqlResult<Bound> {
        let found = SIMPLE.iter().find(|e| e.0 == call.name && !e.3.is_empty());
        let Some(&(_, least, most, ours, gives)) = found else {
            let database = self.ctx.session.database.clone().unwrap_or_default();
            return Err(SqlError::does_not_exist("FUNCTION", &format!("{database}.{}", call.name)));
        };
        let args = self.args(call, least, most)?;
        let sql = match gives {
            Gives::Json => format!("{ours}({})", self.json_values(&args).join(",")),
            _ => self.render(ours, &args),
        };
        let refs: Vec<&Bound> = args.iter().collect();
        let first = args.first().map_or(0, |a| text_length(&a.ty));
        let binary = args.first().is_some_and(|a| class(&a.ty) == Class::Blob);
        let mut bound = match gives {
            Gives::Int => Bound::new(sql, ColumnType::BIGINT),
            Gives::Unsigned => Bound::new(sql, ColumnType::BIGINT_UNSIGNED),
            Gives::Double => Bound::new(sql, ColumnType::DOUBLE),
            Gives::Text(length) => Bound::new(sql, varchar(length, self.collation)),
            Gives::Like if binary => Bound::new(sql, ColumnType::VarBinary(first)),
            Gives::Like => self.text_result(sql, first, &refs),
            Gives::Joined => {
                let length = args.iter().fold(0u32, |n, a| n.saturating_add(text_length(&a.ty)));
                self.text_result(sql, length.saturating_add(8), &refs)
            }
            Gives::LongText => self.text_result(sql, u32::MAX / 4, &refs),
            Gives::Blob => Bound::new(sql, ColumnType::Blob(LobKind::Long)),
            Gives::Date => Bound::new(sql, ColumnType::Date),
            Gives::Json => Bound::new(sql, ColumnType::Json),
            Gives::System => {
                let mut bound = Bound::new(sql, varchar(288, self.collation));
                bound.strength = strength::SYSTEM;
                bound
            }
        };
        let never_null = matches!(
            call.name.as_str(),
            "connection_id" | "version" | "user" | "pi" | "uuid" | "row_count" | "found_rows" | "rand"
        );
        bound.nullable = !never_null;
        Ok(bound)
    }

    fn conditional(&mut self, call: &Call) -> SqlResult<Bound> {
        match call.name.as_str() {
            "if" => {
                let [test, yes, no] = call.args.as_slice() else { return Err(wrong_count("if")) };
                let test = self.condition(test)?;
                let values = [self.expr(yes)?, self.expr(no)?];
                let (ty, forms) = self.common_form(&values);
                let sql = format!("(CASE WHEN {test} THEN {} ELSE {} END)", forms[0], forms[1]);
                let mut bound = self.with_strength(Bound::new(sql, ty), &values);
                bound.nullable = values.iter().any(|v| v.nullable);
                Ok(bound)
            }
            "nullif" => {
                let args = self.args(call, 2, 2)?;
                let test = self.compare_bound(BinaryOp::Equal, &args[0], &args[1])?.sql;
                let value = self.sql(&args[0]);
                let bound =
                    Bound::new(format!("(CASE WHEN {test} THEN NULL ELSE {value} END)"), args[0].ty.clone());
                Ok(self.with_strength(bound, &args[..1]))
            }
            "greatest" | "least" => {
                let args = self.args(call, 2, MANY)?;
                let (ty, mut forms) = self.common_form(&args);
                let name = if call.name == "greatest" { "max" } else { "min" };
                let collation = match class(&ty) {
                    Class::Text => ty.collation().unwrap_or(self.collation).sqlite_name(),
                    _ => ty.sqlite_collation(),
                };
                if collation != "BINARY" {
                    forms[0] = format!("({} COLLATE {collation})", forms[0]);
                }
                let bound = Bound::new(format!("{name}({})", forms.join(",")), ty);
                Ok(self.with_strength(bound, &args))
            }
            _ => {
                let least = if call.name == "ifnull" { 2 } else { 1 };
                let most = if call.name == "ifnull" { 2 } else { MANY };
                let args = self.args(call, least, most)?;
                let (ty, forms) = self.common_form(&args);
                let sql = match forms.as_slice() {
                    [only] => only.clone(),
                    _ => format!("coalesce({})", forms.join(",")),
                };
                let mut bound = self.with_strength(Bound::new(sql, ty), &args);
                bound.nullable = args.iter().all(|a| a.nullable);
                Ok(bound)
            }
        }
    }

    fn rounding(&mut self, call: &Call) -> SqlResult<Bound> {
        let most = if matches!(call.name.as_str(), "round" | "truncate" | "mod") { 2 } else { 1 };
        let args = self.args(call, 1, most)?;
        if call.name == "mod" {
            let [left, right] = args.as_slice() else { return Err(wrong_count("mod")) };
            return self.arithmetic(BinaryOp::Modulo, left, right);
        }
        let number = self.number(&args[0]);
        let sql = self.sql(&number);
        let (precision, scale) = decimal_digits(&number.ty);
        let integer = |binder: &Self, sql: String| {
            let _ = binder;
            Bound::new(sql, ColumnType::BIGINT)
        };
        Ok(match call.name.as_str() {
            "sign" => integer(self, format!("num_sign({sql})")),
            "abs" => Bound::new(format!("num_abs({sql})"), number.ty.clone()),
            "ceil" | "ceiling" | "floor" => {
                let name = if call.name == "floor" { "num_floor" } else { "num_ceil" };
                let ty = match class(&number.ty) {
                    Class::Double => ColumnType::DOUBLE,
                    _ => ColumnType::BIGINT,
                };
                Bound::new(format!("{name}({sql})"), ty)
            }
            name => {
                let digits = match args.get(1).map(|d| &d.literal) {
                    None => Some(0),
                    Some(Some(Value::Int(digits))) => Some((*digits).clamp(-30, 30)),
                    Some(_) => None,
                };
                let digits_sql = match args.get(1) {
                    Some(digits) => self.sql(digits),
                    None => "0".to_owned(),
                };
                let ty = match class(&number.ty) {
                    Class::Decimal => {
                        let kept = digits.map_or(u32::from(scale), |d| d.clamp(0, i64::from(scale)) as u32);
                        let whole = u32::from(precision.saturating_sub(scale));
                        super::typing::decimal(whole + kept + 1, kept)
                    }
                    _ => number.ty.clone(),
                };
                let ours = if name == "round" { "num_round" } else { "num_truncate" };
                Bound::new(format!("{ours}({sql},{digits_sql})"), ty)
            }
        })
    }

    fn clock(&mut self, call: &Call) -> SqlResult<Bound> {
        let digits = match call.args.as_slice() {
            [] => 0,
            [Expr { kind: super::ast::ExprKind::Int(digits @ 0..=6), .. }] => *digits as u8,
            _ => return Err(SqlError::new(1426, "Too-big precision specified for 'now'. Maximum is 6.")),
        };
        let (sql, ty) = match call.name.as_str() {
            "curdate" | "current_date" => ("my_curdate()".to_owned(), ColumnType::Date),
            "utc_date" => ("my_utc_date()".to_owned(), ColumnType::Date),
            "curtime" | "current_time" => (format!("my_curtime({digits})"), ColumnType::Time(digits)),
            "utc_time" => (format!("my_utc_time({digits})"), ColumnType::Time(digits)),
            "utc_timestamp" => (format!("my_utc_timestamp({digits})"), ColumnType::DateTime(digits)),
            "sysdate" => (format!("my_sysdate({digits})"), ColumnType::DateTime(digits)),
            _ => (format!("my_now({digits})"), ColumnType::DateTime(digits)),
        };
        Ok(Bound::new(sql, ty).not_null())
    }

    fn temporal_call(&mut self, call: &Call) -> SqlResult<Bound> {
        let unit = call.keyword.clone().unwrap_or_default();
        match call.name.as_str() {
            "timestampadd" => {
                let [amount, base] = call.args.as_slice() else { return Err(wrong_count("timestampadd")) };
                let (start, end) = (amount.start, amount.end);
                let interval = Interval { amount: amount.clone(), unit };
                let kind = super::ast::ExprKind::DateAdd(Box::new(base.clone()), Box::new(interval), false);
                return self.expr(&Expr { kind, start, end });
            }
            "extract" | "timestampdiff" => {
                let count = if call.name == "extract" { 1 } else { 2 };
                let args = self.args(call, count, count)?;
                let rendered: Vec<String> = args.iter().map(|a| self.sql(a)).collect();
                let ours = if count == 1 { "my_extract" } else { "timestamp_diff" };
                return Ok(Bound::new(
                    format!("{ours}('{unit}',{})", rendered.join(",")),
                    ColumnType::BIGINT,
                ));
            }
            _ => {}
        }
        let args = self.args(call, usize::from(call.name != "unix_timestamp"), 3)?;
        let digits = args.first().map_or(0, |a| match class(&a.ty) {
            Class::DateTime | Class::Time => fsp(&a.ty),
            Class::Text => literal_fraction(a),
            _ => 0,
        });
        let most = args.iter().map(|a| fsp(&a.ty).max(literal_fraction(a))).max().unwrap_or(0);
        let sql: Vec<String> = args.iter().map(|a| self.sql(a)).collect();
        let list = sql.join(",");
        let first = sql.first().cloned().unwrap_or_default();
        Ok(match call.name.as_str() {
            "time" => Bound::new(format!("to_time({first},{digits})"), ColumnType::Time(digits)),
            "timestamp" if args.len() == 2 => Bound::new(
                format!("add_time(to_datetime({first},{most}),{},1,{most})", sql[1]),
                ColumnType::DateTime(most),
            ),
            "timestamp" => Bound::new(format!("to_datetime({first},{digits})"), ColumnType::DateTime(digits)),
            "timediff" => Bound::new(format!("time_diff({list},{most})"), ColumnType::Time(most)),
            "addtime" | "subtime" => {
                let sign = if call.name == "addtime" { 1 } else { -1 };
                let ty = match class(&args[0].ty) {
                    Class::Time => ColumnType::Time(most),
                    Class::DateTime | Class::Date => ColumnType::DateTime(most),
                    _ => varchar(29, self.collation),
                };
                Bound::new(format!("add_time({list},{sign},{most})"), ty)
            }
            "str_to_date" => self.str_to_date(&args, &list),
            "unix_timestamp" if digits > 0 => Bound::new(
                format!("unix_timestamp({list})"),
                super::typing::decimal(12 + u32::from(digits), u32::from(digits)),
            ),
            "unix_timestamp" => Bound::new(format!("unix_timestamp({list})"), ColumnType::BIGINT),
            "from_unixtime" if args.len() == 2 => {
                Bound::new(format!("from_unixtime({list})"), varchar(255, self.collation))
            }
            "from_unixtime" => {
                let scale = match class(&args[0].ty) {
                    Class::Int => 0,
                    Class::Decimal => self.scale(&args[0]).min(6),
                    _ => 6,
                };
                let datetime = format!("to_datetime(from_unixtime({first}),{scale})");
                Bound::new(datetime, ColumnType::DateTime(scale))
            }
            "sec_to_time" => {
                let scale = if class(&args[0].ty) == Class::Int { 0 } else { self.scale(&args[0]).min(6) };
                Bound::new(format!("sec_to_time({list},{scale})"), ColumnType::Time(scale))
            }
            "time_to_sec" => Bound::new(format!("time_to_sec({list})"), ColumnType::BIGINT),
            "maketime" => Bound::new(format!("maketime({list})"), ColumnType::Time(0)),
            "convert_tz" => Bound::new(format!("convert_tz({list})"), ColumnType::DateTime(digits)),
            _ => {
                let kind = quote_text(&unit);
                Bound::new(format!("get_format({kind},{list})"), varchar(17, self.collation))
            }
        })
    }

    fn str_to_date(&mut self, args: &[Bound], list: &str) -> Bound {
        let ty = match args.get(1).map(|f| &f.literal) {
            Some(Some(Value::Text(format))) => {
                let time = ["%H", "%h", "%I", "%i", "%s", "%S", "%T", "%r", "%k", "%l", "%f"];
                let date = ["%Y", "%y", "%m", "%c", "%d", "%e", "%M", "%b", "%j", "%D"];
                let has = |parts: &[&str]| parts.iter().any(|p| format.contains(p));
                let digits = if format.contains("%f") { 6 } else { 0 };
                match (has(&date), has(&time)) {
                    (true, true) => ColumnType::DateTime(digits),
                    (false, true) => ColumnType::Time(digits),
                    _ => ColumnType::Date,
                }
            }
            _ => ColumnType::DateTime(6),
        };
        let kind = match ty {
            ColumnType::Date => "'d',0".to_owned(),
            ColumnType::Time(n) => format!("'t',{n}"),
            _ => format!("'dt',{}", fsp(&ty)),
        };
        Bound::new(format!("my_str_to_date({list},{kind})"), ty)
    }

    fn string_call(&mut self, call: &Call) -> SqlResult<Bound> {
        let args = self.args(call, usize::from(call.name != "concat"), MANY)?;
        let refs: Vec<&Bound> = args.iter().collect();
        let binary = args.iter().any(|a| class(&a.ty) == Class::Blob);
        let collation = if binary { "BINARY" } else { self.common_collation(&refs).sqlite_name() };
        let sensitive = if collation.to_ascii_lowercase().starts_with("bin") { "'c'" } else { "'i'" };
        let list = |binder: &mut Self| args.iter().map(|a| binder.sql(a)).collect::<Vec<_>>().join(",");
        Ok(match call.name.as_str() {
            "concat" if binary => {
                let sql = format!("CAST(my_concat({}) AS BLOB)", list(self));
                Bound::new(sql, ColumnType::Blob(LobKind::Long))
            }
            "locate" | "instr" => {
                let mut sql: Vec<String> = args.iter().map(|a| self.sql(a)).collect();
                if sql.len() < 2 || sql.len() > 3 {
                    return Err(wrong_count(&call.name));
                }
                if call.name == "instr" {
                    sql.swap(0, 1);
                }
                let from = sql.get(2).cloned().unwrap_or_else(|| "1".to_owned());
                Bound::new(format!("my_locate({},{},{from},{sensitive})", sql[0], sql[1]), ColumnType::BIGINT)
            }
            "strcmp" => {
                let sql = list(self);
                Bound::new(format!("my_strcmp({sql},{})", quote_text(collation)), ColumnType::BIGINT)
            }
            "field" => {
                let mut cases = String::new();
                for (n, item) in args.iter().enumerate().skip(1) {
                    let test = self.compare_bound(BinaryOp::Equal, &args[0], item)?.sql;
                    cases.push_str(&format!(" WHEN {test} THEN {n}"));
                }
                if cases.is_empty() {
                    return Err(wrong_count("field"));
                }
                Bound::new(format!("(CASE{cases} ELSE 0 END)"), ColumnType::BIGINT).not_null()
            }
            "interval" => {
                let numbers: Vec<Bound> = args.iter().map(|a| self.number(a)).collect();
                let sql = self.render("my_interval", &numbers);
                Bound::new(sql, ColumnType::BIGINT).not_null()
            }
            "isnull" => {
                let sql = list(self);
                Bound::new(format!("(({sql}) IS NULL)"), ColumnType::BIGINT).not_null()
            }
            "trim" => {
                let side = call.keyword.clone().unwrap_or_else(|| "BOTH".to_owned());
                let what = match args.get(1) {
                    Some(_) => self.sql(&args[0]),
                    None => "' '".to_owned(),
                };
                // `TRIM(what FROM text)` has the text last.
                let text = &args[args.len() - 1];
                let sql = self.sql(text);
                let length = text_length(&text.ty);
                self.text_result(format!("my_trim({sql},{what},'{side}')"), length, &[text])
            }
            "char" => {
                let sql = list(self);
                match &call.keyword {
                    Some(charset) if charset != "binary" => Bound::new(
                        format!("my_text(my_char({sql}))"),
                        varchar(4 * args.len() as u32, self.collation),
                    ),
                    _ => Bound::new(format!("my_char({sql})"), ColumnType::VarBinary(4 * args.len() as u32)),
                }
            }
            "collation" | "charset" => {
                let of = if class(&args[0].ty) == Class::Text {
                    args[0].collation().unwrap_or(self.collation)
                } else {
                    crate::collation::Collation::binary()
                };
                let text = if call.name == "collation" { of.name() } else { of.info().charset };
                Bound::literal(Value::Text(text.to_owned()), varchar(64, self.collation))
            }
            "coercibility" => {
                let strength = if args[0].is_null_literal() { 6 } else { args[0].strength };
                Bound::literal(Value::Int(i64::from(strength)), ColumnType::BIGINT)
            }
            "regexp_replace" | "regexp_substr" | "regexp_instr" => {
                let sql = list(self);
                let name = &call.name;
                if name == "regexp_instr" {
                    Bound::new(format!("{name}({sensitive},{sql})"), ColumnType::BIGINT)
                } else {
                    self.text_result(format!("{name}({sensitive},{sql})"), u32::MAX / 4, &refs)
                }
            }
            "uuid_to_bin" => Bound::new(format!("uuid_to_bin({})", list(self)), ColumnType::VarBinary(16)),
            "bin_to_uuid" => Bound::new(format!("bin_to_uuid({})", list(self)), varchar(36, self.collation)),
            "weight_string" => {
                let sql = list(self);
                Bound::new(
                    format!("weight_string({sql},{})", quote_text(collation)),
                    ColumnType::Blob(LobKind::Long),
                )
            }
            _ => {
                let length = args.iter().fold(0u32, |n, a| n.saturating_add(text_length(&a.ty)));
                let sql = format!("my_concat({})", list(self));
                let mut bound = self.text_result(sql, length, &refs);
                bound.nullable = args.iter().any(|a| a.nullable);
                bound
            }
        })
    }
}

fn literal_fraction(bound: &Bound) -> u8 {
    match (&bound.literal, class(&bound.ty)) {
        (Some(Value::Text(text)), Class::Text) => super::parse_expression::fraction_digits(text),
        (None, Class::Text) => 6,
        _ => 0,
    }
}
