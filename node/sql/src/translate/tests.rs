//! What statements mean, asked of the whole way through SQLite: the names that are emitted, and the rules of
//! MySQL that SQLite does not share.

use super::calls::SIMPLE;
use crate::tests::{Client, Server};

/// `(expression, its value)`.
fn check(client: &mut Client, cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (expression, expected) in cases {
        let found = client.rows(&format!("SELECT {expression}"));
        if found != *expected {
            wrong.push(format!("{expression}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An error of SQLite itself means that a name or a number of arguments is not registered.
fn is_known(client: &mut Client, expression: &str) -> Result<(), String> {
    let sql = format!("SELECT {expression}");
    match client.try_run(&sql) {
        Ok(_) => Ok(()),
        Err(error) if error.message.contains("function") && !error.message.contains(" to function ") => {
            Err(format!("{expression}: {error}"))
        }
        Err(_) => Ok(()),
    }
}

#[test]
fn every_function_of_the_table_is_registered_with_each_number_of_arguments() {
    let server = Server::new();
    let mut client = server.client();
    let mut wrong = Vec::new();
    for (name, least, most, ours, _) in SIMPLE {
        if ours.is_empty() || *name == "sleep" {
            continue;
        }
        for count in *least..=(*most).min(least + 2) {
            let step = if matches!(*name, "json_object") { 2 } else { 1 };
            if count % step != 0 || (name.starts_with("json_") && count % 2 == 0 && *least == 3) {
                continue;
            }
            let args: Vec<String> = (0..count).map(|n| format!("'{}'", n + 1)).collect();
            wrong.extend(is_known(&mut client, &format!("{name}({})", args.join(", "))).err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_other_form_that_is_emitted_is_registered() {
    let server = Server::new();
    let mut client = server.client();
    client.run(
        "CREATE TABLE f (i INT, u INT UNSIGNED, g BIGINT, n DECIMAL(10,2), r DOUBLE, s VARCHAR(20), b VARBINARY(20), \
         d DATE, t TIME(3), p DATETIME(3), j JSON, e ENUM('a','b'))",
    );
    client.run(
        "INSERT INTO f VALUES (1, 2, 3, 4.50, 5.5, 'six', 'b', '2024-02-29', '10:11:12.5', '2024-02-29 10:11:12.5', \
         '{\"a\": 1}', 'b')",
    );
    let mut wrong = Vec::new();
    for expression in [
        "abs(n)",
        "ceil(n)",
        "floor(r)",
        "round(n, 1)",
        "truncate(r, 1)",
        "mod(n, 2)",
        "sign(n)",
        "-n",
        "-g",
        "g + g",
        "u - u",
        "g - g",
        "g * g",
        "n / 3",
        "n DIV 3",
        "g % 2",
        "n % 2",
        "r % 2",
        "g ^ 1",
        "g >> 1",
        "g << 1",
        "~g",
        "g | 1",
        "g & 1",
        "now(3)",
        "curdate()",
        "curtime(3)",
        "utc_date()",
        "utc_time()",
        "utc_timestamp()",
        "sysdate(6)",
        "d + INTERVAL 1 DAY",
        "p - INTERVAL '1:2' HOUR_MINUTE",
        "t + INTERVAL 1 SECOND",
        "s + INTERVAL 1 DAY",
        "timestampadd(MONTH, 1, d)",
        "timestampdiff(DAY, d, p)",
        "extract(YEAR_MONTH FROM d)",
        "time(p)",
        "timestamp(d)",
        "timestamp(d, t)",
        "timediff(t, t)",
        "addtime(p, t)",
        "subtime(t, t)",
        "str_to_date('2024', '%Y')",
        "unix_timestamp()",
        "unix_timestamp(p)",
        "from_unixtime(1)",
        "from_unixtime(1.5, '%Y')",
        "sec_to_time(3)",
        "time_to_sec(t)",
        "maketime(1, 2, 3)",
        "convert_tz(p, '+00:00', '+01:00')",
        "get_format(DATE, 'USA')",
        "locate('i', s)",
        "instr(s, 'i')",
        "field(s, 'a', 'six')",
        "trim(s)",
        "trim(LEADING 's' FROM s)",
        "char(65, 66)",
        "char(65 USING utf8mb4)",
        "interval(3, 1, 2)",
        "regexp_replace(s, 'i', 'o')",
        "regexp_substr(s, 'i.')",
        "regexp_instr(s, 'x')",
        "s REGEXP '^s'",
        "regexp_like(s, 's')",
        "collation(s)",
        "charset(s)",
        "coercibility(s)",
        "weight_string(s)",
        "uuid_to_bin(uuid())",
        "bin_to_uuid(uuid_to_bin(uuid()))",
        "s LIKE 'S%'",
        "b LIKE 'b'",
        "strcmp(s, 'x')",
        "concat(s, b)",
        "d + 0",
        "t + 0",
        "p + 0",
        "s + 0",
        "b + 0",
        "e + 0",
        "cast(s AS SIGNED)",
        "cast(s AS UNSIGNED)",
        "cast(s AS DECIMAL(5,2))",
        "cast(s AS DATE)",
        "cast(s AS DATETIME)",
        "cast(s AS TIME)",
        "cast(i AS CHAR)",
        "cast(i AS CHAR(3))",
        "cast(s AS BINARY(3))",
        "cast(j AS JSON)",
        "BINARY s",
        "convert(s USING latin1)",
        "s COLLATE utf8mb4_bin",
        "j->'$.a'",
        "j->>'$.a'",
        "if(i, n, r)",
        "ifnull(n, s)",
        "coalesce(d, p)",
        "nullif(i, 1)",
        "greatest(i, n)",
        "least(s, 'A')",
        "case i WHEN 1 THEN d ELSE p END",
        "d = '2024-02-29'",
        "p > d",
        "t = '10:11'",
        "p = 20240229",
        "i = s",
        "n = '4.5'",
        "e = 'B'",
        "@v := 3",
        "@v",
        "@@autocommit",
        "@@GLOBAL.autocommit",
        "default(i)",
        "count(*)",
        "count(s)",
        "count(DISTINCT s)",
        "count(DISTINCT i, s)",
        "sum(i)",
        "sum(n)",
        "sum(r)",
        "sum(DISTINCT n)",
        "avg(i)",
        "avg(n)",
        "avg(r)",
        "avg(s)",
        "min(n)",
        "max(s)",
        "any_value(s)",
        "group_concat(s)",
        "group_concat(DISTINCT s ORDER BY s DESC SEPARATOR '; ')",
        "group_concat(s, i)",
        "bit_and(i)",
        "bit_or(i)",
        "bit_xor(i)",
        "std(i)",
        "stddev(i)",
        "stddev_samp(n)",
        "variance(r)",
        "var_samp(i)",
        "json_arrayagg(s)",
        "json_objectagg(s, j)",
        "row_number() OVER (ORDER BY i)",
        "sum(i) OVER ()",
        "avg(n) OVER (PARTITION BY i)",
        "lag(s) OVER (ORDER BY i)",
        "count(*) OVER ()",
    ] {
        if let Err(error) = client.try_run(&format!("SELECT {expression} FROM f")) {
            wrong.push(format!("{expression}: {error}"));
        }
    }
    for parameter in ["d = ?", "p = ?", "t = ?", "n = ?", "s = ?", "b = ?", "i + ?", "? + 1.5"] {
        let sql = format!("SELECT {parameter} FROM f");
        if let Err(error) = client.execute(&sql, &["2024-01-01 10:11:12".into()]) {
            wrong.push(format!("{parameter}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn numbers_and_strings_compare_and_compute_as_in_mysql() {
    let server = Server::new();
    let mut client = server.client();
    check(
        &mut client,
        &[
            ("'abc' = 'ABC'", "1"),
            ("BINARY 'abc' = 'ABC'", "0"),
            ("'a' = 'a '", "0"),
            ("'1abc' = 1", "1"),
            ("'abc' = 0", "1"),
            ("'10' < '9'", "1"),
            ("'10' < 9", "0"),
            ("1.10 = 1.1", "1"),
            ("10.5 > 9.75", "1"),
            ("'1.5' = 1.5", "1"),
            ("NULL = NULL", "NULL"),
            ("NULL <=> NULL", "1"),
            ("1 <=> NULL", "0"),
            ("NULL IN (1, 2)", "NULL"),
            ("3 NOT IN (1, NULL)", "NULL"),
            ("1/3", "0.3333"),
            ("7 / 2", "3.5000"),
            ("1.50 / 2", "0.750000"),
            ("1 / 0", "NULL"),
            ("7 DIV 2", "3"),
            ("-7 DIV 2", "-3"),
            ("-7 % 3", "-1"),
            ("5.5 % 2", "1.5"),
            ("0.1 + 0.2", "0.3"),
            ("0.1 + 0.2 = 0.3", "1"),
            ("1.25 * 1.5", "1.875"),
            ("'2' + '3'", "5"),
            ("'2x' * 2", "4"),
            ("1 + NULL", "NULL"),
            ("ROUND(2.5)", "3"),
            ("ROUND(-2.5)", "-3"),
            ("ROUND(1.005, 2)", "1.01"),
            ("TRUNCATE(1.999, 2)", "1.99"),
            ("FLOOR(-1.5)", "-2"),
            ("CEIL(1.2)", "2"),
            ("CAST(12.7 AS SIGNED)", "13"),
            ("CAST('12.7' AS SIGNED)", "12"),
            ("CAST('-12x' AS SIGNED)", "-12"),
            ("CAST(1e3 AS SIGNED)", "1000"),
            ("CAST(-1 AS UNSIGNED)", "18446744073709551615"),
            ("CAST(12.5 AS UNSIGNED)", "13"),
            ("CAST('18446744073709551615' AS UNSIGNED)", "18446744073709551615"),
            ("~0", "18446744073709551615"),
            ("~0 & 5", "5"),
            ("~0 >> 60", "15"),
            ("~~7", "7"),
            ("1 << 63", "9223372036854775808"),
            ("~0 > 5", "1"),
            ("~0 = 18446744073709551615", "1"),
            ("BIT_COUNT(~0)", "64"),
            ("CAST('1.456' AS DECIMAL(5,2))", "1.46"),
            ("1 XOR 1", "0"),
            ("NOT 0", "1"),
            ("!1", "0"),
            ("2 BETWEEN 1 AND 3", "1"),
            ("5 & 3", "1"),
            ("5 ^ 3", "6"),
            ("9223372036854775807 + 0", "9223372036854775807"),
        ],
    );
    assert_eq!(client.error("SELECT 9223372036854775807 + 1").0, 1690);
}

#[test]
fn strings_patterns_and_conditions_are_mysqls() {
    let server = Server::new();
    let mut client = server.client();
    check(
        &mut client,
        &[
            ("CONCAT('a', 1, 2.50)", "a12.50"),
            ("CONCAT('a', NULL)", "NULL"),
            ("CONCAT_WS('-', 'a', NULL, 'b')", "a-b"),
            ("'Hello' LIKE 'h%'", "1"),
            ("'Hello' LIKE 'h_llo'", "1"),
            ("'50%' LIKE '50\\%'", "1"),
            ("'50%' LIKE '50|%' ESCAPE '|'", "1"),
            ("'505' LIKE '50|%' ESCAPE '|'", "0"),
            ("'a|b' LIKE 'a||b' ESCAPE '|'", "1"),
            ("'Hello' NOT LIKE 'x%'", "1"),
            ("TRIM(BOTH 'x' FROM 'xxbarxx')", "bar"),
            ("TRIM(LEADING 'x' FROM 'xxbarxx')", "barxx"),
            ("TRIM(TRAILING 'yz' FROM 'baryzyz')", "bar"),
            ("TRIM('x' FROM 'xbarx')", "bar"),
            ("TRIM('  bar ')", "bar"),
            ("'abc' REGEXP '^A'", "1"),
            ("LENGTH('é')", "2"),
            ("CHAR_LENGTH('é')", "1"),
            ("SUBSTRING('Quadratically', 5, 6)", "ratica"),
            ("SUBSTRING('Sakila', -3)", "ila"),
            ("SUBSTRING_INDEX('www.mysql.com', '.', 2)", "www.mysql"),
            ("LOCATE('BAR', 'foobarbar')", "4"),
            ("LOCATE('bar', 'foobarbar', 5)", "7"),
            ("LPAD('hi', 4, '?')", "??hi"),
            ("REPLACE('www', 'w', 'Ww')", "WwWwWw"),
            ("UPPER('abc')", "ABC"),
            ("REVERSE('abc')", "cba"),
            ("HEX('abc')", "616263"),
            ("FIELD('Bb', 'Aa', 'Bb')", "2"),
            ("ELT(2, 'a', 'b')", "b"),
            ("FIND_IN_SET('b', 'a,b,c')", "2"),
            ("SOUNDEX('Hello')", "H400"),
            ("EXPORT_SET(5, 'Y', 'N', ',', 4)", "Y,N,Y,N"),
            ("MD5('abc')", "900150983cd24fb0d6963f7d28e17f72"),
            ("IF(1 < 2, 'yes', 'no')", "yes"),
            ("IFNULL(NULL, 'x')", "x"),
            ("NULLIF('a', 'A')", "NULL"),
            ("COALESCE(NULL, NULL, 3)", "3"),
            ("GREATEST('B', 'a')", "B"),
            ("GREATEST(10, 9.5)", "10.0"),
            ("CASE 'A' WHEN 'a' THEN 1 ELSE 2 END", "1"),
            ("CASE WHEN NULL THEN 1 ELSE 2 END", "2"),
            ("STRCMP('a', 'B')", "-1"),
            ("FORMAT(12332.1234, 2)", "12,332.12"),
            ("JSON_OBJECT('b', 1, 'a', JSON_ARRAY(1, 'x', NULL))", "{\"a\": [1, \"x\", null], \"b\": 1}"),
            ("JSON_EXTRACT('{\"a\": [1, 2]}', '$.a[1]')", "2"),
            ("JSON_UNQUOTE('\"x\"')", "x"),
            ("JSON_SET('{\"a\": 1}', '$.b', 2)", "{\"a\": 1, \"b\": 2}"),
            ("JSON_LENGTH('[1, 2]')", "2"),
        ],
    );
}

#[test]
fn dates_are_read_shown_and_moved_as_in_mysql() {
    let server = Server::new();
    let mut client = server.client();
    check(
        &mut client,
        &[
            ("DATE_ADD('2024-01-31', INTERVAL 1 MONTH)", "2024-02-29"),
            ("'2024-12-31 23:59:59' + INTERVAL 1 SECOND", "2025-01-01 00:00:00"),
            ("DATE_SUB('2024-03-01', INTERVAL 1 DAY)", "2024-02-29"),
            ("DATE '2024-01-01' + INTERVAL 90 MINUTE", "2024-01-01 01:30:00"),
            ("DATE_ADD('2024-01-01', INTERVAL '1:30' HOUR_MINUTE)", "2024-01-01 01:30:00"),
            ("DATE_ADD('9999-12-31', INTERVAL 1 DAY)", "NULL"),
            ("DATEDIFF('2024-03-01', '2024-02-01 23:00:00')", "29"),
            ("TIMEDIFF('10:00:00', '11:30:00')", "-01:30:00"),
            ("TIMESTAMPDIFF(MONTH, '2024-01-31', '2024-03-01')", "1"),
            ("TIMESTAMPADD(WEEK, 1, '2024-01-01')", "2024-01-08"),
            ("YEAR('2024-05-06')", "2024"),
            ("QUARTER('2024-05-06')", "2"),
            ("HOUR('25:10:00')", "25"),
            ("MICROSECOND('10:00:00.25')", "250000"),
            ("DAYOFWEEK('2024-02-29')", "5"),
            ("WEEKDAY('2024-02-29')", "3"),
            ("DAYOFYEAR('2024-12-31')", "366"),
            ("WEEK('2008-02-20', 1)", "8"),
            ("YEARWEEK('1987-01-01')", "198652"),
            ("DAYNAME('2024-02-29')", "Thursday"),
            ("LAST_DAY('2024-02-10')", "2024-02-29"),
            ("EXTRACT(DAY_MINUTE FROM '2024-07-02 01:02:03')", "20102"),
            ("DATE_FORMAT('2024-02-29 05:06:07', '%Y/%m/%d %H:%i')", "2024/02/29 05:06"),
            ("STR_TO_DATE('29.2.2024', '%d.%m.%Y')", "2024-02-29"),
            ("UNIX_TIMESTAMP('2024-01-01 00:00:00')", "1704067200"),
            ("FROM_UNIXTIME(1704067200)", "2024-01-01 00:00:00"),
            ("SEC_TO_TIME(3661)", "01:01:01"),
            ("TIME_TO_SEC('01:01:01')", "3661"),
            ("MAKETIME(12, 15, 30)", "12:15:30"),
            ("MAKEDATE(2024, 60)", "2024-02-29"),
            ("TO_DAYS('2007-10-07')", "733321"),
            ("FROM_DAYS(733321)", "2007-10-07"),
            ("PERIOD_ADD(200801, 2)", "200803"),
            ("PERIOD_DIFF(200802, 200703)", "11"),
            ("CONVERT_TZ('2004-01-01 12:00:00', '+00:00', '+10:00')", "2004-01-01 22:00:00"),
            ("DATE('2024-02-29 10:00:00')", "2024-02-29"),
            ("TIME('2024-02-29 10:00:01')", "10:00:01"),
            ("CAST('2024-02-29' AS DATETIME)", "2024-02-29 00:00:00"),
            ("DATE('nonsense')", "NULL"),
            ("NOW() = CURRENT_TIMESTAMP", "1"),
            ("CURDATE() = DATE(NOW())", "1"),
            ("NOW(6) <= SYSDATE(6)", "1"),
        ],
    );
    client.run("SET time_zone = '+02:00'");
    check(
        &mut client,
        &[
            ("FROM_UNIXTIME(0)", "1970-01-01 02:00:00"),
            ("UNIX_TIMESTAMP('1970-01-01 02:00:01')", "1"),
            ("TIMESTAMPDIFF(HOUR, UTC_TIMESTAMP(), NOW())", "2"),
        ],
    );
}

#[test]
fn groups_are_summed_exactly_and_without_regard_to_case() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE g (id INT PRIMARY KEY, name VARCHAR(10), n DECIMAL(10,2), i INT, r DOUBLE)");
    client.run(
        "INSERT INTO g VALUES (1, 'a', 0.10, 1, 1), (2, 'A', 0.20, 2, 2), (3, 'b', 1.00, NULL, 4), \
         (4, 'B', NULL, 5, NULL), (5, NULL, 2.00, 5, 8)",
    );
    for (sql, expected) in [
        ("SELECT name, SUM(n), COUNT(*) FROM g GROUP BY name ORDER BY name", "NULL,2.00,1 a,0.30,2 b,1.00,2"),
        ("SELECT SUM(n), AVG(n), SUM(i), AVG(i) FROM g", "3.30,0.825000,13,3.2500"),
        ("SELECT SUM(n), COUNT(n) FROM g WHERE id > 9", "NULL,0"),
        ("SELECT COUNT(DISTINCT name), COUNT(DISTINCT i), SUM(DISTINCT i) FROM g", "2,3,8"),
        ("SELECT COUNT(DISTINCT name, i) FROM g", "3"),
        ("SELECT GROUP_CONCAT(id ORDER BY id DESC SEPARATOR '-') FROM g", "5-4-3-2-1"),
        ("SELECT GROUP_CONCAT(DISTINCT name ORDER BY id) FROM g", "a,b"),
        ("SELECT BIT_OR(i), BIT_AND(i), BIT_XOR(i) FROM g WHERE i IS NOT NULL", "7,0,3"),
        ("SELECT BIT_AND(i) FROM g WHERE id = 3", "18446744073709551615"),
        ("SELECT STD(i), VAR_SAMP(id) FROM g WHERE id IN (1, 2, 3)", "0.5,1"),
        ("SELECT SUM(r), AVG(r) FROM g", "15,3.75"),
        ("SELECT name FROM g GROUP BY name HAVING COUNT(*) > 1 ORDER BY 1 DESC", "b a"),
        ("SELECT DISTINCT LOWER(name) FROM g ORDER BY 1", "NULL a b"),
        ("SELECT MAX(n), MIN(name) FROM g", "2.00,a"),
        ("SELECT JSON_ARRAYAGG(id) FROM g", "[1, 2, 3, 4, 5]"),
        ("SELECT id FROM g WHERE name = 'A' ORDER BY id", "1 2"),
        ("SELECT id FROM g WHERE n = 0.1 OR n = '2'", "1 5"),
        ("SELECT id, ROW_NUMBER() OVER (PARTITION BY name ORDER BY id) FROM g WHERE name = 'b'", "3,1 4,2"),
    ] {
        assert_eq!(client.rows(sql), expected, "{sql}");
    }
}
