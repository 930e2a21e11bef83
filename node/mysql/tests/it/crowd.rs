use std::time::{Duration, Instant};

use node_mysql::Config;

use crate::backend::serve;
use crate::raw::Raw;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_crowd_of_idle_connections_has_no_threads_and_does_not_hinder_others() {
    const IDLE: usize = 300;
    let (server, _) = serve(Config { max_connections: 1000, park_above: 20, ..Config::default() });
    let mut idle: Vec<Raw> = (0..IDLE).map(|_| Raw::login(server.local_addr())).collect();
    let mut busy: Vec<Raw> = (0..8).map(|_| Raw::login(server.local_addr())).collect();
    for _ in 0..200 {
        for client in &mut busy {
            client.ping();
        }
    }
    assert_eq!(server.registry().len(), IDLE + 8);
    // A thread lets go of its connection once that has been idle for a moment, and ends when it finds no other work.
    let begin = Instant::now();
    while server.threads() >= 100 {
        assert!(begin.elapsed() < PATIENCE, "{} threads for {IDLE} idle connections", server.threads());
        std::thread::yield_now();
    }
    // The idle ones still answer.
    for client in &mut idle {
        client.ping();
    }
}

#[test]
fn sessions_that_wait_for_a_lock_do_not_keep_its_holder_from_releasing_it() {
    const WAITING: usize = 60;
    let config = Config { max_connections: 200, park_above: 0, ..Config::default() };
    let (server, backend) = serve(config);
    let mut holder = Raw::login(server.local_addr());
    holder.query("lock");
    holder.read().expect("locked");
    let mut waiting: Vec<Raw> = (0..WAITING).map(|_| Raw::login(server.local_addr())).collect();
    for client in &mut waiting {
        client.query("lock");
    }
    holder.query("unlock");
    assert_eq!(holder.read().expect("an answer").1[0], 0);
    for _ in 0..WAITING {
        // Whoever has got it passes it on.
        let mut next = Raw::login(server.local_addr());
        next.query("unlock");
        next.read().expect("an answer");
    }
    for client in waiting {
        client.socket.shutdown(std::net::Shutdown::Write).expect("open");
    }
    *backend.held.lock().expect("no panic") = false;
    backend.released.notify_all();
    drop(holder);
    server.shutdown(Duration::from_secs(5));
}
