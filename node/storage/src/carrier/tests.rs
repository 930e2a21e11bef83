use node_core::ids::{RunId, StorageId};
use node_core::wire::Peer;

use super::*;

fn hello(cluster: &str) -> Request {
    let peer = Peer::Storage { id: StorageId(1), run: RunId(7) };
    Request::Hello { peer, cluster: cluster.to_owned() }
}

async fn pair() -> ((Sender<Request>, Receiver<Reply>), Accepted, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address").to_string();
    let (accepted_tx, mut accepted_rx) = tokio::sync::mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, move |accepted| drop(accepted_tx.send(accepted)), stop.clone()));
    let client = connect(&address).await.expect("the server listens");
    let accepted = accepted_rx.recv().await.expect("the stream was opened");
    (client, accepted, stop)
}

#[tokio::test]
async fn messages_queued_together_arrive_together_and_in_order() {
    let ((sender, mut replies), mut server, _stop) = pair().await;
    sender.send_all([&hello("a"), &hello("b")]).expect("the connection is open");
    let got = server.receiver.recv_ready().await.expect("no error").expect("not closed");
    assert_eq!(got, vec![hello("a"), hello("b")]);
    server.sender.send(&Reply::Beat { beat: 5, lease: false }).expect("the connection is open");
    assert_eq!(replies.recv().await.expect("no error"), Some(vec![Reply::Beat { beat: 5, lease: false }]));
}

#[tokio::test]
async fn dropping_the_clients_sender_ends_both_directions() {
    let ((sender, mut replies), mut server, _stop) = pair().await;
    drop(sender);
    assert!(matches!(server.receiver.recv().await, Ok(None)));
    drop(server);
    assert!(matches!(replies.recv().await, Ok(None)));
}

#[tokio::test]
async fn dropping_the_servers_side_ends_the_clients_receiver() {
    let ((sender, mut replies), server, _stop) = pair().await;
    drop(server);
    assert!(matches!(replies.recv().await, Ok(None)));
    assert!(sender.is_closed());
    assert_eq!(sender.send(&hello("late")), Err(Closed));
}

#[tokio::test]
async fn dropping_the_clients_receiver_reaches_the_server() {
    let ((sender, replies), mut server, _stop) = pair().await;
    drop(replies);
    assert!(sender.is_closed());
    assert!(!matches!(server.receiver.recv().await, Ok(Some(_))));
}

#[tokio::test]
async fn bulk_data_waits_for_a_peer_that_does_not_read() {
    let ((_sender, mut replies), server, _stop) = pair().await;
    let bulk = Reply::Refused { reason: "x".repeat(1 << 20) };
    let mut sent = 0;
    // The windows and socket buffers take some; then `ready` must hold the rest back.
    while server.sender.queued_bytes() < BULK_BYTES_HIGH {
        server.sender.send(&bulk).expect("the connection is open");
        sent += 1;
        tokio::task::yield_now().await;
        assert!(sent < 200, "the outbox never fills");
    }
    assert!(futures::FutureExt::now_or_never(server.sender.ready()).is_none());
    let mut got = 0;
    while got < sent {
        got += replies.recv().await.expect("no error").expect("not closed").len();
    }
    server.sender.ready().await.expect("room again");
}

#[tokio::test]
async fn a_peer_that_never_reads_is_cut_off() {
    let ((_sender, _replies), server, _stop) = pair().await;
    let bulk = Reply::Refused { reason: "x".repeat(8 << 20) };
    let refused = (0..40).any(|_| server.sender.send(&bulk).is_err());
    assert!(refused && server.sender.is_closed());
}

#[tokio::test]
async fn giving_up_while_connecting_reaches_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address").to_string();
    let (accepted_tx, mut accepted_rx) = tokio::sync::mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let (begun_tx, begun_rx) = tokio::sync::oneshot::channel();
    let begun = std::sync::Mutex::new(Some(begun_tx));
    let accept = move |accepted| {
        // The client is dropped before it learns of this.
        if let Some(begun) = begun.lock().expect("nobody panics with it").take() {
            begun.send(()).expect("the test waits");
        }
        drop(accepted_tx.send(accepted));
    };
    tokio::spawn(serve(listener, accept, stop.clone()));
    tokio::select! {
        biased;
        begun = begun_rx => begun.expect("the stream was opened"),
        _ = connect(&address) => panic!("the connection was not given up in time"),
    }
    let mut server = accepted_rx.recv().await.expect("the stream was opened");
    let end = tokio::time::timeout(CONNECT_TIMEOUT, server.receiver.recv()).await;
    assert!(!matches!(end.expect("the server learns of it"), Ok(Some(_))));
}

#[tokio::test]
async fn frames_of_another_version_are_refused_with_a_sentence_on_both_sides() {
    let ((sender, mut replies), mut server, _stop) = pair().await;
    sender.set_version(WIRE_VERSION + 1);
    sender.send(&hello("a")).expect("open");
    let error = server.receiver.recv().await.expect_err("a newer frame");
    let said = error.other_version().expect("the versions differ");
    assert!(said.contains(&format!("version {}", WIRE_VERSION + 1)), "{said}");
    server.sender.set_version(WIRE_VERSION + 1);
    server.sender.send(&Reply::Refused { reason: "not you".to_owned() }).expect("open");
    let error = replies.recv().await.expect_err("a newer frame");
    assert_eq!(error.other_version().as_deref(), Some("not you"));
    assert!(matches!(error, CarrierError::Refused { .. }));
}
