use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crds::node_api::Role;

use super::*;

struct Served {
    address: SocketAddr,
    status: watch::Sender<NodeStatus>,
    shutdown: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

fn instance(ready: bool, epoch: u64) -> NodeStatus {
    NodeStatus::Instance(InstanceStatus { name: "shop-0".into(), ready, epoch, ..InstanceStatus::default() })
}

fn serve(status: NodeStatus) -> Served {
    let (sender, receiver) = watch::channel(status);
    let shutdown = CancellationToken::new();
    let metrics = Arc::new(Metrics::new(receiver.clone(), Box::new(Vec::new)));
    let resign: Resign = Arc::new(|request| request.to.as_deref() == Some("shop-1"));
    let node =
        Node { status: receiver, metrics, resign: Some((resign, basic_authorization("admin", "secret"))) };
    let listener = StdListener::bind("127.0.0.1:0").expect("a port");
    let (address, thread) = start(listener, node, shutdown.clone()).expect("a server");
    Served { address, status: sender, shutdown, thread: Some(thread) }
}

fn connect(served: &Served, request: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(served.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("written");
    BufReader::new(stream)
}

fn ask(served: &Served, request: &str) -> String {
    let mut text = String::new();
    connect(served, request).read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn readyz_says_whether_the_node_serves() {
    let served = serve(instance(false, 1));
    assert!(ask(&served, "GET /livez HTTP/1.0\r\n\r\n").contains(" 200 "));
    assert!(ask(&served, "GET /readyz HTTP/1.0\r\n\r\n").contains(" 503 "));
    served.status.send_replace(instance(true, 1));
    assert!(ask(&served, "GET /readyz HTTP/1.0\r\n\r\n").contains(" 200 "));
}

#[test]
fn status_is_one_json_object() {
    let served = serve(instance(true, 7));
    let answer = ask(&served, "GET /v1/status HTTP/1.0\r\n\r\n");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    assert_eq!(serde_json::from_str::<NodeStatus>(body).expect("JSON"), instance(true, 7));
}

#[test]
fn watched_status_sends_a_line_for_each_change_but_not_for_a_lag() {
    let served = serve(instance(true, 1));
    let mut reader = connect(&served, "GET /v1/status?watch HTTP/1.0\r\n\r\n");
    let mut next = || loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("a line") > 0, "the connection stays open");
        if let Ok(status) = serde_json::from_str::<NodeStatus>(&line) {
            return status;
        }
    };
    assert_eq!(next(), instance(true, 1));
    served.status.send_modify(|status| {
        if let NodeStatus::Instance(instance) = status {
            instance.lag_ms = Some(3.0);
        }
    });
    served.status.send_modify(|status| {
        if let NodeStatus::Instance(instance) = status {
            (instance.role, instance.epoch) = (Role::Writer, 2);
        }
    });
    let NodeStatus::Instance(seen) = next() else { panic!("it is an instance") };
    assert_eq!((seen.role, seen.epoch), (Role::Writer, 2));
}

#[test]
fn resigning_needs_the_administrators_password() {
    let served = serve(instance(true, 1));
    let post = |headers: &str, body: &str| {
        let length = body.len();
        ask(&served, &format!("POST /v1/resign HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
    };
    assert!(post("", "").contains(" 401 "));
    // admin:secret
    let login = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";
    assert!(post(login, r#"{"to":"shop-1"}"#).contains(" 202 "));
    assert!(post(login, "").contains(" 409 "));
    assert!(post(login, "{").contains(" 400 "));
}

#[test]
fn metrics_are_openmetrics_text() {
    let served = serve(instance(true, 4));
    let text = ask(&served, "GET /metrics HTTP/1.0\r\n\r\n");
    assert!(text.contains("borealis_node_ready 1"), "{text}");
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
}

#[test]
fn basic_authorization_is_base64_with_padding() {
    assert_eq!(basic_authorization("a", "b"), "Basic YTpi");
    assert_eq!(basic_authorization("a", "bc"), "Basic YTpiYw==");
    assert_eq!(basic_authorization("a", "bcd"), "Basic YTpiY2Q=");
}
