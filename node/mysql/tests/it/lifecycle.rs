use std::time::{Duration, Instant};

use node_mysql::{CloseReason, Config, Server};

use crate::backend::serve;
use crate::raw::Raw;

/// Waits until the process list has a connection in this state.
fn wait_for(server: &Server, what: &str, condition: impl Fn(&Server) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition(server) {
        assert!(Instant::now() < deadline, "waited for {what}: {:?}", server.registry().processes());
        std::thread::yield_now();
    }
}

fn executing(server: &Server, sql: &str) -> Option<u32> {
    let all = server.registry().processes();
    all.iter().find(|process| process.info.as_deref() == Some(sql)).map(|process| process.id)
}

#[test]
fn kill_query_ends_the_statement_and_not_the_connection() {
    let (server, _) = serve(Config::default());
    let mut client = Raw::login(server.local_addr());
    client.query("wait");
    wait_for(&server, "the statement", |server| executing(server, "wait").is_some());
    let id = executing(&server, "wait").expect("still running");
    assert!(server.registry().kill_query(id));
    assert_eq!(client.read_error().1, 1317);
    // An idle connection is not harmed, nor is its next statement.
    assert!(server.registry().kill_query(id));
    client.ping();
    assert!(!server.registry().kill_query(id + 1000));
}

#[test]
fn kill_connection_ends_a_busy_one_and_an_idle_one() {
    let (server, backend) = serve(Config::default());
    let mut busy = Raw::login(server.local_addr());
    let mut idle = Raw::login(server.local_addr());
    busy.query("wait");
    wait_for(&server, "the statement", |server| executing(server, "wait").is_some());
    for process in server.registry().processes() {
        // By the protocol's own command, from a third connection.
        let mut killer = Raw::login(server.local_addr());
        let mut command = vec![12];
        command.extend_from_slice(&process.id.to_le_bytes());
        killer.write(0, &command);
        assert_eq!(killer.read().expect("an answer").1[0], 0);
    }
    assert_eq!(busy.read_error().1, 1317);
    assert!(busy.is_closed());
    assert!(idle.is_closed());
    backend.wait_until_closed();
}

#[test]
fn the_process_list_says_who_does_what() {
    let (server, _) = serve(Config::default());
    let mut client = Raw::login(server.local_addr());
    client.write(0, b"\x02shop");
    client.read().expect("an answer");
    wait_for(&server, "sleep", |server| server.registry().processes()[0].command == "Sleep");
    let process = server.registry().processes().remove(0);
    assert_eq!((process.user.as_str(), process.database.as_deref()), ("app", Some("shop")));
    assert!(process.host.starts_with("localhost:"));
    assert_eq!(process.info, None);
    let _stranger = Raw::connect(server.local_addr());
    wait_for(&server, "the stranger", |server| server.registry().len() == 2);
    assert_eq!(server.registry().processes()[1].user, "unauthenticated user");
}

#[test]
fn a_client_that_hangs_up_has_its_statement_interrupted() {
    let (server, backend) = serve(Config::default());
    let mut client = Raw::login(server.local_addr());
    client.query("wait");
    wait_for(&server, "the statement", |server| executing(server, "wait").is_some());
    let begin = Instant::now();
    drop(client);
    backend.wait_until_closed();
    assert!(begin.elapsed() < Duration::from_secs(10), "not by the statement's own end");
}

#[test]
fn shutdown_lets_a_statement_end_and_refuses_the_next() {
    let (server, backend) = serve(Config::default());
    let mut holder = Raw::login(server.local_addr());
    holder.query("lock");
    holder.read().expect("locked");
    let mut waiter = Raw::login(server.local_addr());
    let mut idle = Raw::login(server.local_addr());
    waiter.query("lock");
    wait_for(&server, "the statement", |server| executing(server, "lock").is_some());
    let address = server.local_addr();
    let stopping = std::thread::spawn(move || server.shutdown(Duration::from_secs(10)));
    assert_eq!(idle.read_error(), (0, 1053, "#08S01Server shutdown in progress".to_owned()));
    // The statement under way is answered once it can go on.
    *backend.held.lock().expect("no panic") = false;
    backend.released.notify_all();
    assert_eq!(waiter.read().expect("an answer").1[0], 0);
    assert!(stopping.join().expect("no panic"));
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens");
    backend.wait_until_closed();
}

#[test]
fn shutdown_interrupts_what_does_not_end() {
    let (server, backend) = serve(Config::default());
    let mut client = Raw::login(server.local_addr());
    client.query("wait");
    wait_for(&server, "the statement", |server| executing(server, "wait").is_some());
    let begin = Instant::now();
    assert!(!server.shutdown(Duration::from_millis(50)));
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(client.read_error().1, 1317);
    backend.wait_until_closed();
}

#[test]
fn close_all_closes_every_connection_and_accepts_new_ones() {
    let (server, backend) = serve(Config::default());
    let mut idle = Raw::login(server.local_addr());
    let mut busy = Raw::login(server.local_addr());
    busy.query("wait");
    wait_for(&server, "the statement", |server| executing(server, "wait").is_some());
    server.close_all(CloseReason::Demoted);
    assert_eq!(idle.read_error().1, 1053);
    assert_eq!(busy.read_error().1, 1317);
    backend.wait_until_closed();
    Raw::login(server.local_addr()).ping();
}

#[test]
fn silence_beyond_the_timeout_ends_a_connection() {
    let limit = Duration::from_millis(100);
    let config = Config { wait_timeout: limit, connect_timeout: limit, ..Config::default() };
    let (server, backend) = serve(config);
    let mut client = Raw::login(server.local_addr());
    assert_eq!(client.read_error().1, 4031);
    let mut stranger = Raw::connect(server.local_addr());
    assert!(stranger.is_closed());
    backend.wait_until_closed();
}

#[test]
fn connections_beyond_the_limit_get_1040_and_the_administrator_one_more() {
    let (server, _) = serve(Config { max_connections: 2, ..Config::default() });
    let address = server.local_addr();
    let _first = Raw::login(address);
    let second = Raw::login(address);
    let mut third = Raw::connect(address);
    third.send_login("app", "secret");
    assert_eq!(third.read_error(), (2, 1040, "#08004Too many connections".to_owned()));
    assert!(third.is_closed());
    wait_for(&server, "the third's end", |server| server.registry().len() == 2);
    let mut admin = Raw::connect(address);
    admin.send_login("admin", "secret");
    assert_eq!(admin.read().expect("an answer").1[0], 0);
    // Now even the extra one is taken: refused before anything is said.
    let refused = Raw::connect(address);
    assert_eq!(refused.greeting[..3], [0xff, 0x10, 0x04]);
    drop(second);
    drop(admin);
    wait_for(&server, "room", |server| server.registry().len() == 1);
    Raw::login(address).ping();
}
