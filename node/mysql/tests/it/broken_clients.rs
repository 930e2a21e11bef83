use node_mysql::Config;

use crate::backend::serve;
use crate::raw::Raw;

/// Whatever one client does, another one goes on.
fn unharmed(witness: &mut Raw) {
    witness.ping();
}

#[test]
fn a_packet_that_is_too_large_gets_1153_and_harms_nobody_else() {
    let (server, _) = serve(Config { max_allowed_packet: 1 << 20, ..Config::default() });
    let mut witness = Raw::login(server.local_addr());
    let mut client = Raw::login(server.local_addr());
    client.query(&format!("length {}", "x".repeat((1 << 20) - 9)));
    assert_eq!(client.read().expect("columns").1, [1], "as much as is allowed");
    for _ in 0..4 {
        client.read().expect("the rest of the result");
    }
    client.query(&"x".repeat((1 << 20) + 100));
    let (_, code, text) = client.read_error();
    assert_eq!((code, text.as_str()), (1153, "#08S01Got a packet bigger than 'max_allowed_packet' bytes"));
    assert!(client.is_closed());
    unharmed(&mut witness);
}

#[test]
fn a_wrong_sequence_number_gets_1156() {
    let (server, _) = serve(Config::default());
    let mut witness = Raw::login(server.local_addr());
    let mut client = Raw::login(server.local_addr());
    client.write(7, &[14]);
    assert_eq!(client.read_error(), (8, 1156, "#08S01Got packets out of order".to_owned()));
    assert!(client.is_closed());
    unharmed(&mut witness);
}

#[test]
fn malformed_packets_get_an_error_and_an_end() {
    let (server, _) = serve(Config::default());
    let mut witness = Raw::login(server.local_addr());
    // An empty command; an execution, long data and a user without what belongs to them.
    for payload in [&b""[..], &[23, 1], &[24], &[17, b'a'], &[28, 1, 0, 0, 0, 1], &[4, b't'], &[27]] {
        let mut client = Raw::login(server.local_addr());
        client.write(0, payload);
        let (sequence, code, _) = client.read_error();
        assert_eq!((sequence, code), (1, 1835), "{payload:?}");
        assert!(client.is_closed(), "{payload:?}");
    }
    unharmed(&mut witness);
}

#[test]
fn nonsense_in_place_of_a_login_is_a_bad_handshake() {
    let (server, _) = serve(Config::default());
    for payload in [&[0, 2, 0, 0][..], &[0xff; 40], &[]] {
        let mut client = Raw::connect(server.local_addr());
        client.write(1, payload);
        assert_eq!(client.read_error().1, 1043, "{payload:?}");
        assert!(client.is_closed());
    }
    let mut client = Raw::connect(server.local_addr());
    client.write(1, b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(client.read_error().1, 1043 | 1251));
    // A client that has not logged in may not send much.
    let mut client = Raw::connect(server.local_addr());
    client.write(1, &vec![0; 100_000]);
    assert_eq!(client.read_error().1, 1153);
    Raw::login(server.local_addr()).ping();
}

#[test]
fn unknown_commands_and_statements_are_errors_and_nothing_more() {
    let (server, _) = serve(Config::default());
    let mut client = Raw::login(server.local_addr());
    for number in [0, 5, 200] {
        client.write(0, &[number]);
        assert_eq!(client.read_error(), (1, 1047, "#08S01Unknown command".to_owned()));
    }
    client.write(0, &[23, 9, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(client.read_error().1, 1243);
    client.write(0, &[28, 9, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(client.read_error().1, 1243);
    client.write(0, &[26, 9, 0, 0, 0]);
    assert_eq!(client.read_error().1, 1243);
    client.query("no such thing");
    assert_eq!(client.read_error().1, 1064);
    client.ping();
}

#[test]
fn wrong_passwords_and_unknown_users_get_1045() {
    let (server, _) = serve(Config::default());
    for (user, password) in [("app", "wrong"), ("ghost", "secret"), ("nobody", "x")] {
        let mut client = Raw::connect(server.local_addr());
        client.send_login(user, password);
        let text = format!("#28000Access denied for user '{user}'@'localhost' (using password: YES)");
        assert_eq!(client.read_error(), (2, 1045, text));
        assert!(client.is_closed());
    }
}

#[test]
fn salts_differ_between_connections() {
    let (server, _) = serve(Config::default());
    let (one, two) = (Raw::connect(server.local_addr()), Raw::connect(server.local_addr()));
    assert_ne!(one.salt, two.salt);
    assert_eq!(one.salt.len(), 20);
    assert!(one.greeting.starts_with(b"\x0a8.0.39\0"));
}

#[test]
fn commands_sent_ahead_are_answered_in_order() {
    let (server, _) = serve(Config::default());
    let mut client = Raw::login(server.local_addr());
    client.write(0, &[14]);
    client.query("no such thing");
    client.write(0, &[14]);
    assert_eq!(client.read().expect("the first answer").1[0], 0);
    assert_eq!(client.read_error().1, 1064);
    assert_eq!(client.read().expect("the third answer").1[0], 0);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_packet_leaves_nothing_behind() {
    let (server, backend) = serve(Config::default());
    let mut client = Raw::login(server.local_addr());
    std::io::Write::write_all(&mut client.socket, &[200, 0, 0, 0, 3, b's']).expect("taken");
    drop(client);
    backend.wait_until_closed();
}
