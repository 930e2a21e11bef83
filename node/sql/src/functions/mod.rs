//! MySQL's functions for SQLite: what the translator writes into SQL is registered here under one name each.

mod aggregate;
mod calendar;
mod clock;
mod date;
mod digest;
mod format;
mod info;
mod json;
mod number;
pub(crate) mod raw;
mod text;

use crate::context::Context;
use crate::error::{SqlError, SqlResult};
use raw::{Arg, Args, MakeAggregate, Out, Scalar};

/// The number that a string begins with, as MySQL reads it; 0 for none.
pub(crate) fn leading_double(text: &str) -> f64 {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace());
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let start = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let whole = digits(start);
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
        if end == whole + 1 && whole == start {
            return 0.0;
        }
    }
    if end == start {
        return 0.0;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        let after = digits(end + 1 + sign);
        if after > end + 1 + sign {
            end = after;
        }
    }
    text[..end].parse().unwrap_or(0.0)
}

/// An argument as it is.
fn same(arg: Arg<'_>) -> Out {
    match arg {
        Arg::Null => Out::Null,
        Arg::Int(value) => Out::Int(value),
        Arg::Real(value) => Out::Real(value),
        Arg::Text(bytes) => Out::Text(String::from_utf8_lossy(bytes).into_owned()),
        Arg::Blob(bytes) => Out::Blob(bytes.to_vec()),
    }
}

fn name_const(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(same(args.get(1)))
}

/// Named locks would have to hold for every instance of the cluster: refused rather than kept by one.
fn named_lock(_: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Err(SqlError::unsupported("named locks"))
}

/// The same arguments give the same result while a statement runs.
const STABLE: &[(&str, Scalar)] = &[
    ("aurora_version", info::aurora_version),
    ("bin_to_uuid", digest::bin_to_uuid),
    ("bit_count", number::bit_count),
    ("bit_length", text::bit_length),
    ("bit_xor_of", number::bit_xor_of),
    ("cast_binary", text::cast_binary),
    ("cast_char", text::cast_char),
    ("cast_int", number::cast_int),
    ("char_length", text::char_length),
    ("connection_id", info::connection_id),
    ("conv", number::conv),
    ("crc32", digest::crc32),
    ("dec_average", number::average),
    ("dec_cast", number::cast_decimal),
    ("distinct_key", text::distinct_key),
    ("elt", text::elt),
    ("export_set", text::export_set),
    ("find_in_set", text::find_in_set),
    ("found_rows", info::found_rows),
    ("from_base64", digest::from_base64),
    ("inet_aton", digest::inet_aton),
    ("inet_ntoa", digest::inet_ntoa),
    ("lpad", text::lpad),
    ("make_set", text::make_set),
    ("md5", digest::md5),
    ("my_acos", number::acos),
    ("my_ascii", text::ascii),
    ("my_asin", number::asin),
    ("my_atan", number::atan),
    ("my_bin", number::bin),
    ("my_char", text::char_of),
    ("my_concat", text::concat),
    ("my_concat_ws", text::concat_ws),
    ("my_cos", number::cos),
    ("my_cot", number::cot),
    ("my_current_role", info::current_role),
    ("my_current_user", info::current_user),
    ("my_database", info::database),
    ("my_degrees", number::degrees),
    ("my_exp", number::exp),
    ("my_format", number::format),
    ("my_hex", text::hex),
    ("my_insert", text::insert),
    ("my_interval", number::interval),
    ("my_left", text::left),
    ("my_length", text::length),
    ("my_like", text::like),
    ("my_ln", number::ln),
    ("my_locate", text::locate),
    ("my_log", number::log),
    ("my_log10", number::log10),
    ("my_log2", number::log2),
    ("my_lower", text::lower),
    ("my_ltrim", text::ltrim),
    ("my_num", number::my_num),
    ("my_oct", number::oct),
    ("my_ord", text::ord),
    ("my_pi", number::pi),
    ("my_pow", number::pow),
    ("my_quote", text::quote),
    ("my_radians", number::radians),
    ("my_regexp", text::regexp),
    ("my_repeat", text::repeat),
    ("my_replace", text::replace),
    ("my_reverse", text::reverse),
    ("my_right", text::right),
    ("my_rtrim", text::rtrim),
    ("my_sin", number::sin),
    ("my_soundex", text::soundex),
    ("my_space", text::space),
    ("my_sqrt", number::sqrt),
    ("my_strcmp", text::strcmp),
    ("my_substring", text::substring),
    ("my_tan", number::tan),
    ("my_text", text::to_text),
    ("my_trim", text::trim),
    ("my_unhex", text::unhex),
    ("my_upper", text::upper),
    ("my_user", info::user),
    ("my_version", info::version),
    ("name_const", name_const),
    ("num_abs", number::abs),
    ("num_add", number::add),
    ("num_ceil", number::ceil),
    ("num_div", number::div),
    ("num_floor", number::floor),
    ("num_idiv", number::integer_divide),
    ("num_mod", number::modulo),
    ("num_mul", number::mul),
    ("num_neg", number::negate),
    ("num_round", number::round),
    ("num_sign", number::sign),
    ("num_sub", number::sub),
    ("num_sub_unsigned", number::sub_unsigned),
    ("num_truncate", number::truncate),
    ("of_bits", number::of_bits),
    ("regexp_instr", text::regexp_instr),
    ("regexp_replace", text::regexp_replace),
    ("regexp_substr", text::regexp_substr),
    ("row_count", info::row_count),
    ("rpad", text::rpad),
    ("sha1_hex", digest::sha1),
    ("sha2_hex", digest::sha2),
    ("shift_right", number::shift_right),
    ("substring_index", text::substring_index),
    ("to_base64", digest::to_base64),
    ("to_bits", number::to_bits),
    ("uuid_to_bin", digest::uuid_to_bin),
    ("weight_string", text::weight_string),
];

/// Called for every row.
const VOLATILE: &[(&str, Scalar)] = &[
    ("benchmark", info::benchmark),
    ("get_lock", named_lock),
    ("is_free_lock", named_lock),
    ("my_last_insert_id", info::last_insert_id),
    ("my_rand", info::rand),
    ("my_sleep", info::sleep),
    ("my_sysdate", clock::sysdate),
    ("my_uuid", info::uuid),
    ("release_lock", named_lock),
    ("set_user_variable", info::set_user_variable),
    ("system_variable", info::system_variable),
    ("user_variable", info::user_variable),
    ("uuid_short", info::uuid_short),
];

/// Registers every function and aggregate with a connection.
///
/// # Errors
///
/// Those of SQLite, which there are none of in practice.
pub fn register(connection: &rusqlite::Connection, context: &Context) -> SqlResult<()> {
    for list in
        [STABLE, clock::FUNCTIONS, date::FUNCTIONS, calendar::FUNCTIONS, format::FUNCTIONS, json::FUNCTIONS]
    {
        for (name, call) in list {
            raw::scalar(connection, context, name, true, *call)?;
        }
    }
    for (name, call) in VOLATILE {
        raw::scalar(connection, context, name, false, *call)?;
    }
    let aggregates: [&[(&str, std::ffi::c_int, MakeAggregate)]; 2] =
        [aggregate::AGGREGATES, json::AGGREGATES];
    for (name, arguments, make) in aggregates.into_iter().flatten() {
        raw::aggregate(connection, context, name, *arguments, *make)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::leading_double;

    #[test]
    fn the_number_a_string_begins_with_is_read_as_mysql_does() {
        for (text, number) in [
            ("12abc", 12.0),
            ("  -1.5e2x", -150.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e", 1.0),
            ("+7", 7.0),
            ("abc", 0.0),
            ("", 0.0),
            (".", 0.0),
            ("inf", 0.0),
            ("nan", 0.0),
            ("0x10", 0.0),
        ] {
            assert_eq!(leading_double(text), number, "{text}");
        }
    }
}
