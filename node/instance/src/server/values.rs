//! Values and columns between the protocol and SQL.

use node_mysql::{Column, ColumnFlags, ColumnType};
use node_sql::types::{ColumnMeta, Value};

/// utf8mb4_general_ci: every client knows it.
const UTF8MB4: u16 = 45;

/// The collation to describe text with: the client's own if it is one of utf8mb4, which is what we send.
pub(super) fn text_collation(of_client: u16) -> u16 {
    match of_client {
        45 | 46 | 224..=247 | 255..=309 => of_client,
        _ => UTF8MB4,
    }
}

/// A result column as the protocol describes it.
pub(super) fn column(meta: &ColumnMeta, text_collation: u16) -> Column<'_> {
    let binary = meta.ty.protocol_collation();
    Column {
        schema: &meta.database,
        table: &meta.table,
        org_table: &meta.org_table,
        name: &meta.name,
        org_name: &meta.org_name,
        kind: ColumnType::from_number(meta.ty.protocol_type()).unwrap_or(ColumnType::VarString),
        collation: if binary == 63 { 63 } else { text_collation },
        length: meta.ty.protocol_length(),
        flags: ColumnFlags::from_bits(meta.flags),
        decimals: meta.ty.decimals(),
    }
}

/// A value of a row.
pub(super) fn to_client(value: &Value) -> node_mysql::Value<'_> {
    match value {
        Value::Null => node_mysql::Value::Null,
        Value::Int(number) => node_mysql::Value::Int(*number),
        Value::UInt(number) => node_mysql::Value::UInt(*number),
        Value::Double(number) => node_mysql::Value::Double(*number),
        Value::Text(text) => node_mysql::Value::Bytes(text.as_bytes()),
        Value::Bytes(bytes) => node_mysql::Value::Bytes(bytes),
    }
}

/// A parameter. Bytes that are text become text: drivers bind both in the same way.
pub(super) fn from_client(value: &node_mysql::Value<'_>) -> Value {
    match value {
        node_mysql::Value::Null => Value::Null,
        node_mysql::Value::Int(number) => Value::Int(*number),
        node_mysql::Value::UInt(number) => Value::UInt(*number),
        node_mysql::Value::Float(number) => Value::Double(f64::from(*number)),
        node_mysql::Value::Double(number) => Value::Double(*number),
        node_mysql::Value::Bytes(bytes) => match str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(bytes.to_vec()),
        },
        node_mysql::Value::Date(date) => Value::Text(date.to_string()),
        node_mysql::Value::DateTime(moment) => Value::Text(moment.to_string()),
        node_mysql::Value::Time(time) => Value::Text(time.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_described_with_the_collation_of_clients_that_speak_utf8mb4() {
        assert_eq!(text_collation(255), 255);
        assert_eq!(text_collation(8), UTF8MB4);
        let number = ColumnMeta::expression("n", node_sql::types::ColumnType::BIGINT);
        assert_eq!(column(&number, 255).collation, 63);
        let text = ColumnMeta::expression("t", node_sql::types::ColumnType::varchar(10));
        assert_eq!(column(&text, 255).collation, 255);
    }

    #[test]
    fn parameters_that_are_no_text_stay_bytes() {
        assert_eq!(from_client(&node_mysql::Value::Bytes(b"abc")), Value::Text("abc".to_owned()));
        assert_eq!(from_client(&node_mysql::Value::Bytes(&[0xff, 0])), Value::Bytes(vec![0xff, 0]));
        let time = node_mysql::Time { negative: true, hours: 30, minutes: 1, seconds: 2, micros: 5 };
        assert_eq!(from_client(&node_mysql::Value::Time(time)), Value::Text("-30:01:02.000005".to_owned()));
    }
}
