use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Row, Value};
use node_mysql::{AuthPlugin, Config, Server};

use crate::backend::serve;

fn options(server: &Server, user: &str, password: &str) -> OptsBuilder {
    OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(server.local_addr().port())
        .user(Some(user))
        .pass(Some(password))
        .prefer_socket(false)
        .max_allowed_packet(Some(128 << 20))
}

fn connect(server: &Server) -> Conn {
    Conn::new(options(server, "app", "secret").db_name(Some("shop"))).expect("logged in")
}

#[test]
fn rows_come_through_the_text_protocol() {
    let (server, _) = serve(Config::default());
    let mut client = connect(&server);
    assert_eq!(client.query_first::<String, _>("db").expect("a row"), Some("shop".to_owned()));
    let rows: Vec<(i64, String)> = client.query("rows 1000 100").expect("rows");
    assert_eq!(rows.len(), 1000);
    assert_eq!(rows[999], (999, "x".repeat(100)));
    let row: Row = client.query_first("types").expect("a row").expect("a row");
    let texts: Vec<Option<String>> = (0..row.len()).map(|at| row.get(at).expect("a column")).collect();
    let want = [
        "-1",
        "-300",
        "-70000",
        "18446744073709551615",
        "1.5",
        "-2.25",
        "12.50",
        "2026-11-24",
        "2026-11-24 01:02:03.000004",
        "-30:01:02",
        "grün",
        "",
        "2026-11-24 05:06:07",
    ];
    for (got, want) in texts.iter().zip(want) {
        assert_eq!(got.as_deref().unwrap_or(""), want);
    }
    assert_eq!(texts[11], None);
}

#[test]
fn rows_come_through_the_binary_protocol() {
    let (server, _) = serve(Config::default());
    let mut client = connect(&server);
    let row: Row = client.exec_first("types", ()).expect("a row").expect("a row");
    let got = row.unwrap();
    let want = [
        Value::Int(-1),
        Value::Int(-300),
        Value::Int(-70_000),
        Value::UInt(u64::MAX),
        Value::Float(1.5),
        Value::Double(-2.25),
        Value::Bytes(b"12.50".to_vec()),
        Value::Date(2026, 11, 24, 0, 0, 0, 0),
        Value::Date(2026, 11, 24, 1, 2, 3, 4),
        Value::Time(true, 1, 6, 1, 2, 0),
        Value::Bytes("grün".as_bytes().to_vec()),
        Value::NULL,
        Value::Date(2026, 11, 24, 5, 6, 7, 0),
    ];
    assert_eq!(got, want);
}

#[test]
fn parameters_of_all_types_arrive() {
    let (server, _) = serve(Config::default());
    let mut client = connect(&server);
    let parameters = vec![
        Value::Int(-5),
        Value::UInt(u64::MAX),
        Value::Double(2.5),
        Value::Bytes(b"text".to_vec()),
        Value::NULL,
        Value::Date(2026, 1, 2, 3, 4, 5, 6),
        Value::Time(false, 1, 2, 3, 4, 0),
    ];
    let statement = client.prep("echo ? ? ? ? ? ? ?").expect("prepared");
    for _ in 0..3 {
        let row: Row = client.exec_first(&statement, &parameters).expect("a row").expect("a row");
        let got: Vec<Option<String>> = (0..row.len()).map(|at| row.get(at).expect("a column")).collect();
        let want = ["-5", "18446744073709551615", "2.5", "text", "", "2026-01-02 03:04:05", "26:03:04"];
        for (got, want) in got.iter().zip(want) {
            assert_eq!(got.as_deref().unwrap_or(""), want);
        }
    }
    client.close(statement).expect("closed");
    assert!(client.prep("nonsense").is_err());
    client.ping().expect("still there");
}

#[test]
fn large_values_go_both_ways() {
    let (server, _) = serve(Config { max_allowed_packet: 64 << 20, ..Config::default() });
    let mut client = connect(&server);
    for length in [0xff_ffff - 1, 0xff_ffff, 0xff_ffff + 1, 20 << 20] {
        let sql = format!("length {}", "x".repeat(length - 8));
        let got: Option<usize> = client.query_first(sql).expect("a row");
        assert_eq!(got, Some(length - 1), "a packet of {length} bytes");
        let (_, pad): (i64, Vec<u8>) =
            client.query_first(format!("rows 1 {length}")).expect("a row").expect("a row");
        assert_eq!(pad.len(), length);
        // Long data, in several packets.
        let back: Option<Vec<u8>> = client.exec_first("echo ?", (vec![b'y'; length],)).expect("a row");
        assert_eq!(back.map(|back| back.len()), Some(length));
    }
}

#[test]
fn several_statements_give_several_results() {
    let (server, _) = serve(Config::default());
    let mut client = connect(&server);
    let mut results = client.query_iter("insert;rows 2 3;begin;rows 1 1").expect("results");
    let mut seen = Vec::new();
    while let Some(result) = results.iter() {
        seen.push((result.affected_rows(), result.last_insert_id(), result.count()));
    }
    assert_eq!(seen, [(3, Some(300), 0), (0, None, 2), (0, None, 0), (0, None, 1)]);
    drop(results);
    // An error in the middle ends it; what came before stands.
    let mut results = client.query_iter("rows 2 3;nonsense;rows 1 1").expect("results");
    assert_eq!(results.iter().expect("rows").count(), 2);
    let next = results.iter().map(|result| result.filter_map(Result::err).count());
    assert!(next.is_none_or(|errors| errors == 1));
    drop(results);
    client.ping().expect("still there");
}

#[test]
fn an_error_after_the_first_rows_ends_the_result() {
    let (server, _) = serve(Config::default());
    let mut client = connect(&server);
    let error = client.query::<i32, _>("half").expect_err("an error");
    assert!(matches!(error, mysql::Error::MySqlError(error) if error.code == 1205));
    let error = client.exec::<i32, _, _>("half", ()).expect_err("an error");
    assert!(matches!(error, mysql::Error::MySqlError(error) if error.code == 1205));
    client.ping().expect("still there");
}

#[test]
fn every_way_to_log_in_works_and_wrong_passwords_do_not() {
    for plugin in [AuthPlugin::Native, AuthPlugin::CachingSha2] {
        let (server, _) = serve(Config { default_plugin: plugin, ..Config::default() });
        // `salted` twice: by RSA first, by what is remembered afterwards.
        for user in ["app", "sha2", "salted", "salted"] {
            let mut client = Conn::new(options(&server, user, "secret")).expect(user);
            assert_eq!(client.query_first::<String, _>("user").expect("a row").as_deref(), Some(user));
            let error = Conn::new(options(&server, user, "wrong")).expect_err("refused");
            assert!(matches!(error, mysql::Error::MySqlError(error) if error.code == 1045));
        }
        Conn::new(options(&server, "nobody", "")).expect("no password");
        assert!(Conn::new(options(&server, "app", "")).is_err());
        assert!(Conn::new(options(&server, "ghost", "secret")).is_err());
        let error =
            Conn::new(options(&server, "app", "secret").db_name(Some("missing"))).expect_err("refused");
        assert!(matches!(error, mysql::Error::MySqlError(error) if error.code == 1049));
    }
}

#[test]
fn another_user_takes_the_connection_over() {
    let (server, _) = serve(Config::default());
    let mut client = connect(&server);
    client.query_drop("begin").expect("begun");
    let to = mysql::ChangeUserOpts::DEFAULT
        .with_user(Some("sha2".to_owned()))
        .with_pass(Some("secret".to_owned()));
    client.change_user(to).expect("changed");
    assert_eq!(client.query_first::<String, _>("user").expect("a row").as_deref(), Some("sha2"));
    let to =
        mysql::ChangeUserOpts::DEFAULT.with_user(Some("app".to_owned())).with_pass(Some("wrong".to_owned()));
    assert!(client.change_user(to).is_err());
    assert!(client.ping().is_err(), "closed after a wrong password");
}

#[test]
fn a_reset_connection_has_no_statements() {
    let (server, _) = serve(Config::default());
    let mut client = connect(&server);
    let id: Option<u32> = client.query_first("id").expect("a row");
    client.query_drop("begin").expect("begun");
    client.reset().expect("reset");
    assert_eq!(client.query_first("id").expect("a row"), id, "still the same connection");
    assert_eq!(client.exec_first::<i64, _, _>("echo ?", (7,)).expect("a row"), Some(7));
}
